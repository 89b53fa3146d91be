"""How much of the voxels at their surface structures cover, as their contours say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anydose.case.case import Edge, Mask
from anydose.case.grid import Floats, Grid
from anydose.case.volume import bounding_box
from anydose.io.dicom.contours import coverage
from anydose.io.dicom.struct import Roi

MARGIN = 2  # voxels about a structure
PART_MM = 1.0  # parts of a voxel are at most so long
MOST_PARTS = 20_000_000  # 80 MB while one structure is drawn
WHOLE = 1e-3  # less than this, or less than this short of 1, is nothing, or a whole voxel


def edges(rois: Sequence[Roi], structures: Mapping[str, Mask], grid: Grid) -> tuple[Edge, ...]:
    """The voxels that each structure covers in part. A slice counts where its contours and the mask agree:
    voxels covered as a whole are in the mask, and the mask's are covered at all; slices that were
    interpolated, and contours that are not the whole answer, leave the mask as it is. So does a structure in
    a box of more than MOST_PARTS voxels."""
    found = []
    for roi in rois:
        mask = structures.get(roi.name)
        if mask is not None and mask.any():
            found.append(_edge(roi.contours, mask, grid))
    return tuple(edge for edge in found if edge.index.size)


def _edge(contours: Sequence[Floats], mask: Mask, grid: Grid) -> Edge:
    start, shape = bounding_box(mask)
    low = np.maximum(np.array(start) - MARGIN, 0)
    high = np.minimum(np.array(start) + np.array(shape) + MARGIN, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    near, own = mask[box], grid.crop(low, high - low)
    within = [points for points in contours if _is_within(points, own)]
    rows, columns = (_parts(spacing) for spacing in grid.spacing_mm[1::-1])
    if near.size * rows * columns > MOST_PARTS:  # a body, whose surface is no matter of a tenth of a voxel
        rows = columns = 1
    if not within or near.size > MOST_PARTS:  # such a body has voxels fine enough
        return Edge(mask, np.empty(0, dtype=np.int64), np.empty((0, rows, columns), dtype=np.float32))
    x, y, z = grid.spacing_mm
    fine = coverage(within, own.with_spacing((x / columns, y / rows, z)))
    d, h, w = near.shape
    parts = fine.reshape(d, h, rows, w, columns).transpose(0, 1, 3, 2, 4)
    part = parts.mean(axis=(3, 4))
    whole, none = part >= 1 - WHOLE, part <= WHOLE
    agrees = ~((whole & ~near) | (none & near)).any(axis=(1, 2))
    partial = ~whole & ~none & agrees[:, None, None]
    index = np.ravel_multi_index(tuple(np.argwhere(partial).T + low[:, None]), mask.shape)
    return Edge(mask, index.astype(np.int64), parts[partial])


def _parts(spacing_mm: float) -> int:
    """An odd number, so that one part is about the voxel's centre."""
    return 2 * int(np.ceil((spacing_mm / PART_MM - 1) / 2)) + 1


def _is_within(points: Floats, grid: Grid) -> bool:
    """Whether a contour lies in a slice of the grid; one of fewer than three points encloses nothing."""
    if len(points) < 3:
        return False
    plane = float(grid.to_index(points)[:, 0].mean())
    return -0.5 <= plane < grid.shape[0] - 0.5
