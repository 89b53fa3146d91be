"""Solids that a phantom is drawn from: ellipsoids, tubes, rods and arches in the patient's own frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from anydose.case.grid import Grid

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Space:
    """Voxel centres in the patient's frame: x (1, 1, w), y (1, h, 1), z (d, 1, 1) in mm. Masks are (d, h,
    w)."""

    x: Floats
    y: Floats
    z: Floats

    def along(self, rows: Sequence[tuple[float, float]]) -> Floats:
        """A smooth curve through (z, value) rows, (d, 1, 1)."""
        knots, values = np.array(rows, dtype=np.float64).T
        curve: Floats = PchipInterpolator(knots, values)(self.z).astype(np.float32)
        return curve

    def between(self, low: float, high: float) -> Mask:
        """Slices from `low` to `high`, (d, 1, 1)."""
        return (self.z >= low) & (self.z <= high)

    def ellipsoid(self, centre: Sequence[float | Floats], radii: Sequence[float | Floats]) -> Mask:
        """A solid ellipsoid, `centre` and `radii` as (x, y, z)."""
        parts = ((a - c) ** 2 / r**2 for a, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True))
        return np.asarray(sum(parts) <= 1)

    def tube(self, x: float | Floats, y: float | Floats, rx: float | Floats, ry: float | Floats) -> Mask:
        """A tube of elliptic section along z, each argument a number or a curve (d, 1, 1)."""
        return ((self.x - x) / rx) ** 2 + ((self.y - y) / ry) ** 2 <= 1

    def rod(self, start: Sequence[float], end: Sequence[float], radius: float) -> Mask:
        """A straight rod between two points."""
        axis = np.subtract(end, start)
        u, v, w = (a - s for a, s in zip((self.x, self.y, self.z), start, strict=True))
        t = np.clip((u * axis[0] + v * axis[1] + w * axis[2]) / (axis @ axis), 0, 1)
        away = (u - t * axis[0]) ** 2 + (v - t * axis[1]) ** 2 + (w - t * axis[2]) ** 2
        return np.asarray(away <= radius**2)

    def arch(
        self, radii: tuple[float, float], thickness: float, tilt: float, low: float, high: float
    ) -> Mask:
        """A horseshoe open to the back (a row of teeth, the jaw), lower in front by `tilt`."""
        outer = self.tube(0, -22, radii[0], radii[1])
        inner = self.tube(0, -22, radii[0] - thickness, radii[1] - thickness)
        height = self.z - tilt * (self.y + 30)
        return outer & ~inner & (self.y < -8) & (height >= low) & (height <= high)


def patient_frame(
    grid: Grid, middle: tuple[int, int, int], size: float, shift_mm: tuple[float, float]
) -> Space:
    """The voxel centres in the frame of a patient of median size: `middle` is the index (z, y, x) of its
    origin, `size` the patient's own by that of the median, `shift_mm` (x, y) where the patient lies."""
    z, y, x = (
        ((np.arange(n) - m) * s / size).astype(np.float32)
        for n, m, s in zip(grid.shape, middle, grid.spacing_zyx_mm, strict=True)
    )
    dx, dy = shift_mm
    return Space((x - np.float32(dx))[None, None], (y - np.float32(dy))[None, :, None], z[:, None, None])
