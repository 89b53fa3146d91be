"""Dose-volume histograms, exact: the doses of the structure's parts, ranked, with no bins.

Volumes are cumulative: V(D) is the volume that receives D or more. Where contours say how much of each voxel
a structure covers, voxels are split into parts of about SUB_VOXEL_MM with interpolated dose. A part belongs
to the structure if it is among the innermost ones, as many as the covered volume. A mask without contours
says only which voxel centres are inside, so its histogram is that of the centres: a surface made up between
them would lower D99 by what nobody measured (0.6 % for a sphere of 30 mm on 4 mm voxels; 0.3 % by centres).
Doses outside the dose grid are unknown (not a number), never 0 Gy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.case import Case, Edge
from anydose.case.grid import Grid
from anydose.case.volume import Volume, block, bounding_box

Floats = NDArray[Any]
Mask = NDArray[np.bool_]
SUB_VOXEL_MM = 1.5  # parts are at most so long ...
SMOOTHED_VOXELS = 0.6  # standard deviation that turns the stairs of a mask into a surface
RIM = 3  # voxels about a structure, so that smoothing loses nothing of it
MOST_PARTS = 4_000_000  # ... in structures of at most so many parts
ROUNDING = 1e-9  # of a voxel: 0.3 cc of 0.1 cc voxels is three voxels, not 2.9999


@dataclass(frozen=True, eq=False)
class DVH:
    """dose_gy (n,): the dose of every part of the structure, in any order; weight_cc: the volume of each
    part, one number if all are equal or (n,). ValueError if there is no part or a dose is no number."""

    dose_gy: Floats
    weight_cc: float | Floats

    def __post_init__(self) -> None:
        if not self.dose_gy.size:
            raise ValueError("the structure has no voxel")
        if not np.isfinite(self.dose_gy).all():
            raise ValueError(unknown(known_percent(self.dose_gy, self.weight_cc)))

    @cached_property
    def _ranked(self) -> tuple[Floats, Floats | None]:
        """Doses ascending, and for unequal weights the volume at or above each rank."""
        if np.ndim(self.weight_cc) == 0:
            return np.sort(self.dose_gy), None
        order = np.argsort(self.dose_gy, kind="stable")
        weights = np.asarray(self.weight_cc)[order]
        return self.dose_gy[order], np.cumsum(weights[::-1], dtype=np.float64)[::-1]

    @cached_property
    def volume_cc(self) -> float:
        """The structure's volume."""
        return float(np.sum(np.broadcast_to(self.weight_cc, self.dose_gy.shape), dtype=np.float64))

    @cached_property
    def mean_gy(self) -> float:
        """Mean dose."""
        if np.ndim(self.weight_cc) == 0:
            return float(self.dose_gy.mean(dtype=np.float64))
        return float(np.average(self.dose_gy.astype(np.float64), weights=self.weight_cc))

    @cached_property
    def min_gy(self) -> float:
        """Lowest dose."""
        return float(self.dose_gy.min())

    @cached_property
    def max_gy(self) -> float:
        """Highest dose."""
        return float(self.dose_gy.max())

    def volume_at_gy(self, dose_gy: float) -> float:
        """V(D): the volume in cc that receives `dose_gy` or more."""
        if np.ndim(self.weight_cc) == 0 and "_ranked" not in self.__dict__:  # a count is cheaper than a sort
            return float(np.count_nonzero(self.dose_gy >= dose_gy) * self.weight_cc)
        doses, above = self._ranked
        first = int(np.searchsorted(doses, dose_gy, side="left"))
        if above is None:
            return float((len(doses) - first) * self.weight_cc)
        return float(above[first]) if first < len(doses) else 0.0

    def dose_at_cc(self, volume_cc: float) -> float:
        """The lowest dose D with V(more than D) <= `volume_cc`: the dose that its hottest `volume_cc`
        receives or exceeds, in whole voxels. 0 cc and less give the maximum, the whole volume and more the
        minimum."""
        doses, above = self._ranked
        if above is None:
            hotter = int(min(np.floor(volume_cc / float(self.weight_cc) + ROUNDING), len(doses)))
        else:
            hotter = len(doses) - int(np.searchsorted(-above, -volume_cc * (1 + ROUNDING), side="left"))
        return float(doses[np.clip(len(doses) - 1 - hotter, 0, len(doses) - 1)])

    def power_mean_gy(self, power: float) -> float:
        """(mean of D^power)^(1/power): the generalised equivalent uniform dose."""
        highest = self.max_gy or 1.0  # scaled, so that large powers do not overflow
        weights = np.broadcast_to(self.weight_cc, self.dose_gy.shape)
        scaled = np.average((self.dose_gy.astype(np.float64) / highest) ** power, weights=weights)
        return float(highest * scaled ** (1 / power))

    def curve(self, dose_gy: Floats) -> Floats:
        """V(D) in percent of the structure at every dose of `dose_gy` (m,)."""
        doses, above = self._ranked
        first = np.searchsorted(doses, dose_gy, side="left")
        if above is None:
            return np.asarray(100.0 * (len(doses) - first) / len(doses))
        return np.asarray(100.0 * np.append(above, 0.0)[first] / self.volume_cc)

    def scaled(self, factor: float) -> DVH:
        """The histogram of the same plan with every dose multiplied by `factor`."""
        return replace(self, dose_gy=self.dose_gy * factor)


def known_percent(dose_gy: Floats, weight_cc: float | Floats = 1.0) -> float:
    """How much of a structure has a known dose, in percent of its volume. dose_gy (n,): not a number where
    it is unknown; weight_cc: the volume of each part, one number if all are equal or (n,)."""
    weights = np.broadcast_to(weight_cc, dose_gy.shape)
    return float(100.0 * weights[np.isfinite(dose_gy)].sum(dtype=np.float64) / weights.sum(dtype=np.float64))


def unknown(percent: float) -> str:
    """The sentence on a structure of which only `percent` < 100 has a known dose."""
    if percent == 0:
        return "outside the dose grid: its dose is unknown"
    return f"covered in part by the dose grid ({min(max(percent, 0.1), 99.9):.1f} %): its dose is unknown"


def dvh(dose: Volume, mask: Mask | Floats, grid: Grid, refine: int | None = None) -> DVH:
    """The DVH of a structure on `grid` in a dose on the same or any other grid.

    Args:
        dose: in Gy; not a number where it is unknown.
        mask: (d, h, w), boolean, or the covered part of every voxel in [0, 1], as contours give it.
        grid: where the mask lies.
        refine: parts per voxel edge, 1 for voxel centres. By default a boolean mask is taken at its voxel
            centres, and coverage in parts of SUB_VOXEL_MM (fewer for more than MOST_PARTS parts).

    Raises:
        ValueError: a dose not in Gy, an empty mask, a structure that reaches outside the dose grid.
    """
    dose.in_unit("Gy")
    if mask.shape != grid.shape:
        raise ValueError(f"mask of shape {mask.shape} on a grid of shape {grid.shape}")
    inside = np.asarray(mask > 0)
    if not inside.any():
        raise ValueError("the structure has no voxel")
    if refine is None and mask.dtype == np.bool_:
        refine = 1
    parts = (refine,) * 3 if refine else _parts(int(np.count_nonzero(inside)), grid)
    if parts == (1, 1, 1) and dose.grid.matches(grid):
        return DVH(dose.array[inside], _weights(mask, inside, grid.voxel_cc))
    start, shape = bounding_box(inside)
    start = (start[0] - RIM, start[1] - RIM, start[2] - RIM)
    shape = (shape[0] + 2 * RIM, shape[1] + 2 * RIM, shape[2] + 2 * RIM)
    covered = block(mask, start, shape, 0).astype(np.float32)
    if mask.dtype == np.bool_ and parts != (1, 1, 1):
        covered = ndimage.gaussian_filter(covered, SMOOTHED_VOXELS)
    fine, part = _split(grid.crop(start, shape), covered, parts)
    sampled = _sampled(dose, fine)
    chosen = part > 0
    if not np.isfinite(sampled[chosen]).all():
        centres = _sampled(dose, grid.crop(start, shape))[block(inside, start, shape, False)]
        if not np.isfinite(centres).all():
            raise ValueError(unknown(known_percent(centres)))
        chosen &= np.isfinite(sampled)  # parts beyond the last voxel centre, at the rim of the dose grid
    weights = fine.voxel_cc if (part[chosen] == 1).all() else part[chosen] * fine.voxel_cc
    return DVH(sampled[chosen], weights)


def structure_dvh(case: Case, dose: Volume, name: str) -> DVH:
    """The DVH of one structure of a case, from its contours where the case keeps them. ValueError as
    `dvh`."""
    edge = case.edge(name)
    if edge is None:
        return dvh(dose, case.structures[name], case.grid)
    _, rows, columns = edge.part.shape
    slices = 2 * int(np.ceil((case.grid.spacing_mm[2] / SUB_VOXEL_MM - 1) / 2)) + 1
    if np.count_nonzero(edge.mask) * slices * rows * columns > MOST_PARTS:
        return dvh(dose, case.covered(name), case.grid)
    return _edged_dvh(dose, edge, case.grid, slices)


def _edged_dvh(dose: Volume, edge: Edge, grid: Grid, slices: int) -> DVH:
    """The DVH of a structure from the parts of its voxels that its contours cover. slices: parts along z."""
    touched = _touched(edge)
    start, shape = bounding_box(touched)
    near = block(edge.mask, start, shape, False)
    _, rows, columns = edge.part.shape
    weights = near.astype(np.float32).repeat(slices, 0).repeat(rows, 1).repeat(columns, 2)
    d, h, w = shape
    at = np.array(np.unravel_index(edge.index, edge.mask.shape)) - np.array(start)[:, None]
    split = weights.reshape(d, slices, h, rows, w, columns)
    split[at[0], :, at[1], :, at[2], :] = edge.part[:, None]
    x, y, z = grid.spacing_mm
    fine = grid.crop(start, shape).with_spacing((x / columns, y / rows, z / slices))
    chosen, sampled = weights > 0, _sampled(dose, fine)
    known = np.isfinite(sampled)
    if not known[chosen].all():
        centres = _sampled(dose, grid.crop(start, shape))[block(touched, start, shape, False)]
        if not np.isfinite(centres).all():
            raise ValueError(unknown(known_percent(centres)))
    chosen &= known  # parts beyond the last voxel centre, at the rim of the dose grid, are left out
    return DVH(sampled[chosen], weights[chosen] * fine.voxel_cc)


def _touched(edge: Edge) -> Mask:
    """Every voxel (d, h, w) that the structure covers at all."""
    touched = np.array(edge.mask, order="C")
    touched.reshape(-1)[edge.index] = True
    return touched


def _weights(mask: Mask | Floats, inside: Mask, voxel_cc: float) -> float | Floats:
    return voxel_cc if mask.dtype == np.bool_ else mask[inside] * voxel_cc


def _parts(voxels: int, grid: Grid) -> tuple[int, int, int]:
    """Parts per voxel along (z, y, x): odd numbers, so that the voxel centres are among them."""
    wanted = [2 * int(np.ceil((spacing / SUB_VOXEL_MM - 1) / 2)) + 1 for spacing in grid.spacing_zyx_mm]
    parts = [max(1, count) for count in wanted]
    while voxels * np.prod(parts) > MOST_PARTS and max(parts) > 1:
        parts[int(np.argmax(parts))] -= 2
    return parts[0], parts[1], parts[2]


def _split(grid: Grid, covered: Floats, parts: tuple[int, int, int]) -> tuple[Grid, Floats]:
    """`grid` with its voxels split into `parts` (z, y, x), and which of them lie in the structure (1, or a
    share of 1 for ties): those with the highest interpolated coverage, as many as its volume."""
    if parts == (1, 1, 1):
        return grid, covered
    x, y, z = (s / n for s, n in zip(grid.spacing_mm, parts[::-1], strict=True))
    smooth = ndimage.zoom(covered, parts, order=1, mode="nearest", grid_mode=True)
    wanted = float(covered.sum(dtype=np.float64)) * float(np.prod(parts))
    rank = min(int(wanted), smooth.size - 1)
    level = -np.partition(-smooth, rank, axis=None)[rank]
    within, ties = smooth > level, smooth == level
    inside = within.astype(np.float32)
    inside[ties] = (wanted - np.count_nonzero(within)) / np.count_nonzero(ties)
    return grid.with_spacing((x, y, z)), inside


def _sampled(dose: Volume, grid: Grid) -> Floats:
    """The dose (d, h, w) at the centres of `grid`, linearly interpolated; unknown where it lies nearest to
    an unknown voxel or outside the dose grid."""
    dose = _near(dose, grid)
    if np.isfinite(dose.array).all():
        return dose.resample(grid, order=1, outside=float("nan")).array
    known = np.isfinite(dose.array)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = replace(dose, array=dose.array[tuple(nearest)]) if known.any() else dose
    sampled = filled.resample(grid, order=1, outside=float("nan")).array
    is_known = Volume(known.astype(np.uint8), dose.grid, "1").resample(grid, order=0).array
    return np.where(is_known == 1, sampled, np.nan)


def _near(dose: Volume, grid: Grid) -> Volume:
    """The part of a dose that the points of `grid` lie in, with RIM voxels more; all of it if they lie
    beside it."""
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    index = dose.grid.to_index(grid.to_mm(ends))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - RIM, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + RIM + 1, dose.grid.shape)
    if (high <= low).any():
        return dose
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return Volume(dose.array[box], dose.grid.crop(low, high - low), dose.unit)
