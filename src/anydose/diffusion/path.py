"""The variance-preserving path: the one place that owns the sign convention.

t = 0 is data, t = 1 is noise; x_t = a x_0 + s eps with a = cos(pi t / 2), s = sin(pi t / 2);
v = a eps - s x_0;  x_0 = a x_t - s v;  eps = s x_t + a v  (Salimans and Ho, arXiv 2202.00512, appendix D).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """(a, s) of times t in [0, 1], any shape; exact at both ends: (1, 0) at t = 0 and (0, 1) at t = 1."""
    angle = t.double() * (math.pi / 2)
    a = torch.where(t >= 1, torch.zeros_like(angle), angle.cos())
    return a.to(t.dtype), angle.sin().to(t.dtype)


def _like(coefficient: Tensor, x: Tensor) -> Tensor:
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim)).to(x.dtype)


def noised(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t of data x0 and noise eps (n, ...) at times t (n,)."""
    a, s = alpha_sigma(t)
    return _like(a, x0) * x0 + _like(s, x0) * eps


def velocity(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """v of data x0 and noise eps (n, ...) at times t (n,)."""
    a, s = alpha_sigma(t)
    return _like(a, x0) * eps - _like(s, x0) * x0


def data_from_velocity(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """x_0 of a noised x_t (n, ...) and its v at times t (n,)."""
    a, s = alpha_sigma(t)
    return _like(a, x_t) * x_t - _like(s, x_t) * v


def noise_from_velocity(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """eps of a noised x_t (n, ...) and its v at times t (n,)."""
    a, s = alpha_sigma(t)
    return _like(s, x_t) * x_t + _like(a, x_t) * v


def velocity_of_estimate(estimate: Tensor, x_t: Tensor, t: Tensor, spread: float) -> Tensor:
    """v of a network that estimates -x_0 from the conditions, before x_t is weighed in.

    With x_0 ~ N(-estimate, spread^2), the posterior mean given x_t = a x_0 + s eps is x_0^ = m + c (x_t - a
    m), m = -estimate, c = spread^2 a / (spread^2 a^2 + s^2), and v = (a x_t - x_0^) / s becomes s (a (1 -
    spread^2) x_t + estimate) / (spread^2 a^2 + s^2): bounded, -x_0 at t = 1, independent of the estimate at t
    = 0. The preconditioning of Karras et al. (arXiv 2206.00364, section 5) for data whose mean is known from
    its conditions up to `spread`."""
    a, s = (_like(c, x_t) for c in alpha_sigma(t))
    return s * (a * (1 - spread**2) * x_t + estimate) / (spread**2 * a**2 + s**2)
