"""Candidates: several doses of one patient sampled together from a policy, and in Gy for the reward.

The conditions are encoded once. Where the network does not see the noise at t = 1 (Any2Any.blind_at_one)
one evaluation there serves all candidates: k candidates of n steps cost 1 + k (n - 1) evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from anydose.case import modality
from anydose.case.case import Case
from anydose.diffusion.sampler import Velocity, ddim
from anydose.io.store import read_stored
from anydose.model.any2any import Any2Any
from anydose.model.sample import Sample, body_block, padded, padding
from anydose.train.data import Cohort
from anydose.train.posttrain.reward import Reward, RewardConfig, RewardOnCase, bind_reward

CHUNK = 4  # samples evaluated as one batch


@dataclass(frozen=True)
class Patient:
    """One patient, encoded."""

    sample: Sample
    """As it was drawn."""
    reward_on_case: RewardOnCase
    """The reward, bound to the case."""
    given: Mapping[str, Tensor]
    """Latents (1, c, d, h, w) of the conditions."""
    body: Tensor
    """The body on the latent grid, (1, 1, d, h, w)."""
    region: Tensor
    """What the network predicts, likewise."""
    spacing_mm: Tensor
    """Of the voxels, (1, 3)."""
    reference: Tensor
    """Latent (1, c, d, h, w) of the reference dose."""
    background: Tensor
    """Latent where there is no patient, likewise."""
    inside: tuple[slice, ...]
    """The patient's block within the padded volume."""

    def velocity(self, model: Any2Any, x: Tensor, t: Tensor, precision: str = "bf16") -> Tensor:
        """v (k, c, d, h, w) of the dose's latent x at times t (k,), in float32."""
        if model.blind_at_one and len(x) > 1 and bool((t >= 1).all()):
            return self.velocity(model, x[:1], t[:1], precision).expand_as(x)
        parts = []
        for x_part, t_part in zip(torch.split(x, CHUNK), torch.split(t, CHUNK), strict=True):
            n = len(x_part)
            given = {name: latent.expand(n, -1, -1, -1, -1) for name, latent in self.given.items()}
            body = self.body.expand(n, -1, -1, -1, -1)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
                v = model.velocity(x_part, t_part, "dose", given, self.spacing_mm.expand(n, 3), body)
            parts.append(v.float())
        return torch.cat(parts)

    def policy(self, model: Any2Any, precision: str = "bf16") -> Velocity:
        """The model on this patient, as a sampler takes it."""
        return lambda x, t: self.velocity(model, x, t.to(x.device), precision)

    def to_gy(self, model: Any2Any, latents: Tensor) -> Tensor:
        """Latents (k, c, d, h, w) as doses (k, d, h, w) in Gy on the case's block, with gradients: nothing
        outside the body, no negative dose, as `predict` delivers them."""
        volumes = model.codec.decode(torch.where(self.region, latents, self.background)).float()
        return self.in_gy(volumes[(slice(None), slice(None), *self.inside)])[:, 0]

    def in_gy(self, volume: Tensor) -> Tensor:
        """The dose modality (..., d, h, w) in the model's range as Gy, on the case's block."""
        row, body = modality.TABLE["dose"], self.sample.body.to(volume.device)
        scaled = (volume + 1) * ((row.high - row.low) / 2) + row.low
        return (scaled * self.sample.rx_max_gy).clamp(min=0) * body


@torch.no_grad()
def prepare(model: Any2Any, sample: Sample, case: Case, reward: RewardConfig) -> Patient:
    """Encode a drawn case and hold the reward on it. case: the same patient with its structures and dose, on
    any grid that holds the drawn block. ValueError if there is no reference dose."""
    block = case.block(*body_block(case))
    if "dose" not in sample.volumes or block.dose is None:
        raise ValueError(f"{sample.name}: no reference dose; post-training needs one")
    if block.grid.shape != tuple(sample.body.shape):
        found = f"drawn {tuple(sample.body.shape)}, stored {block.grid.shape}"
        raise ValueError(f"{sample.name}: {found}: the drawn case and the stored one are not the same")
    device = next(model.parameters()).device
    whole = padded(sample, model.multiple)
    latents = {name: model.encode(name, volume[None].to(device)) for name, volume in whole.volumes.items()}
    reference = latents.pop("dose")
    body = model.latent_body(whole.body[None].to(device))
    first = padding(sample.body.shape, model.multiple)[1]
    return Patient(
        sample=sample,
        reward_on_case=bind_reward(block, reward),
        given=latents,
        body=body,
        region=model.region(body, "dose"),
        spacing_mm=torch.tensor([sample.spacing_mm], device=device),
        reference=reference,
        background=model.background("dose", whole.body.shape, sample.rx_max_gy),
        inside=tuple(slice(s, s + n) for s, n in zip(first, sample.body.shape, strict=True)),
    )


def load_patient(model: Any2Any, cohort: Cohort, number: int, cases: Path, reward: RewardConfig) -> Patient:
    """One patient of a drawn cohort, with its structures from the cohort store `cases`."""
    sample = cohort.load(number)
    return prepare(model, sample, read_stored(cases / sample.name), reward)


@torch.no_grad()
def one_step(model: Any2Any, patient: Patient, precision: str = "bf16") -> Reward:
    """The reward of a model's one-step dose from fixed noise, without the anchor."""
    noise = starting_noise(tuple(patient.reference.shape), 1, torch.Generator().manual_seed(0))
    latent = ddim(patient.policy(model, precision), noise.to(patient.reference), 1)
    return patient.reward_on_case.reward(patient.to_gy(model, latent)[0].cpu().numpy())


def starting_noise(
    shape: tuple[int, ...], k: int, generator: torch.Generator, coarse_share: float = 0.0, block: int = 8
) -> Tensor:
    """Noise (k, c, d, h, w) of unit variance for a latent of `shape` (1, c, d, h, w): white, with
    `coarse_share` of its variance common to cubes of `block`^3 latent voxels at a random offset.

    White noise averages out over an organ: candidates differ by voxels, hardly by D95 or a mean dose. The
    coarse part makes them differ in what a scorecard measures. It is a behaviour policy for exploration:
    the loss noises candidates with white noise again, and predictions never use it."""
    white = torch.randn(k, *shape[1:], generator=generator)
    if not coarse_share:
        return white
    size = [n // block + 2 for n in shape[2:]]
    cubes = F.interpolate(torch.randn(k, 1, *size, generator=generator), scale_factor=block, mode="nearest")
    starts = torch.randint(block, (3,), generator=generator).tolist()
    where = (slice(s, s + n) for s, n in zip(starts, shape[2:], strict=True))
    coarse: Tensor = cubes[(slice(None), slice(None), *where)]
    return math.sqrt(1 - coarse_share) * white + math.sqrt(coarse_share) * coarse
