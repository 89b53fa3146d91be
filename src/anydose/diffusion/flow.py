"""Rectified-flow networks on the variance-preserving path, exactly.

A flow network sees y = (1 - f) x_0 + f eps at flow time f and predicts u = eps - x_0 (Liu et al., arXiv
2209.03003; Wan 2.1). With a, s of path.py and r = a + s, in [1, sqrt 2]: f = s / r, y = x_t / r and
v = ((a - s) x_t + u) / r. Nothing is singular; ||v - v'||^2 = ||u - u'||^2 / r^2, so the loss of v is flow
matching with an almost flat weight, and a DDIM step in v is an Euler step in u.
"""

from __future__ import annotations

import math

from torch import Tensor

from anydose.diffusion.path import alpha_sigma

CONVENTIONS = {"v": 0, "noise - data": 1, "data - noise": -1}  # what a network gives -> sign of its u


def flow_time(t: Tensor) -> Tensor:
    """The flow time f in [0, 1] of the path's times t."""
    a, s = alpha_sigma(t)
    return s / (a + s)


def into_flow(x_t: Tensor, t: Tensor) -> Tensor:
    """What a flow network sees, y, of a noised x_t (n, ...) at times t (n,)."""
    a, s = _wide(x_t, t)
    return x_t / (a + s)


def velocity_from_flow(u: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """v of a flow network's u(y, f) at x_t (n, ...) and times t (n,)."""
    a, s = _wide(x_t, t)
    return ((a - s) * x_t + u) / (a + s)


def flow_from_velocity(v: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The inverse: u = eps - x_0 of v at x_t (n, ...) and times t (n,)."""
    a, s = _wide(x_t, t)
    return (a + s) * v - (a - s) * x_t


def shifted(t: float, k: float) -> float:
    """Time t moved towards noise by a flow shift k: f' = k f / (1 + (k - 1) f) is tan p' = k tan p for the
    angle p = pi t / 2 (k = 1: t itself)."""
    return t if t >= 1 or k == 1 else 2 / math.pi * math.atan(k * math.tan(math.pi / 2 * t))


def _wide(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    a, s = (c.reshape(c.shape + (1,) * (x.ndim - c.ndim)).to(x.dtype) for c in alpha_sigma(t))
    return a, s
