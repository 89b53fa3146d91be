"""The differentiable twin of `dvh.DVH`, for tensors: exact values, smooth gradients.

Every answer is the exact number (voxel counts, order statistics) with the gradient of its smooth
counterpart: V(D) as a sum of sigmoids of the given width, and D(V) by the implicit function theorem on that
same sum, so that the gradient is a weighted mean over the voxels about that dose and sums to 1. The module
imports no tensor library: it speaks to tensors through their own methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anydose.score.dvh import ROUNDING

Tensor = Any
WIDTH_GY = 0.5


@dataclass(frozen=True, eq=False)
class SoftDVH:
    """dose_gy: tensor (n,); weight_cc: volume of one voxel; width_gy: of the sigmoid that gradients are
    taken from. ValueError if there is no voxel."""

    dose_gy: Tensor
    weight_cc: float
    width_gy: float = WIDTH_GY

    def __post_init__(self) -> None:
        if not len(self.dose_gy):
            raise ValueError("the structure has no voxel")

    @property
    def volume_cc(self) -> float:
        """The structure's volume."""
        return float(len(self.dose_gy) * self.weight_cc)

    @property
    def mean_gy(self) -> Tensor:
        """Mean dose."""
        return self.dose_gy.mean()

    @property
    def min_gy(self) -> Tensor:
        """Lowest dose; the gradient is shared by ties."""
        return self.dose_gy.amin()

    @property
    def max_gy(self) -> Tensor:
        """Highest dose; the gradient is shared by ties."""
        return self.dose_gy.amax()

    def volume_at_gy(self, dose_gy: float) -> Tensor:
        """V(D) in cc: the exact count, with the gradient of sum sigmoid((d_i - D) / width)."""
        smooth = ((self.dose_gy - dose_gy) / self.width_gy).sigmoid().sum()
        exact = (self.dose_gy.detach() >= dose_gy).sum()
        return (exact + (smooth - smooth.detach())) * self.weight_cc

    def dose_at_cc(self, volume_cc: float) -> Tensor:
        """D(V) in Gy: the exact order statistic of `dvh.DVH.dose_at_cc`; d D / d d_i = K_i / sum K with K
        the slope of the sigmoid at d_i - D."""
        fixed = self.dose_gy.detach()
        hotter = int(np.floor(volume_cc / self.weight_cc + ROUNDING))
        rank = int(np.clip(len(fixed) - hotter, 1, len(fixed)))  # 1 is the lowest dose
        exact = fixed.kthvalue(rank).values
        level = ((fixed - exact) / self.width_gy).sigmoid()
        slope = level * (1 - level)
        smooth = (self.dose_gy * (slope / slope.sum())).sum()
        return exact + (smooth - smooth.detach())

    def power_mean_gy(self, power: float) -> Tensor:
        """(mean of D^power)^(1/power)."""
        highest = self.dose_gy.detach().amax().clamp(min=1e-6)
        return highest * ((self.dose_gy / highest) ** power).mean() ** (1 / power)
