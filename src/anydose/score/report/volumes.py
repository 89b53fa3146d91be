"""What a report's slices are drawn from: doses, CT and masks on one grid about the body, packed as text."""

from __future__ import annotations

import base64
import gzip
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume, bounding_box
from anydose.score.report import palette
from anydose.score.report.embed import shown

MARGIN_VOXELS = 4
MASKS = 31  # one bit each
DOSE_STEP_GY = 0.01
UNKNOWN = 65535  # a stored dose that nobody knows


def volumes(case: Case, dose: Volume, voxels: int) -> dict[str, Any]:
    """What the page draws, on one grid along the patient's axes: its geometry and packed arrays."""
    grid = shown_grid(case, voxels)
    packed = {"dose": pack(_stored_dose(dose, grid))}
    if case.dose is not None:
        packed["reference"] = pack(_stored_dose(case.dose, grid))
    if case.ct is not None:
        hu = case.ct.resample(grid, outside=-1000.0).array
        packed["ct"] = pack(np.clip((hu + 1024) / 8, 0, 255).astype(np.uint8))
    shades = palette.shades(case)
    names = [name for name in shades if case.structures[name].any()][:MASKS]
    bits = np.zeros(grid.shape, dtype="<u4")
    for number, name in enumerate(names):
        part = _covered(case, name, grid)
        bits |= (part >= 0.5).astype(np.uint32) << np.uint32(number)
        if case.edge(name) is not None:
            packed[f"part-{number}"] = pack(np.rint(255 * part).astype(np.uint8))
    packed["masks"] = pack(bits)
    structures = []
    for name in names:
        colour, dash = shades[name]
        is_target = name in case.targets
        row = {"name": shown(name), "colour": colour, "dash": dash, "target": is_target}
        structures.append(row | {"edge": case.edge(name) is not None})
    return {
        "shape": grid.shape,
        "spacing_mm": grid.spacing_mm,
        "origin_mm": grid.origin_mm,
        "dose_step_gy": DOSE_STEP_GY,
        "unknown": UNKNOWN,
        "structures": structures,
        "start": start_voxel(case, grid),
        "packed": packed,
    }


def shown_grid(case: Case, voxels: int) -> Grid:
    """The body's box along LPS axes, at the case's spacing or coarser so as to hold at most `voxels`."""
    body = case.body if case.body is not None else np.ones(case.grid.shape, dtype=bool)
    start, shape = bounding_box(body)
    low = np.array(start) - 0.5 - MARGIN_VOXELS
    high = np.array(start) + np.array(shape) - 0.5 + MARGIN_VOXELS
    ends = np.clip(np.stack([low, high]), -0.5, np.array(case.grid.shape) - 0.5)
    corners_mm = case.grid.to_mm(list(product(*ends.T)))
    first, extent = corners_mm.min(axis=0), np.ptp(corners_mm, axis=0)
    spacing = np.asarray(case.grid.spacing_mm)[case.grid.patient_axes]
    spacing = spacing * max(1.0, float((extent / spacing).prod() / voxels) ** (1 / 3))
    x, y, z = np.maximum(np.floor(extent / spacing + 1e-6), 1).astype(int)
    ox, oy, oz = first + spacing / 2
    return Grid((int(z), int(y), int(x)), (spacing[0], spacing[1], spacing[2]), (ox, oy, oz))


def _covered(case: Case, name: str, grid: Grid) -> NDArray[np.float32]:
    """How much of every voxel of `grid` a structure covers, by its contours where the case keeps them."""
    part = case.covered(name).astype(np.float32)
    found: NDArray[np.float32] = Volume(part, case.grid, "1").resample(grid).array
    return found


def start_voxel(case: Case, grid: Grid) -> list[int]:
    """The slices shown first: through the centre of the highest target, else of the box."""
    centre = np.array(grid.shape) / 2
    if case.targets:
        highest = max(case.targets, key=lambda n: case.prescription.levels_gy[n])
        centre = grid.to_index(case.grid.centroid_mm(case.targets[highest]))
    return [int(v) for v in np.clip(np.rint(centre), 0, np.array(grid.shape) - 1)]


def _stored_dose(dose: Volume, grid: Grid) -> NDArray[np.uint16]:
    """The dose on `grid` in steps of DOSE_STEP_GY, UNKNOWN outside the dose grid."""
    gy = dose.resample(grid, outside=float("nan")).in_unit("Gy")
    steps = np.clip(np.rint(np.nan_to_num(gy) / DOSE_STEP_GY), 0, UNKNOWN - 1)
    return np.where(np.isnan(gy), UNKNOWN, steps).astype("<u2")


def pack(array: NDArray[Any]) -> str:
    """The array's bytes, gzipped, as text."""
    return base64.b64encode(gzip.compress(np.ascontiguousarray(array).tobytes(), 9, mtime=0)).decode()
