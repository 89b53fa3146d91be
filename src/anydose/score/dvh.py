"""Dose-volume histograms, exact: the voxels' own doses, ranked, with no bins.

Volumes are cumulative: V(D) is the volume that receives D or more. An option (`refine`) splits every voxel
into k^3 parts with interpolated dose and surface, which gives voxels on a structure's surface their partial
volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.grid import Grid
from anydose.case.volume import Volume, block, bounding_box

Floats = NDArray[Any]
Mask = NDArray[np.bool_]
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
            raise ValueError("the dose is not known everywhere in the structure (outside the dose grid?)")

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
            hotter = int(np.floor(volume_cc / float(self.weight_cc) + ROUNDING))
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


def dvh(dose: Volume, mask: Mask | Floats, grid: Grid, refine: int = 1) -> DVH:
    """The DVH of a structure on `grid` in a dose in Gy on the same or any other grid (linear interpolation
    at the voxel centres). mask (d, h, w): boolean, or the covered part of every voxel in [0, 1], as contours
    give it. refine: parts per voxel edge, for a boolean mask. Raises ValueError for a dose not in Gy, an
    empty mask and a structure that reaches outside the dose grid."""
    dose.in_unit("Gy")
    if mask.shape != grid.shape:
        raise ValueError(f"mask of shape {mask.shape} on a grid of shape {grid.shape}")
    if not mask.any():
        raise ValueError("the structure has no voxel")
    if mask.dtype != np.bool_:
        inside = mask > 0
        return DVH(dvh(dose, inside, grid).dose_gy, mask[inside] * grid.voxel_cc)
    if refine == 1 and dose.grid.matches(grid):
        return DVH(dose.array[mask], grid.voxel_cc)
    start, shape = bounding_box(mask)
    start = (start[0] - 1, start[1] - 1, start[2] - 1)
    shape = (shape[0] + 2, shape[1] + 2, shape[2] + 2)
    near = block(mask, start, shape, False)
    fine, inside = _split(grid.crop(start, shape), near, refine)
    moved = dose.resample(fine, order=1, outside=float("nan"))
    return DVH(moved.array[inside], fine.voxel_cc)


def _split(grid: Grid, mask: Mask, parts: int) -> tuple[Grid, Mask]:
    """`grid` with `parts`^3 voxels for each, and the mask there: inside where the interpolated mask exceeds
    1/2."""
    if parts == 1:
        return grid, mask
    x, y, z = grid.spacing_mm
    fine = grid.with_spacing((x / parts, y / parts, z / parts))
    smooth = ndimage.zoom(mask.astype(np.float32), parts, order=1, mode="nearest", grid_mode=True)
    return fine, smooth > 0.5
