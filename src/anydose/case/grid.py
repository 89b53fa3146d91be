"""Where voxels are: the one place in which (z, y, x) arrays and (x, y, z) millimetres in DICOM LPS meet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Grid:
    """A regular, possibly rotated voxel grid. Raises ValueError on a shape or spacing that is not
    positive, and on axes that are not orthonormal."""

    shape: tuple[int, int, int]
    """Voxels (d, h, w) along (z, y, x)."""
    spacing_mm: tuple[float, float, float]
    """(x, y, z)."""
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """LPS millimetres of the *centre* of voxel [0, 0, 0]."""
    direction: tuple[tuple[float, float, float], ...] = IDENTITY
    """3x3; its columns are the LPS unit vectors of the x, y and z index axes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        object.__setattr__(self, "origin_mm", tuple(float(o) for o in self.origin_mm))
        axes = np.asarray(self.direction, dtype=np.float64).reshape(3, 3)
        object.__setattr__(self, "direction", tuple(tuple(float(v) for v in row) for row in axes))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"grid shape {self.shape}: three positive counts (z, y, x) are needed")
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(
                f"voxel spacing {self.spacing_mm} mm: three positive numbers (x, y, z) are needed"
            )
        if len(self.origin_mm) != 3 or not np.isfinite(self.origin_mm).all():
            raise ValueError(f"grid origin {self.origin_mm} mm: three finite numbers (x, y, z) are needed")
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
            raise ValueError(f"grid direction {self.direction}: orthonormal axes are needed")

    @property
    def affine(self) -> Floats:
        """4x4 matrix from voxel index (x, y, z, 1) to LPS millimetres."""
        out = np.eye(4)
        out[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing_mm)
        out[:3, 3] = self.origin_mm
        return out

    @property
    def voxel_cc(self) -> float:
        """Volume of one voxel in cubic centimetres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Spacing in array order."""
        return (self.spacing_mm[2], self.spacing_mm[1], self.spacing_mm[0])

    def to_mm(self, index_zyx: ArrayLike) -> Floats:
        """LPS millimetres (..., 3) of (fractional) array indices (..., 3) given as (z, y, x)."""
        index_xyz = np.asarray(index_zyx, dtype=np.float64)[..., ::-1]
        return index_xyz @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points_mm: ArrayLike) -> Floats:
        """Fractional array indices (..., 3) as (z, y, x) of LPS millimetres (..., 3)."""
        relative = np.asarray(points_mm, dtype=np.float64) - self.affine[:3, 3]
        return (relative @ np.linalg.inv(self.affine[:3, :3]).T)[..., ::-1]

    def centroid_mm(self, mask: NDArray[np.bool_]) -> tuple[float, float, float]:
        """LPS millimetres of the middle of a mask's voxel centres; the mask must hold a voxel."""
        x, y, z = self.to_mm(np.argwhere(mask).mean(axis=0))
        return (float(x), float(y), float(z))

    @property
    def patient_axes(self) -> NDArray[np.intp]:
        """The index axis (0 for x, 1, 2) that lies nearest to each of the patient's axes (x, y, z)."""
        return np.asarray(np.abs(np.asarray(self.direction)).argmax(axis=1))

    def along(self, vector_mm: ArrayLike, start_mm: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Component along `vector_mm` of every voxel centre, measured from `start_mm`, as three arrays whose
        broadcast sum has the grid's shape: (d, 1, 1), (1, h, 1) and (1, 1, w)."""
        per_index = np.asarray(vector_mm, dtype=np.float64) @ self.affine[:3, :3]
        offset = float(np.asarray(vector_mm, dtype=np.float64) @ (self.affine[:3, 3] - np.asarray(start_mm)))
        d, h, w = (np.arange(n, dtype=np.float64) for n in self.shape)
        return (
            (d * per_index[2] + offset)[:, None, None],
            (h * per_index[1])[None, :, None],
            (w * per_index[0])[None, None, :],
        )

    def crop(self, start: ArrayLike, shape: ArrayLike) -> Grid:
        """The grid of the block of `shape` whose first voxel is index `start` (z, y, x); both may reach
        outside."""
        first = self.to_mm(np.asarray(start, dtype=np.float64))
        z, y, x = (int(n) for n in np.asarray(shape))
        return replace(self, shape=(z, y, x), origin_mm=(first[0], first[1], first[2]))

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> Grid:
        """A grid over the same block of space (outer voxel faces) with another spacing; the far side may gain
        less than one voxel."""
        extent = np.array(self.shape[::-1]) * np.array(self.spacing_mm)
        count = np.ceil(extent / np.array(spacing_mm) - 1e-6).astype(int)
        shift = (np.array(spacing_mm) - np.array(self.spacing_mm)) / 2
        x, y, z = np.array(self.origin_mm) + np.asarray(self.direction) @ shift
        return replace(self, shape=(count[2], count[1], count[0]), spacing_mm=spacing_mm, origin_mm=(x, y, z))

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """True if both grids put every voxel within `tolerance_mm` of the same place."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        return bool(np.abs(self.to_mm(corners) - other.to_mm(corners)).max() <= tolerance_mm)
