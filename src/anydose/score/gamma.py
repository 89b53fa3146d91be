"""The gamma index in three dimensions: how far, in dose and distance, the nearest agreeing point lies.

Low et al., Med Phys 25, 1998: gamma(r) = min over r' of sqrt(|r' - r|^2 / mm^2 + (D_eval(r') - D_ref(r))^2
/ dD^2), dD a part of the global normalisation dose. r' runs over a lattice of a tenth of the distance
criterion, with trilinear interpolation. All offsets that fall into the same voxel cell share their eight
corner doses, so that a cell is one small matrix product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from anydose.case.volume import Volume

Floats = NDArray[np.float32]
PARTS = 20  # lattice points per distance criterion; at 10 the pass rate is 0.2 % below its limit
SHELLS = (
    0.0,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
)  # parts of the search radius; a point is done once gamma is inside a shell
NO_DOSE_GY = 1e4  # beyond the evaluated grid nothing agrees
ROWS = 1 << 14  # points in one matrix product, so that it stays in the cache


@dataclass(frozen=True, eq=False)
class Gamma:
    """values: gamma of every counted point (n,), exact up to `limit`; mask: the points (d, h, w)."""

    values: Floats
    mask: NDArray[np.bool_]
    limit: float

    @property
    def pass_percent(self) -> float:
        """Percent of the counted points with gamma <= 1."""
        return float(100.0 * np.mean(self.values <= 1.0))


def gamma(
    reference: Volume,
    evaluated: Volume,
    percent: float,
    mm: float,
    threshold_percent: float = 10.0,
    normalisation_gy: float | None = None,
    limit: float = 1.0,
) -> Gamma:
    """Gamma of `evaluated` against `reference`, both in Gy on one grid, at every point where both are known
    and the reference exceeds `threshold_percent` of the normalisation dose (default: the reference's
    maximum). limit: the largest gamma that is searched for. ValueError for other units or grids, or no point
    above the threshold."""
    truth, guess = reference.in_unit("Gy"), evaluated.in_unit("Gy")
    if not reference.grid.matches(evaluated.grid):
        raise ValueError("gamma compares two doses on one grid: resample one of them first")
    known = np.isfinite(truth) & np.isfinite(guess)
    top = float(truth[known].max(initial=0.0)) if normalisation_gy is None else normalisation_gy
    mask = known & (truth >= threshold_percent / 100.0 * top)
    if top <= 0 or not mask.any():
        raise ValueError(f"no point of the reference exceeds {threshold_percent:g} % of {top:g} Gy: no gamma")
    scale = np.float32(100.0 / (percent * top))  # doses in units of the dose criterion
    reach = [int(np.ceil(limit * mm / s)) + 1 for s in reference.grid.spacing_zyx_mm]
    criteria = np.where(known, guess, NO_DOSE_GY).astype(np.float32) * scale
    padded = np.pad(criteria, [(r, r) for r in reach], constant_values=NO_DOSE_GY)
    rows = np.ravel_multi_index(tuple(np.argwhere(mask).T + np.array(reach)[:, None]), padded.shape)
    wanted = truth[mask].astype(np.float32) * scale
    squared = (padded.ravel()[rows] - wanted) ** 2
    for corners, weights, distance in _cells(reference.grid.spacing_zyx_mm, mm, limit, padded.shape):
        left = np.flatnonzero(squared > distance.min())
        for part in np.split(left, range(ROWS, len(left), ROWS)):
            near = padded.ravel()[rows[part][:, None] + corners] - wanted[part][:, None]
            # an interpolated difference lies between the corners': where the nearest cannot help, none can
            gap = np.maximum(np.maximum(near.min(axis=1), -near.max(axis=1)), 0)
            helps = gap**2 + distance.min() < np.minimum(squared[part], limit**2 * (1 + 1e-6))
            difference = near[helps] @ weights
            np.square(difference, out=difference)
            difference += distance
            better = part[helps]
            squared[better] = np.minimum(squared[better], difference.min(axis=1))
    return Gamma(np.sqrt(squared), mask, limit)


def _cells(
    spacing_zyx_mm: tuple[float, float, float], mm: float, limit: float, shape: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.int64], Floats, Floats]]:
    """Offsets within the search radius, nearest shell first, by voxel cell: flat offsets of the cell's
    eight corners (8,), trilinear weights (8, m), squared distances in units of the criterion (m,)."""
    steps = np.arange(-round(PARTS * limit), round(PARTS * limit) + 1) / PARTS
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.linalg.norm(offsets, axis=1)
    index = offsets * mm / np.asarray(spacing_zyx_mm)
    cell = np.floor(index + 1e-9).astype(int)
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    for inner, outer in zip(SHELLS[:-1], SHELLS[1:], strict=True):
        inside = np.flatnonzero((distance > inner * limit) & (distance <= outer * limit + 1e-9))
        cells, which = np.unique(cell[inside], axis=0, return_inverse=True)
        for number, corner in enumerate(cells):
            members = inside[which.ravel() == number]
            part = (index[members] - corner).T
            weights = [
                np.prod([p if up else 1 - p for p, up in zip(part, ups, strict=True)], axis=0) for ups in UPS
            ]
            corners = [int((corner + np.array(ups)) @ strides) for ups in UPS]
            squares = (distance[members] ** 2).astype(np.float32)
            yield np.array(corners), np.array(weights, dtype=np.float32), squares


UPS = tuple(product((0, 1), repeat=3))
