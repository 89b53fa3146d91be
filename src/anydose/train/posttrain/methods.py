"""How post-training learns from one patient: ScardNFT, and two controls beside it.

Each method is two functions: `sample` samples from the old policy and hands the doses to worker threads for
their rewards; `learn` turns them into a loss. In between other patients are sampled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from anydose.diffusion import path as vp
from anydose.diffusion.sampler import SAMPLERS, Transition, ancestral
from anydose.score.metrics import as_float
from anydose.score.soft import SoftDVH
from anydose.train import losses
from anydose.train.distributed import rank_and_world
from anydose.train.posttrain.candidates import Patient, starting_noise
from anydose.train.posttrain.policy import Policy
from anydose.train.posttrain.reward import Reward

if TYPE_CHECKING:
    from anydose.train.posttrain.config import PostConfig

Outcome = tuple[Tensor, dict[str, float]]


@dataclass(frozen=True)
class Group:
    """One patient's candidates, of this process."""

    patient: Patient
    """Whose they are."""
    latents: Tensor
    """(k, c, d, h, w)."""
    rewards: Sequence[Future[Reward]]
    """As they come in."""
    base_mae_gy: float
    """The base model's own error."""
    seed: tuple[int, ...]
    """For the randomness that follows."""
    taken: tuple[Transition, ...] = ()
    """The sampler's stochastic steps (ddpo)."""


@dataclass(frozen=True)
class Method:
    """A way to learn."""

    sample: Callable[[Policy, Patient, PostConfig, tuple[int, ...], Executor], Group]
    """(policy, patient, settings, seed, pool) -> its candidates, whose rewards come in."""
    learn: Callable[[Policy, Group, list[Reward], PostConfig], Outcome]
    """(policy, group, rewards, settings) -> (loss, report)."""


def _generator(seed: tuple[int, ...]) -> torch.Generator:
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
    )


def sample_candidates(
    policy: Policy, patient: Patient, c: PostConfig, seed: tuple[int, ...], pool: Executor
) -> Group:
    """k candidates by the deterministic solver from different noises, of which every process samples its
    share; the base's own dose from the first."""
    shape = tuple(patient.reference.shape)
    noise = starting_noise(shape, c.candidates, _generator((*seed, 0)), c.coarse_share, c.coarse_block)
    noise, solve = noise.to(patient.reference), SAMPLERS[c.sampler]
    with policy.holding(policy.base) as model:
        base = patient.to_gy(model, solve(patient.policy(model, c.precision), noise[:1], c.sampling_steps))
    rank, world = rank_and_world()
    with policy.holding(policy.old) as model:
        latents = solve(patient.policy(model, c.precision), noise[rank::world], c.sampling_steps)
        doses = patient.to_gy(model, latents)
    return _group(patient, latents, doses, base, seed, pool)


def sample_trajectories(
    policy: Policy, patient: Patient, c: PostConfig, seed: tuple[int, ...], pool: Executor
) -> Group:
    """k candidates by the stochastic sampler, with the steps that it took."""
    generator = _generator((*seed, 0))
    noise = torch.randn(c.candidates, *patient.reference.shape[1:], generator=generator)
    noise = noise.to(patient.reference)
    with policy.holding(policy.base) as model:
        first, _ = ancestral(patient.policy(model, c.precision), noise[:1], c.sampling_steps, generator)
        base = patient.to_gy(model, first)
    with policy.holding(policy.old) as model:
        latents, taken = ancestral(patient.policy(model, c.precision), noise, c.sampling_steps, generator)
        doses = patient.to_gy(model, latents)
    return _group(patient, latents, doses, base, seed, pool, taken)


def sample_base(
    policy: Policy, patient: Patient, c: PostConfig, seed: tuple[int, ...], pool: Executor
) -> Group:
    """No candidates: the base's own one-step dose alone, which the anchor is relative to."""
    noise = torch.randn(patient.reference.shape, generator=_generator((*seed, 0))).to(patient.reference)
    with policy.holding(policy.base) as model:
        base = patient.to_gy(model, SAMPLERS[c.sampler](patient.policy(model, c.precision), noise, 1))
    return _group(patient, noise, base, base, seed, pool)


def _group(
    patient: Patient,
    latents: Tensor,
    doses: Tensor,
    base: Tensor,
    seed: tuple[int, ...],
    pool: Executor,
    taken: Sequence[Transition] = (),
) -> Group:
    base_mae = as_float(patient.reward_on_case.mae_gy(base[0].cpu().numpy()))
    jobs = [pool.submit(patient.reward_on_case.reward, dose, base_mae) for dose in doses.cpu().numpy()]
    return Group(patient, latents, jobs, base_mae, seed, tuple(taken))


def rewarded(group: Group) -> tuple[Tensor, list[Reward], float]:
    """(latents of all candidates, their rewards, seconds waited for the latter), of all processes in the
    order in which one process has them."""
    begin = time.monotonic()
    rewards = [job.result() for job in group.rewards]
    waited = time.monotonic() - begin
    _, world = rank_and_world()
    if world == 1:
        return group.latents, rewards, waited
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, list(zip(group.latents.cpu(), rewards, strict=True)))
    count = sum(len(part) for part in parts)
    together = [parts[k % world][k // world] for k in range(count)]
    latents = torch.stack([latent for latent, _ in together]).to(group.latents)
    return latents, [reward for _, reward in together], waited


def learn_nft(policy: Policy, g: Group, rewards: list[Reward], c: PostConfig) -> Outcome:
    """ScardNFT's dual loss at one time: t = 1 for all candidates where one evaluation serves them all, else
    for `pairs` of them; with the reference dose as one more row for the diffusion loss."""
    p, rng = g.patient, np.random.default_rng((*g.seed, 1))
    r = losses.advantage(torch.tensor([r.total for r in rewards]), c.spread).to(g.latents)
    at = 1.0 if rng.random() < c.t1_probability else float(rng.random())
    shared = at == 1.0 and policy.model.blind_at_one
    chosen = np.arange(len(r)) if shared else rng.choice(len(r), min(c.pairs, len(r)), replace=False)
    x0 = torch.cat([g.latents[chosen], p.reference])
    t = torch.full((len(x0),), at, device=x0.device)
    x_t, v, v_base, report, fit = _evaluated(policy, p, x0, t, c, (*g.seed, 2))
    with policy.holding(policy.old) as model:
        v_old = p.velocity(model, x_t, t, c.precision)
    part = slice(0, len(chosen))
    loss, found = losses.nft_loss(
        v[part], v_old[part], x_t[part], x0[part], t[part], r[chosen], p.region, c.beta
    )
    return loss + fit, {**found, **report}


def learn_direct(policy: Policy, g: Group, rewards: list[Reward], c: PostConfig) -> Outcome:
    """The differentiable twin of the same reward, through a one-step prediction."""
    p = g.patient
    t = torch.ones(1, device=p.reference.device)
    x_t, v, _, report, fit = _evaluated(policy, p, p.reference, t, c, (*g.seed, 2))
    dose = p.to_gy(policy.model, vp.data_from_velocity(x_t, v, t))[0]
    held = p.reward_on_case.moved(lambda array: torch.from_numpy(array).to(dose.device))
    found = held.reward(dose, g.base_mae_gy, SoftDVH)
    return fit - found.total, {"nft": -as_float(found.total), **report, **found.parts()}


def learn_ddpo(policy: Policy, g: Group, rewards: list[Reward], c: PostConfig) -> Outcome:
    """Policy gradient on the sampler's stochastic steps (DDPO, arXiv 2305.13301), with the clipped ratio of
    importance; rewards normalised per patient."""
    p, totals = g.patient, torch.tensor([r.total for r in rewards]).to(g.latents)
    scale = (totals - totals.mean()) / totals.std(correction=0).clamp(min=1e-8)
    rng = np.random.default_rng((*g.seed, 1))
    step = g.taken[int(rng.integers(len(g.taken)))]
    with policy.holding(policy.old) as model:
        before = step.log_density(p.velocity(model, step.x, step.t, c.precision), p.region)
    v = p.velocity(policy.model, step.x, step.t, c.precision)
    ratio = (step.log_density(v, p.region) - before).exp()
    clipped = ratio.clamp(1 - c.ratio_clip, 1 + c.ratio_clip)
    loss = -torch.minimum(ratio * scale, clipped * scale).mean()
    *_, report, fit = _evaluated(policy, p, p.reference, torch.ones_like(step.t[:1]), c, (*g.seed, 2))
    return loss + fit, {"nft": float(loss.detach()), **report}


def _evaluated(
    policy: Policy, p: Patient, x0: Tensor, t: Tensor, c: PostConfig, seed: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, dict[str, float], Tensor]:
    """(x_t, v, v_base, report, what keeps v in place) of rows x0 noised to t, the reference dose the last:
    lambda L_diff on that row and the distance to the base model on all."""
    eps = torch.randn(x0.shape, generator=_generator(seed)).to(x0)
    x_t = vp.noised(x0, eps, t)
    with policy.holding(policy.base) as model:
        v_base = p.velocity(model, x_t, t, c.precision)
    v = p.velocity(policy.model, x_t, t, c.precision)
    true = vp.velocity(x0[-1:], eps[-1:], t[-1:])
    diffusion, _ = losses.velocity_loss(v[-1:], true, p.region)
    gap, report = losses.velocity_gap(v, v_base, p.region)
    report["diffusion"] = float(diffusion.detach())
    return x_t, v, v_base, report, c.diffusion_weight * diffusion + c.kl * gap


METHODS: dict[str, Method] = {
    "nft": Method(sample_candidates, learn_nft),
    "direct": Method(sample_base, learn_direct),
    "ddpo": Method(sample_trajectories, learn_ddpo),
}
