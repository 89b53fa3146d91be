"""An array that knows its grid and its unit, and how to be moved to another grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.grid import Grid

UNKNOWN_WEIGHT = 1e-4  # an interpolated voxel is unknown from this weight of unknown ones on
ON_A_VOXEL = 1e-6  # a point nearer than this to a voxel's centre lies on it
CROSSED_VOXELS = 1e-6  # grids whose axes lead each other astray by less than this are parallel


@dataclass(frozen=True)
class Volume:
    """Numbers on a grid. Raises ValueError where the shapes differ."""

    array: NDArray[Any]
    """(d, h, w) over `grid`."""
    grid: Grid
    """Where they lie."""
    unit: str
    """'Gy', 'HU' or '1'."""

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise ValueError(f"array of shape {tuple(self.array.shape)} on a grid of shape {self.grid.shape}")

    def in_unit(self, unit: str) -> NDArray[Any]:
        """The array, if it is in `unit`; ValueError otherwise: units are never converted by guess."""
        if self.unit != unit:
            raise ValueError(f"a volume in {unit} is needed, this one is in {self.unit}")
        return self.array

    def resample(self, grid: Grid, order: int = 1, outside: float = 0.0) -> Volume:
        """This volume on another grid: interpolation of spline `order` at the physical voxel centres, and
        `outside` beyond the half-voxel rim. What is not a number stays so: a voxel that an unknown one weighs
        in is unknown."""
        if self.grid.matches(grid):
            return self
        unknown = np.isnan(self.array) if self.array.dtype.kind == "f" else None
        if unknown is not None and unknown.any():
            filled = Volume(np.where(unknown, self.array.dtype.type(0), self.array), self.grid, self.unit)
            weight = Volume(unknown.astype(np.float32), self.grid, "1").resample(grid, order=order)
            moved = filled.resample(grid, order, outside)
            moved.array[weight.array > UNKNOWN_WEIGHT] = np.nan
            return moved
        flip = np.eye(4)[[2, 1, 0, 3]]
        index_from_index = flip @ np.linalg.inv(self.grid.affine) @ grid.affine @ flip
        source = self.array.astype(np.float32 if order else self.array.dtype, copy=False)
        if order <= 1 and _is_aligned(index_from_index, grid.shape):
            array = _along_axes(source, index_from_index, grid.shape, order, outside)
        else:
            array = _across(source, index_from_index, grid.shape, order, outside)
        return Volume(array, grid, self.unit)


def _is_aligned(index_from_index: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether each index of the one grid depends on the same index of the other alone."""
    crossed = index_from_index[:3, :3] * (1 - np.eye(3))
    return bool(np.all(np.abs(crossed) @ np.asarray(shape) < CROSSED_VOXELS))


def _along_axes(
    source: NDArray[Any],
    index_from_index: NDArray[np.float64],
    shape: tuple[int, ...],
    order: int,
    outside: float,
) -> NDArray[Any]:
    """Nearest (order 0) or linear interpolation, an axis at a time: first those that become shorter."""
    places = [
        index_from_index[axis, 3] + index_from_index[axis, axis] * np.arange(count)
        for axis, count in enumerate(shape)
    ]
    moved = source
    for axis in sorted(range(3), key=lambda axis: shape[axis] / source.shape[axis]):
        at = np.clip(places[axis], 0, source.shape[axis] - 1)
        nearest = np.floor(at + 0.5).astype(int)
        if order == 0 or np.abs(at - nearest).max() < ON_A_VOXEL:
            moved = np.take(moved, nearest, axis=axis)
            continue
        low = np.floor(at).astype(int)
        part = np.expand_dims((at - low).astype(np.float32), [other for other in range(3) if other != axis])
        step = np.take(moved, np.minimum(low + 1, source.shape[axis] - 1), axis=axis)
        moved = np.take(moved, low, axis=axis)
        step -= moved
        step *= part
        moved += step
    for axis, (place, count) in enumerate(zip(places, source.shape, strict=True)):
        np.moveaxis(moved, axis, 0)[~_within(place, count)] = outside
    return moved


def _across(
    source: NDArray[Any],
    index_from_index: NDArray[np.float64],
    shape: tuple[int, ...],
    order: int,
    outside: float,
) -> NDArray[Any]:
    """The same between grids that lie at an angle, and by splines of a higher order."""
    # a constant mode fades the outermost half voxel towards `outside`: hold the edge, then cut at the rim
    moved: NDArray[Any] = ndimage.affine_transform(
        source, index_from_index[:3, :3], index_from_index[:3, 3], shape, order=order, mode="nearest"
    )
    rows, columns = np.arange(shape[1])[:, None], np.arange(shape[2])[None, :]
    for number, plane in enumerate(moved):
        for row, count in zip(index_from_index[:3], source.shape, strict=True):
            place = row[3] + row[0] * number + row[1] * rows + row[2] * columns
            plane[~_within(place, count)] = outside
    return moved


def _within(place: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Which indices lie in `count` voxels, the half voxel of the rim among them."""
    return (place >= -0.5 - 1e-6) & (place <= count - 0.5 + 1e-6)


def averaged(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """The volume smoothed towards voxels of `spacing_mm` (x, y, z, LPS) where those are coarser than its own,
    so that sampling it on such a grid loses no thin structure: a Gaussian with the variance that a coarse box
    has beyond a fine one (a box of an even number of voxels would shift the patient by half of one). Voxels
    that are not a number stay so and weigh nothing."""
    along_own = np.abs(np.asarray(volume.grid.direction)).T @ np.asarray(spacing_mm)
    ratio = np.maximum(along_own / np.asarray(volume.grid.spacing_mm), 1.0)[::-1]
    sigma = np.sqrt((ratio**2 - 1) / 12)
    values = volume.array.astype(np.float32)
    unknown = np.isnan(values)
    if not unknown.any():
        smooth = ndimage.gaussian_filter(values, tuple(sigma), mode="nearest")
        return Volume(smooth, volume.grid, volume.unit)
    total = ndimage.gaussian_filter(np.where(unknown, np.float32(0), values), tuple(sigma), mode="nearest")
    weight = ndimage.gaussian_filter((~unknown).astype(np.float32), tuple(sigma), mode="nearest")
    mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=~unknown)
    return Volume(mean, volume.grid, volume.unit)


def block(
    array: NDArray[Any], start: tuple[int, ...], shape: tuple[int, ...], outside: float
) -> NDArray[Any]:
    """The block of `shape` from index `start` of the last three axes; `outside` where it leaves the array."""
    out = np.full((*array.shape[:-3], *shape), outside, dtype=array.dtype)
    source: list[Any] = [...]
    target: list[Any] = [...]
    for s, n, have in zip(start, shape, array.shape[-3:], strict=True):
        low, high = max(s, 0), min(s + n, have)
        if high <= low:
            return out
        source.append(slice(low, high))
        target.append(slice(low - s, high - s))
    out[tuple(target)] = array[tuple(source)]
    return out


def layers_at(array: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """The layers of an array (d, h, w) at fractional places (n,) along its first axis, by linear
    interpolation: (n, h, w)."""
    low = np.minimum(places.astype(int), len(array) - 2)
    part = (places - low).astype(np.float32)[:, None, None]
    return np.asarray(array[low] * (1 - part) + array[low + 1] * part)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(start, shape) of the smallest block (z, y, x) that holds every true voxel; ValueError if there is
    none."""
    start, shape = [], []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(hit):
            raise ValueError("the mask has no voxel")
        start.append(int(hit[0]))
        shape.append(int(hit[-1] - hit[0] + 1))
    return (start[0], start[1], start[2]), (shape[0], shape[1], shape[2])
