"""Losses: pure functions of tensors, each returning (loss, metrics)."""

from __future__ import annotations

from torch import Tensor


def velocity_loss(v: Tensor, v_true: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Mean absolute error of v over the voxels that count. An absolute loss makes the one-step prediction (t
    = 1, v = -x_0) the conditional median, and the scores are absolute errors. v, v_true: (n, c, d, h, w);
    weight: (n, 1 or c, d, h, w)."""
    error = (v.float() - v_true).abs() * weight
    loss = error.sum() / (weight.expand_as(error).sum() + 1e-6)
    return loss, {"loss": float(loss.detach())}
