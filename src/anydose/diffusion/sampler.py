"""Samplers of the variance-preserving path: from noise x (n, ...) at t = 1 to data at t = 0.

Each takes `velocity(x, t) -> v` with t of shape (n,), the starting noise and the number of network
evaluations, and is deterministic: all randomness is in the noise it is given. `ancestral` draws more, for
policy gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anydose.diffusion.path import alpha_sigma, data_from_velocity, noise_from_velocity

Velocity = Callable[[Tensor, Tensor], Tensor]


def times(steps: int) -> Tensor:
    """The `steps` + 1 times from 1 to 0, equally spaced. ValueError outside 1 to 50."""
    if not 1 <= steps <= 50:
        raise ValueError(f"{steps} sampling steps; 1 to 50 are accepted")
    return torch.linspace(1.0, 0.0, steps + 1)


def ddim(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Deterministic DDIM (Song et al., arXiv 2010.02502, equation 12 with sigma = 0)."""
    x, ts = noise, times(steps)
    for now, then in zip(ts[:-1], ts[1:], strict=True):
        t = now.expand(len(x)).to(x.device)
        v = velocity(x, t)
        x0, eps = data_from_velocity(x, v, t), noise_from_velocity(x, v, t)
        a, s = alpha_sigma(then)
        x = a * x0 + s * eps
    return x


def dpm_solver_2m(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """DPM-Solver++(2M), data prediction (Lu et al., arXiv 2211.01095, algorithm 2); first and last step are
    of first order, as log-SNR is infinite at both ends of the path."""
    x, ts = noise, times(steps)
    previous: tuple[Tensor, Tensor] | None = None  # (data prediction, log-SNR/2) of the step before
    for now, then in zip(ts[:-1], ts[1:], strict=True):
        t = now.expand(len(x)).to(x.device)
        x0 = data_from_velocity(x, velocity(x, t), t)
        (a_now, s_now), (a, s) = alpha_sigma(now), alpha_sigma(then)
        lam_now, lam = torch.log(a_now / s_now), torch.log(a / s)
        blend = x0
        if previous is not None and torch.isfinite(lam) and torch.isfinite(previous[1]):
            h, h_before = lam - lam_now, lam_now - previous[1]
            blend = x0 + (h / (2 * h_before)) * (x0 - previous[0])
        # sigma_t / sigma_s x + alpha_t (1 - e^-h) x0, with e^-h = a_now s / (a s_now)
        x = (s / s_now) * x + (a - s * a_now / s_now) * blend
        previous = (x0, lam_now)
    return x


@dataclass(frozen=True)
class Transition:
    """One step of a stochastic sampler, for policy gradients: from x at time t (n,) to `after` ~ N(mean(v),
    sigma^2)."""

    x: Tensor
    t: Tensor
    after: Tensor
    then: Tensor
    sigma: Tensor

    def log_density(self, v: Tensor, weight: Tensor) -> Tensor:
        """Log density (n,) of `after` under the velocity v at x, as a mean over the voxels that count
        (weight, broadcastable to x) and up to a constant."""
        mean, _ = ancestral_mean(self.x, v, self.t, self.then)
        square = ((self.after - mean) / self.sigma).square() * weight
        voxels = weight.expand_as(square).flatten(1).sum(dim=1) + 1e-6
        return -0.5 * square.flatten(1).sum(dim=1) / voxels


def ancestral_mean(x: Tensor, v: Tensor, t: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the step from t (n,) to `then` (scalar): Song et al., arXiv 2010.02502,
    equation 12 with eta = 1; sigma = 0 at the last step, and the whole noise of `then` at the first."""
    x0, eps = data_from_velocity(x, v, t), noise_from_velocity(x, v, t)
    (a_now, s_now), (a, s) = alpha_sigma(t[0]), alpha_sigma(then)
    sigma = s / s_now * (1 - (a_now / a) ** 2).clamp(min=0).sqrt()
    return a * x0 + (s**2 - sigma**2).clamp(min=0).sqrt() * eps, sigma


def ancestral(
    velocity: Velocity, noise: Tensor, steps: int, generator: torch.Generator
) -> tuple[Tensor, list[Transition]]:
    """The stochastic sampler (DDIM with eta = 1) and its steps that had noise in them, newest last; their
    noise is drawn from `generator`."""
    x, ts, taken = noise, times(steps), []
    for now, then in zip(ts[:-1], ts[1:], strict=True):
        t = now.expand(len(x)).to(x.device)
        mean, sigma = ancestral_mean(x, velocity(x, t), t, then)
        after = mean + sigma * torch.randn(x.shape, generator=generator).to(x)
        if sigma > 0:
            taken.append(Transition(x, t, after, then, sigma))
        x = after
    return x, taken


SAMPLERS: dict[str, Callable[[Velocity, Tensor, int], Tensor]] = {"ddim": ddim, "dpm2m": dpm_solver_2m}
