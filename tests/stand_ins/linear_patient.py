"""A small patient whose dose is a linear function of the place."""

from __future__ import annotations

import numpy as np

from anydose.case.beams import Beam
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume

SLOPE_GY_PER_MM = np.array([0.21, -0.17, 0.25])  # a shift of a quarter millimetre is 0.1 % of the maximum
MIDDLE_MM = np.array([12.0, -180.0, 433.0])
AXES = {
    "HFS": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "HFP": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "FFS": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "FFP": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "HFDL": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "HFDR": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "FFDL": ((0, 1, 0), (1, 0, 0), (0, 0, -1)),
    "FFDR": ((0, -1, 0), (-1, 0, 0), (0, 0, -1)),
}


def dose_at(points_mm):
    """Gy at LPS points (..., 3): linear, so that interpolation is exact."""
    return 60.0 + (np.asarray(points_mm) - MIDDLE_MM) @ SLOPE_GY_PER_MM


def patient(position: str = "HFS", turn: np.ndarray | None = None, spacing_mm=(2.0, 1.5, 3.0)) -> Case:
    """A block of water with a target, a hollow organ, two static beams and an arc, round MIDDLE_MM."""
    shape = (14, 40, 32)
    direction = (np.eye(3) if turn is None else turn) @ np.array(AXES[position], dtype=float).T
    half = direction @ ((np.array(shape[::-1]) - 1) / 2 * spacing_mm)
    x, y, z = MIDDLE_MM - half
    grid = Grid(shape, spacing_mm, (x, y, z), direction)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    away = np.linalg.norm(grid.to_mm(index) - MIDDLE_MM, axis=-1)
    body = np.zeros(shape, dtype=bool)
    body[1:-1, 3:-3, 3:-3] = True
    hu = np.where(body, 20.0, -1000.0).astype(np.float32)
    hu[5:8, 8:12, 6:9] = 900.0
    centre = (12.0, -180.0, 433.0)
    beams = (
        Beam((40.0,), centre, 0.0, 15.0, name="one"),
        Beam((320.0,), centre, 10.0, 0.0, name="two"),
        Beam((179.0, 100.0, 2.0, 300.0), centre, 0.0, 30.0, name="arc"),
    )
    return Case(
        "patient",
        grid,
        {"External": body, "PTV_60": away < 9, "Shell": (away < 13) & (away > 8)},
        Prescription({"PTV_60": 60.0}, 30),
        beams,
        Volume(hu, grid, "HU"),
        Volume(dose_at(grid.to_mm(index)).astype(np.float32), grid, "Gy"),
        position,
    )
