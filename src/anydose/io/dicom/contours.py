"""Planar contours to masks and back.

Rule: a voxel belongs to a structure if its centre lies inside an odd number of the contours of its slice
(even-odd, which is XOR: nested holes and keyholes come out right; contours that overlap in part, which XOR
would hollow out, are joined first, overlap.py). Every polygon edge is cut with the voxel
rows at once, each cut toggles one voxel, a running sum along the row does the rest; an edge walked twice in
opposite directions (the bridge of a keyhole) cancels exactly, because its ends are ordered before it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.grid import Floats, Grid
from anydose.io.dicom.overlap import find_overlaps

Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]

SAME_PLANE_MM = 0.05
TILT_SLICES = 0.25  # a contour that climbs more than a quarter of a slice is not parallel to the slices
BRIDGED_SLICES = 2  # so many slices without a contour are interpolated ...
BRIDGED_STEPS = 1.5  # ... or, where contours lie further apart than slices, gaps up to so many contour steps
LIMIT_MM = 1e4  # no patient reaches ten metres
HALF_WAY_SLICES = 0.02  # contours this near the middle between two slices belong to neither
SUBROWS = 8
EMPTY = "no voxel"  # the last sentence on a mask without one: untouched pages are dear to look through


@dataclass(frozen=True)
class _Loops:
    """Closed polygons one after the other: index (points, 3) as (z, y, x), size (loops,) points of each."""

    index: Floats
    size: Ints

    @property
    def first(self) -> Ints:
        """The first point of each loop."""
        return np.cumsum(self.size) - self.size

    @property
    def middle(self) -> Floats:
        """Mean (loops, 3) of each loop's points."""
        return np.add.reduceat(self.index, self.first, axis=0) / self.size[:, None]

    def take(self, which: Ints) -> _Loops:
        """The loops of these numbers, in this order."""
        size = self.size[which]
        point = np.repeat(self.first[which] - (np.cumsum(size) - size), size) + np.arange(size.sum())
        return _Loops(self.index[point], size)


def rasterise(contours: Sequence[Floats], grid: Grid, xor: bool = False) -> tuple[Mask, list[str]]:
    """The mask (d, h, w) of one structure from its closed contours, each (n, 3) LPS mm in any order, and
    sentences on what was left out or filled in. A slice takes the contours of the nearest plane within half a
    slice (half a contour step, where contours lie further apart than slices); small gaps are interpolated by
    signed distance. Contours that overlap in part are taken together, unless `xor` (CLOSEDPLANAR_XOR) says
    that what both enclose is left out. ValueError for a coordinate that is not finite or beyond 10 m."""
    loops, found = _loops(contours, grid)
    if not len(loops.size):
        return np.zeros(grid.shape, dtype=bool), [*found, EMPTY]
    low, high = loops.index[:, 1:].min(axis=0), loops.index[:, 1:].max(axis=0)
    if (low < -0.5).any() or (high > np.array(grid.shape[1:]) - 0.5).any():
        found.append("reaches outside the image and is cut there")
    position = loops.middle[:, 0]
    off = position - np.floor(position)
    if (np.abs(off - 0.5) > HALF_WAY_SLICES).any():
        out, said = _in_slices(loops, grid, grid.shape, xor)
        return out, found + said
    found.append("contours half-way between slices: the slices are interpolated between them")
    raised = _Loops(loops.index + [0.5, 0.0, 0.0], loops.size)
    between, said = _in_slices(raised, grid, (grid.shape[0] + 1, *grid.shape[1:]), xor)
    out = np.stack([_middle(between[k], between[k + 1]) for k in range(grid.shape[0])])
    if not out.any() and EMPTY not in said:
        said.append(EMPTY)
    return out, found + said


def _in_slices(loops: _Loops, grid: Grid, shape: tuple[int, int, int], xor: bool) -> tuple[Mask, list[str]]:
    """The mask of `shape` (d, h, w) of loops whose slices are counted by their index z, and sentences."""
    out = np.zeros(shape, dtype=bool)
    planes, plane_of = _planes(loops, grid)
    taken, gaps, said = _slices(planes, len(out))
    low, high = loops.index[:, 1:].min(axis=0), loops.index[:, 1:].max(axis=0)
    limit = np.array(shape[1:])
    start = np.clip(np.floor(low).astype(int), 0, limit - 1)
    stop = np.clip(np.ceil(high).astype(int) + 1, start + 1, limit)
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]))
    together, repeated, found = ({}, set(), []) if xor else _overlapping(loops, plane_of, grid)
    apart = repeated.union(*(group for groups in together.values() for group in groups))
    pairs = [(loop, k) for k, plane in taken.items() for loop in np.flatnonzero(plane_of == plane)]
    pairs = [pair for pair in pairs if pair[0] not in apart] if apart else pairs
    if pairs:
        which, slices = np.array(pairs).T
        _even_odd(out, loops.take(which), slices, box)
    for k, plane in taken.items():
        for group in together.get(plane, ()):
            out[k] ^= _union(loops, group, shape[1:], box)
    for k, (lower, upper, part) in gaps.items():
        out[k][box] = _between(out[lower][box], out[upper][box], part)
    said = found + said
    if not out[:, *box].any() and not _keep_small(out, loops, planes[plane_of], said):
        said.append(EMPTY)
    return out, said


def _overlapping(
    loops: _Loops, plane_of: Ints, grid: Grid
) -> tuple[dict[int, list[frozenset[int]]], set[int], list[str]]:
    """Plane -> groups of loops of which the union is meant, loops that repeat another one, and sentences."""
    together: dict[int, list[frozenset[int]]] = {}
    repeated: set[int] = set()
    unclear = joined = 0
    pixel = np.array([grid.spacing_mm[1], grid.spacing_mm[0]])
    first = loops.first
    for plane in np.flatnonzero(np.bincount(plane_of) > 1):
        members = np.flatnonzero(plane_of == plane)
        polygons = [loops.index[first[m] : first[m] + loops.size[m], 1:] * pixel for m in members]
        found = find_overlaps(polygons, float(pixel.min()))
        unclear += found.unclear
        repeated |= {int(members[m]) for m in found.repeated}
        groups = [frozenset(int(members[m]) for m in group) for group in found.together]
        joined += sum(len(group) for group in groups)
        if groups:
            together[int(plane)] = groups
    said = _counted(
        (joined, "that overlap in part taken together"),
        (len(repeated), "drawn again within less than a pixel ignored"),
        (unclear, "almost inside another taken as a hole"),
    )
    return together, repeated, said


def _union(loops: _Loops, group: frozenset[int], shape: tuple[int, ...], box: tuple[slice, slice]) -> Mask:
    """The voxels (h, w) inside any loop of the group."""
    each = np.zeros((len(group), *shape), dtype=bool)
    _even_odd(each, loops.take(np.array(sorted(group))), np.arange(len(group)), box)
    return np.asarray(each.any(axis=0))


def _middle(lower: Mask, upper: Mask) -> Mask:
    """The shape half-way between two; at a structure's end, where one is empty, the inner half of the other's
    area, so that volume and centroid are kept."""
    if lower.any() and upper.any():
        return _between(lower, upper, 0.5)
    end = lower | upper
    half = np.zeros_like(end)
    if (count := int(end.sum()) // 2) > 0:
        inner = np.argsort(-_signed_distance(end), axis=None, kind="stable")[:count]
        half.reshape(-1)[inner] = True
    return half


def coverage(contours: Sequence[Floats], grid: Grid) -> NDArray[np.float32]:
    """The part (d, h, w) in [0, 1] of each voxel of a slice that its contours cover, for contours in the
    slices' planes: exact along x, `SUBROWS` lines a voxel along y. ValueError as `rasterise`."""
    loops, _ = _loops(contours, grid)
    return _covered(loops, np.rint(loops.middle[:, 0]).astype(np.intp), grid.shape)


def outlines(mask: Mask, grid: Grid) -> list[Floats]:
    """Closed contours (n, 3) in LPS mm of every slice of `mask` (d, h, w), holes as contours of their own;
    they run half-way between inner and outer voxel centres, so `rasterise` gives the same mask back. Source:
    contourpy (marching squares at 0.5)."""
    out = []
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        hit = np.argwhere(mask[z])
        low, high = hit.min(axis=0), hit.max(axis=0) + 1
        padded = np.pad(mask[z, low[0] : high[0], low[1] : high[1]], 1).astype(np.float32)
        lines: Any = contourpy.contour_generator(z=padded).lines(0.5)
        for line in lines:
            points = line[:-1] if (line[0] == line[-1]).all() else line
            index = np.column_stack([np.full(len(points), float(z)), points[:, ::-1] + low - 1])
            out.append(grid.to_mm(index))
    return out


def _loops(contours: Sequence[Floats], grid: Grid) -> tuple[_Loops, list[str]]:
    """The contours as index loops, without those that enclose nothing, climb or stand twice."""
    large = [points for points in contours if len(points) >= 3]
    points = np.concatenate([*contours, np.empty((0, 3))])
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > LIMIT_MM:
        raise ValueError("a contour coordinate is not finite or beyond 10 m; millimetres are accepted")
    none = _Loops(np.empty((0, 3)), np.empty(0, dtype=np.intp))
    if not large:
        return none, _counted((len(contours), "with fewer than three points ignored"))
    all_loops = _Loops(grid.to_index(np.concatenate(large)), np.array([len(p) for p in large]))
    height = all_loops.index[:, 0]
    climb = np.maximum.reduceat(height, all_loops.first) - np.minimum.reduceat(height, all_loops.first)
    level = np.flatnonzero(climb <= TILT_SLICES)
    once = _once(all_loops, level)
    found = _counted(
        (len(contours) - len(large), "with fewer than three points ignored"),
        (len(large) - len(level), "not parallel to the slices ignored"),
        (len(level) - len(once), "standing there twice taken once"),
    )
    return all_loops.take(once) if len(once) else none, found


def _counted(*counts: tuple[int, str]) -> list[str]:
    return [f"{n} contour{'s' * (n > 1)} {what}" for n, what in counts if n]


def _once(loops: _Loops, which: Ints) -> Ints:
    """The loops of `which` without second copies, wherever these start and whichever way they run."""
    seen: dict[tuple[float, ...], list[int]] = {}
    middle = loops.middle.round(3)
    for loop in which:
        same = seen.setdefault((loops.size[loop], *middle[loop]), [])
        if not any(_same(loops.take(np.array([loop])).index, loops.take(np.array([o])).index) for o in same):
            same.append(loop)
    return np.array(sorted(loop for same in seen.values() for loop in same), dtype=np.intp)


def _same(a: Floats, b: Floats) -> bool:
    order_a, order_b = np.lexsort(a.T.round(3)), np.lexsort(b.T.round(3))
    return bool(np.abs(a[order_a] - b[order_b]).max() < 2e-3)


def _planes(loops: _Loops, grid: Grid) -> tuple[Floats, Ints]:
    """(positions of the distinct contour planes in slices, ascending; the plane of each loop)."""
    position = loops.middle[:, 0]
    order = np.argsort(position)
    step = np.diff(position[order], prepend=position[order[0]])
    label = np.empty(len(position), dtype=np.intp)
    label[order] = np.cumsum(step > SAME_PLANE_MM / grid.spacing_mm[2])
    return np.bincount(label, weights=position) / np.bincount(label), label


def _slices(
    planes: Floats, count: int
) -> tuple[dict[int, int], dict[int, tuple[int, int, float]], list[str]]:
    """Which of `count` slices takes which plane; which lies in a small gap, with the slices below and above
    that it is interpolated from and how far between their planes; sentences on gaps and on planes beyond the
    image."""
    step = float(np.median(np.diff(planes))) if len(planes) > 2 else 1.0  # two planes show no rhythm
    reach = max(0.5, step / 2)
    bridged = max(BRIDGED_SLICES + 1.0, BRIDGED_STEPS * step) + 0.01
    taken: dict[int, int] = {}
    between: list[tuple[int, int]] = []
    first, last = int(np.floor(planes[0] - reach)), int(np.ceil(planes[-1] + reach))
    for k in range(max(0, first), min(count, last + 1)):
        nearest = int(np.abs(planes - k + 1e-3).argmin())  # a plane half-way belongs to the upper slice only
        away = planes[nearest] - k
        above = int(np.searchsorted(planes, k))
        outside = above in (0, len(planes))
        if -0.5 - 1e-3 <= away < 0.5 - 1e-3 or (outside and abs(away) < reach - 1e-3):
            taken[k] = nearest
        elif not outside:
            between.append((k, above))
    home = {plane: k for k, plane in reversed(taken.items())}
    gaps = {
        k: (
            home[above - 1],
            home[above],
            float((k - planes[above - 1]) / (planes[above] - planes[above - 1])),
        )
        for k, above in between
        if planes[above] - planes[above - 1] <= bridged and above in home and above - 1 in home
    }
    counts = (
        (len(gaps), "slices without a contour interpolated between their neighbours"),
        (len(between) - len(gaps), "slices in a gap too wide to interpolate left empty"),
        (int(((planes < -0.5) | (planes > count - 0.5)).sum()), "contour planes beyond the image ignored"),
    )
    return taken, gaps, [f"{n} {what}" for n, what in counts if n]


def _crossings(index_yx: Floats, size: Ints, layers: Ints, rows: int) -> tuple[Ints, Ints, Floats]:
    """Every cut of a loop's edge with a row 0 <= r < rows: (layer, row, x) arrays."""
    after = np.arange(1, len(index_yx) + 1)
    after[np.cumsum(size) - 1] = np.cumsum(size) - size
    y, x = index_yx.T
    down = y > y[after]
    here = np.arange(len(y))
    low, high = np.where(down, after, here), np.where(down, here, after)
    first = np.clip(np.ceil(y[low]), 0, rows).astype(np.intp)
    count = np.clip(np.ceil(y[high]), 0, rows).astype(np.intp) - first
    edge = np.repeat(here, count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    slope = (x[high] - x[low])[edge] / (y[high] - y[low])[edge]
    return np.repeat(layers, size)[edge], row, x[low][edge] + (row - y[low][edge]) * slope


def _even_odd(out: Mask, loops: _Loops, slices: Ints, box: tuple[slice, slice]) -> None:
    """Set the voxel centres of `out` (d, h, w) inside an odd number of its slice's loops, all within
    `box`."""
    layer, row, x = _crossings(loops.index[:, 1:], loops.size, slices, out.shape[1])
    column = np.clip(np.ceil(x), box[1].start, None)
    hit = column < box[1].stop
    flat = (layer[hit] * out.shape[1] + row[hit]) * out.shape[2] + column[hit].astype(np.intp)
    np.add.at(out.view(np.uint8).reshape(-1), flat, 1)
    toggles = out.view(np.uint8)[slices.min() : slices.max() + 1, *box]
    np.add.accumulate(toggles, axis=2, out=toggles)  # wraps at 256, which keeps the parity
    np.bitwise_and(toggles, 1, out=toggles)


def _covered(loops: _Loops, layers: Ints, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Covered parts (d, h, w): sorted cuts of a sub-row enter and leave in turn, each adds or takes a
    step."""
    steps = np.zeros((*shape[:2], shape[2] + 2), dtype=np.float32)
    here = np.flatnonzero((layers >= 0) & (layers < shape[0]))
    inside = loops.take(here)
    fine = np.column_stack([(inside.index[:, 1] + 0.5) * SUBROWS - 0.5, inside.index[:, 2]])
    layer, row, x = _crossings(fine, inside.size, layers[here], shape[1] * SUBROWS)
    order = np.lexsort((x, row, layer))
    layer, row, edge = layer[order], row[order] // SUBROWS, np.clip(x[order] + 0.5, 0, shape[2])
    sign = np.where(np.arange(len(edge)) % 2, -1.0, 1.0) / SUBROWS
    cell = edge.astype(np.intp)
    np.add.at(steps, (layer, row, cell), sign * (1 - (edge - cell)))
    np.add.at(steps, (layer, row, cell + 1), sign * (edge - cell))
    covered = np.cumsum(steps, axis=2, dtype=np.float32)[..., : shape[2]]
    return np.clip(covered, 0, 1, out=covered)


def _between(lower: Mask, upper: Mask, part: float) -> Mask:
    """The shape at `part` of the way from `lower` to `upper`: where the blended signed distance is
    positive."""
    blended = (1 - part) * _signed_distance(lower) + part * _signed_distance(upper)
    return np.asarray(blended > 0)


def _signed_distance(layer: Mask) -> Floats:
    padded = np.pad(layer, 1)
    signed = ndimage.distance_transform_edt(padded) - ndimage.distance_transform_edt(~padded)
    return np.asarray(signed[1:-1, 1:-1])


def _keep_small(out: Mask, loops: _Loops, position: Floats, said: list[str]) -> bool:
    """A structure that catches no voxel centre keeps the voxels it covers most; False if it covers none."""
    part = _covered(loops, np.rint(position).astype(np.intp), out.shape)
    if not part.any():
        return False
    out |= part >= part.max() / 2
    said.append("covers no voxel centre: the voxels it covers most are taken")
    return True
