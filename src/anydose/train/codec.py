"""Training of the compact codec: the absolute error of its round trip on drawn volumes, half of them
doses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.model.augment import flipped
from anydose.model.codec.codec import IdentityCodec
from anydose.model.codec.compact import STRIDE, CompactCodec
from anydose.model.codec.compact import save as save_codec
from anydose.model.sample import Sample, padded
from anydose.train.data import Cohort


@dataclass(frozen=True)
class CodecConfig:
    """Training of the compact codec, fully resolved."""

    data: str = "runs/rendered/train"
    """Folder of rendered cases (`anydose render`)."""
    out: str = "runs/codec"
    """Folder of the codec's file."""

    latent_channels: int = 32
    """Channels of the latent."""
    axes_cases: int = 50
    """Cases whose dose blocks give the principal axes that training starts from."""

    steps: int = 300
    """Optimiser steps."""
    channels: int = 3
    """Volumes a step, the dose first."""
    learning_rate: float = 3e-4
    """Learning rate after a warm-up of 50 steps."""
    seed: int = 0
    """Seed of weights and draws."""
    threads: int = 1
    """Threads of torch."""


def train(config: CodecConfig, device: str = "cpu") -> Iterator[tuple[int, float]]:
    """Train and save `out`/codec.safetensors; yields (step, mean absolute error in model range)."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    cohort, model = Cohort(Path(config.data)), CompactCodec(config.latent_channels)
    model.start_from(*principal_axes(cohort, config.axes_cases, config.latent_channels))
    place = torch.device(device)
    for layer in model.to(place).modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: min(1, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / config.steps))
    )
    for step in range(config.steps):
        volumes, weight = (each.to(place) for each in _batch(cohort, config, step))
        with torch.autocast(place.type, torch.bfloat16):
            back = model.decode(model.encode(volumes))
        loss = ((back.float() - volumes).abs() * weight).sum() / weight.expand_as(volumes).sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        yield step + 1, float(loss.detach())
    Path(config.out).mkdir(parents=True, exist_ok=True)
    record = {"recipe": asdict(config), "cases": len(cohort), "torch": torch.__version__}
    save_codec(model, Path(config.out) / "codec.safetensors", record)


@torch.no_grad()
def principal_axes(cohort: Cohort, cases: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(mean (64,), axes (64, count), standard deviations (count,)) of the body's dose blocks, over `cases`
    cases spread through the cohort."""
    patches, found = IdentityCodec(STRIDE), []
    usable = [k for k, names in enumerate(cohort.modalities) if "dose" in names]
    for index in usable[:: max(1, len(usable) // cases)][:cases]:
        sample = padded(cohort.load(index), STRIDE)
        inside = F.max_pool3d(sample.body[None, None].float(), STRIDE)[0, 0] > 0
        found.append(patches.encode(sample.volumes["dose"][None])[0][:, inside].T)
    blocks = torch.cat(found)
    mean = blocks.mean(dim=0)
    variance, axes = torch.linalg.eigh(torch.cov((blocks - mean).T))
    return mean, axes.flip(1)[:, :count], variance.flip(0)[:count].clamp_min(1e-12).sqrt()


def _batch(cohort: Cohort, config: CodecConfig, step: int) -> tuple[Tensor, Tensor]:
    """(volumes (k, 1, d, h, w), weight): the dose first if there is one, then random channels of one
    patient."""
    rng = np.random.default_rng([config.seed, step])
    sample = cohort.load(int(rng.integers(len(cohort))))
    sample = flipped(padded(sample, STRIDE, tuple(rng.random(3))), *(rng.random(2) < 0.5))
    picked = [_channel(sample, rng, k == 0) for k in range(config.channels)]
    body = F.max_pool3d(sample.body[None, None].float(), 5, stride=1, padding=2)
    return torch.stack(picked), 0.1 + 0.9 * body


def _channel(sample: Sample, rng: np.random.Generator, dose: bool) -> Tensor:
    names = ["dose"] if dose and "dose" in sample.volumes else list(sample.volumes)
    volume = sample.volumes[names[int(rng.integers(len(names)))]]
    k = int(rng.integers(len(volume)))
    return volume[k : k + 1]
