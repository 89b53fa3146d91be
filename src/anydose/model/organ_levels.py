"""All organs in one volume, each with a level of its own, as the GDP-HMM challenge's baseline and the paper
draw them: of n organs the k-th (from 1) has 1 + 4 k / n, and 0 is no organ (the challenge: 1 + 4 k / 30).
Where organs overlap the higher level wins, and the lower one is lost; a channel each loses nothing."""

from __future__ import annotations

import torch
from torch import Tensor

FORMS = ("channels", "levels")
FIRST, SPAN = 1.0, 4.0  # the levels reach from just above FIRST to FIRST + SPAN


def levels_of(channels: Tensor) -> Tensor:
    """Organs (..., n, d, h, w), above 0 inside each -> their levels (..., 1, d, h, w) in [-1, 1]."""
    values = _values(channels.shape[-4], channels)
    inside = torch.where(channels > 0, values, torch.full_like(values, -1.0))
    return inside.amax(dim=-4, keepdim=True)


def channels_of(levels: Tensor, organs: int) -> Tensor:
    """Levels (..., 1, d, h, w) -> organs (..., n, d, h, w), 1 inside each and -1 elsewhere: each voxel is of
    the organ with the nearest level, or of none."""
    values = torch.cat([levels.new_full((1, 1, 1, 1), -1.0), _values(organs, levels)])
    nearest = (levels - values).abs().argmin(dim=-4, keepdim=True)
    numbers = torch.arange(1, organs + 1, device=levels.device)[:, None, None, None]
    return torch.where(nearest == numbers, 1.0, -1.0).to(levels)


def _values(organs: int, like: Tensor) -> Tensor:
    """The level (n, 1, 1, 1) of each organ, in [-1, 1]."""
    number = torch.arange(1, organs + 1, device=like.device, dtype=like.dtype)[:, None, None, None]
    return 2 * (FIRST + SPAN * number / organs) / (FIRST + SPAN) - 1
