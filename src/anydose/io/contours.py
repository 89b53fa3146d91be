"""Planar contours to masks and back.

Rule: a voxel belongs to a structure if its centre lies inside an odd number of the contours of its slice
(even-odd, which is XOR: nested holes and keyholes come out right). Every polygon edge is cut with the voxel
rows at once, each cut toggles one voxel, a running sum along the row does the rest; an edge walked twice in
opposite directions (the bridge of a keyhole) cancels exactly, because its ends are ordered before it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.grid import Floats, Grid

Mask = NDArray[np.bool_]

SAME_PLANE_MM = 0.05
TILT_SLICES = 0.25  # a contour that climbs more than a quarter of a slice is not parallel to the slices
BRIDGED_SLICES = 2  # so many slices without a contour are interpolated ...
BRIDGED_STEPS = 1.5  # ... or, where contours lie further apart than slices, gaps up to so many contour steps
LIMIT_MM = 1e4  # no patient reaches ten metres
SUBROWS = 8


def rasterise(contours: Sequence[Floats], grid: Grid) -> tuple[Mask, list[str]]:
    """The mask (d, h, w) of one structure from its closed contours, each (n, 3) LPS mm in any order, and
    sentences on what was left out or filled in. A slice takes the contours of the nearest plane within half a
    slice (half a contour step, where contours lie further apart than slices); small gaps are interpolated by
    signed distance. ValueError for a coordinate that is not finite or beyond 10 m."""
    loops, found = _loops(contours, grid)
    out = np.zeros(grid.shape, dtype=bool)
    if not loops:
        return out, found
    planes, members = _planes(loops, grid)
    lows, highs = zip(*((loop[:, 1:].min(axis=0), loop[:, 1:].max(axis=0)) for loop in loops), strict=True)
    first, last = np.min(lows, axis=0), np.max(highs, axis=0)
    limit = np.array(grid.shape[1:])
    if (first < -0.5).any() or (last > limit - 0.5).any():
        found.append("reaches outside the image and is cut there")
    start = np.clip(np.floor(first).astype(int), 0, limit - 1)
    stop = np.clip(np.ceil(last).astype(int) + 1, start + 1, limit)
    layers = _even_odd([loop[:, 1:] - start for loop in loops], members, (len(planes), *(stop - start)))
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]))
    found += _stack(out[(slice(None), *box)], layers, planes)
    if not out.any():
        _keep_small(out, loops, members, planes, found)
    return out, found


def coverage(contours: Sequence[Floats], grid: Grid) -> NDArray[np.float32]:
    """The part (d, h, w) in [0, 1] of each voxel of a slice that its contours cover, for contours in the
    slices' planes: exact along x, `SUBROWS` lines a voxel along y. ValueError as `rasterise`."""
    loops, _ = _loops(contours, grid)
    rows = [np.rint(loop[:, 0].mean()).astype(int) for loop in loops]
    inside = [(loop[:, 1:], row) for loop, row in zip(loops, rows, strict=True) if 0 <= row < grid.shape[0]]
    return _covered([loop for loop, _ in inside], [row for _, row in inside], grid.shape)


def outlines(mask: Mask, grid: Grid) -> list[Floats]:
    """Closed contours (n, 3) in LPS mm of every slice of `mask` (d, h, w), holes as contours of their own;
    they run half-way between inner and outer voxel centres, so `rasterise` gives the same mask back. Source:
    contourpy (marching squares at 0.5)."""
    out = []
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        hit = np.argwhere(mask[z])
        low, high = hit.min(axis=0), hit.max(axis=0) + 1
        padded = np.pad(mask[z, low[0] : high[0], low[1] : high[1]], 1).astype(np.float32)
        for line in contourpy.contour_generator(z=padded).lines(0.5):
            points = line[:-1] if (line[0] == line[-1]).all() else line
            index = np.column_stack([np.full(len(points), float(z)), points[:, ::-1] + low - 1])
            out.append(grid.to_mm(index))
    return out


def _loops(contours: Sequence[Floats], grid: Grid) -> tuple[list[Floats], list[str]]:
    """The contours as index loops (n, 3) in (z, y, x), without those that enclose nothing, climb or stand
    twice."""
    kept: dict[tuple[float, ...], list[Floats]] = {}
    small = tilted = twice = 0
    for points in contours:
        if not np.isfinite(points).all() or np.abs(points).max(initial=0) > LIMIT_MM:
            raise ValueError("a contour coordinate is not finite or beyond 10 m; millimetres are accepted")
        if len(points) < 3:
            small += 1
            continue
        loop = grid.to_index(points)
        if np.ptp(loop[:, 0]) > TILT_SLICES:
            tilted += 1
            continue
        same = kept.setdefault((len(loop), *np.round(loop.mean(axis=0), 3)), [])
        if any(_same(loop, other) for other in same):
            twice += 1
            continue
        same.append(loop)
    counts = (
        (small, "with fewer than three points ignored"),
        (tilted, "not parallel to the slices ignored"),
        (twice, "standing there twice taken once"),
    )
    found = [f"{n} contour{'s' * (n > 1)} {what}" for n, what in counts if n]
    return [loop for same in kept.values() for loop in same], found


def _same(a: Floats, b: Floats) -> bool:
    order_a, order_b = np.lexsort(a.T.round(3)), np.lexsort(b.T.round(3))
    return bool(np.abs(a[order_a] - b[order_b]).max() < 2e-3)


def _planes(loops: list[Floats], grid: Grid) -> tuple[Floats, list[int]]:
    """(positions of the distinct contour planes in slices, ascending; the plane of each loop)."""
    position = np.array([loop[:, 0].mean() for loop in loops])
    order = np.argsort(position)
    step = np.diff(position[order], prepend=position[order[0]])
    label = np.empty(len(loops), dtype=int)
    label[order] = np.cumsum(step > SAME_PLANE_MM / grid.spacing_mm[2])
    planes = np.bincount(label, weights=position) / np.bincount(label)
    return planes, label.tolist()


def _crossings(loops: list[Floats], layers: Sequence[int], rows: int) -> tuple[NDArray[np.intp], ...]:
    """Every cut of a loop's edge with a row 0 <= r < rows: (layer, row, x) arrays. loops: (n, 2) as (y,
    x)."""
    a = np.concatenate(loops)
    b = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
    layer = np.repeat(layers, [len(loop) for loop in loops])
    down = a[:, 0] > b[:, 0]
    low, high = np.where(down[:, None], b, a), np.where(down[:, None], a, b)
    first = np.clip(np.ceil(low[:, 0]), 0, rows).astype(np.intp)
    count = np.clip(np.ceil(high[:, 0]), 0, rows).astype(np.intp) - first
    edge = np.repeat(np.arange(len(a)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    y0, x0 = low[edge].T
    y1, x1 = high[edge].T
    return layer[edge], row, x0 + (row - y0) * ((x1 - x0) / (y1 - y0))


def _even_odd(loops: list[Floats], layers: Sequence[int], shape: tuple[int, ...]) -> Mask:
    """Masks (layers, h, w) of the voxel centres inside an odd number of each layer's loops."""
    layer, row, x = _crossings(loops, layers, shape[1])
    column = np.ceil(x)
    hit = column < shape[2]
    toggles = np.zeros(shape, dtype=np.uint8)
    flat = (layer * shape[1] + row) * shape[2] + np.clip(column, 0, None)
    np.add.at(toggles.reshape(-1), flat[hit].astype(np.intp), 1)
    np.add.accumulate(toggles, axis=2, out=toggles)  # wraps at 256, which keeps the parity
    np.bitwise_and(toggles, 1, out=toggles)
    return toggles.view(np.bool_)


def _covered(loops: list[Floats], layers: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Covered parts (layers, h, w): sorted cuts of a sub-row enter and leave in turn, each adds or takes a
    step."""
    steps = np.zeros((*shape[:2], shape[2] + 2), dtype=np.float32)
    if not loops:
        return steps[..., : shape[2]]
    fine = [np.column_stack([(loop[:, 0] + 0.5) * SUBROWS - 0.5, loop[:, 1]]) for loop in loops]
    layer, row, x = _crossings(fine, layers, shape[1] * SUBROWS)
    order = np.lexsort((x, row, layer))
    layer, row, edge = layer[order], row[order] // SUBROWS, np.clip(x[order] + 0.5, 0, shape[2])
    sign = np.where(np.arange(len(edge)) % 2, -1.0, 1.0) / SUBROWS
    cell = edge.astype(np.intp)
    np.add.at(steps, (layer, row, cell), sign * (1 - (edge - cell)))
    np.add.at(steps, (layer, row, cell + 1), sign * (edge - cell))
    covered = np.cumsum(steps, axis=2, dtype=np.float32)[..., : shape[2]]
    return np.clip(covered, 0, 1, out=covered)


def _stack(out: Mask, layers: Mask, planes: Floats) -> list[str]:
    """Put the layers at fractional slice positions `planes` into the slices of `out` (d, h, w); what was
    filled in or left out as sentences."""
    step = float(np.median(np.diff(planes))) if len(planes) > 2 else 1.0  # two planes show no rhythm
    reach = max(0.5, step / 2)
    bridged = max(BRIDGED_SLICES + 1.0, BRIDGED_STEPS * step) + 0.01
    filled: list[int] = []
    open_gaps: list[int] = []
    for k in range(
        max(0, int(np.floor(planes[0] - reach))), min(len(out), int(np.ceil(planes[-1] + reach)) + 1)
    ):
        nearest = int(np.abs(planes - k + 1e-3).argmin())  # a plane half-way belongs to the upper slice only
        away = planes[nearest] - k
        above = int(np.searchsorted(planes, k))
        if -0.5 - 1e-3 <= away < 0.5 - 1e-3:
            out[k] = layers[nearest]
        elif above in (0, len(planes)):
            if abs(away) < reach - 1e-3:
                out[k] = layers[nearest]
        elif planes[above] - planes[above - 1] <= bridged:
            part = (k - planes[above - 1]) / (planes[above] - planes[above - 1])
            out[k] = _between(layers[above - 1], layers[above], part)
            filled.append(k)
        else:
            open_gaps.append(k)
    beyond = int(((planes < -0.5) | (planes > len(out) - 0.5)).sum())
    counts = (
        (len(filled), "slices without a contour interpolated between their neighbours"),
        (len(open_gaps), "slices in a gap too wide to interpolate left empty"),
        (beyond, "contour planes beyond the slices of the image ignored"),
    )
    return [f"{n} {what}" for n, what in counts if n]


def _between(lower: Mask, upper: Mask, part: float) -> Mask:
    """The shape at `part` of the way from `lower` to `upper`: where the blended signed distance is
    positive."""
    blended = (1 - part) * _signed_distance(lower) + part * _signed_distance(upper)
    return np.asarray(blended > 0)


def _signed_distance(layer: Mask) -> Floats:
    padded = np.pad(layer, 1)
    signed = ndimage.distance_transform_edt(padded) - ndimage.distance_transform_edt(~padded)
    return np.asarray(signed[1:-1, 1:-1])


def _keep_small(
    out: Mask, loops: list[Floats], members: Sequence[int], planes: Floats, found: list[str]
) -> None:
    """A structure that catches no voxel centre keeps the voxels it covers most."""
    slices = [int(np.rint(planes[m])) for m in members]
    inside = [(loop[:, 1:], k) for loop, k in zip(loops, slices, strict=True) if 0 <= k < len(out)]
    part = _covered([loop for loop, _ in inside], [k for _, k in inside], out.shape)
    if part.max() > 0:
        out |= part >= part.max() / 2
        found.append("covers no voxel centre: the voxels it covers most are taken")
