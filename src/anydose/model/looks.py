"""Sampling a modality of one rendered patient: one look, or the mean of several (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anydose.diffusion.sampler import SAMPLERS
from anydose.model.any2any import Any2Any
from anydose.model.augment import flipped
from anydose.model.options import Options
from anydose.model.sample import Sample, padded, padding


@dataclass(frozen=True)
class Look:
    """One look at a patient. The more two looks differ, the more their mean is worth."""

    mirrored: bool = False
    """Left to right."""
    moved: bool = False
    """By a voxel against the model's patches."""
    without: tuple[str, ...] = ()
    """Conditions that are left out where a dose is wanted and others remain."""


LOOKS = (
    Look(),
    Look(mirrored=True, moved=True, without=("ct",)),
    Look(mirrored=True),
    Look(moved=True, without=("ct",)),
)


def sample_target(model: Any2Any, sample: Sample, options: Options) -> Iterator[Tensor]:
    """`options.samples` samples (c, d, h, w) of the target in the model's range, on the sample's block."""
    for looks in sample_looks(model, sample, options):
        yield torch.stack(looks).mean(dim=0)


@torch.inference_mode()
def sample_looks(model: Any2Any, sample: Sample, options: Options) -> Iterator[list[Tensor]]:
    """`options.samples` times the looks that one sample averages, each mirrored back."""
    for number in range(options.samples):
        first_seed = (options.seed * 1000003 + number) * len(LOOKS)
        yield [
            _one_look(model, sample, options, look, seed=first_seed + k)
            for k, look in enumerate(LOOKS[: options.looks])
        ]


def _one_look(model: Any2Any, sample: Sample, options: Options, look: Look, seed: int) -> Tensor:
    """The target of one look, mirrored back."""
    shown = _without(sample, look.without) if options.target == "dose" else sample
    image = flipped(shown, look.mirrored, False, model.unswapped_when_mirrored(options.target))
    found = _sample_once(model, image, options, seed, move=int(look.moved))
    back = flipped(replace(image, volumes={options.target: found}), look.mirrored, False)
    return back.volumes[options.target]


def _without(sample: Sample, hidden: tuple[str, ...]) -> Sample:
    """The sample without some conditions; itself if no other would remain."""
    rest = {name: volume for name, volume in sample.volumes.items() if name not in hidden}
    return replace(sample, volumes=rest) if rest else sample


def _sample_once(model: Any2Any, sample: Sample, options: Options, seed: int, move: int) -> Tensor:
    """Encode what is given, sample the target's latent from noise, decode it: (c, d, h, w) on the block."""
    model.must_know(sample.organs)
    options = model.as_trained(options)
    target, device = options.target, next(model.parameters()).device
    whole = padded(sample, model.multiple, move=move)
    space = whole.body.shape

    given = {name: model.encode(name, volume[None].to(device)) for name, volume in whole.volumes.items()}
    body = model.latent_body(whole.body[None].to(device))
    spacing = torch.tensor([sample.spacing_mm], device=device)
    noise = torch.randn(model.latent_shape(target, space), generator=torch.Generator().manual_seed(seed))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            return model.velocity(x, t.to(device), target, given, spacing, body).float()

    latent = SAMPLERS[options.sampler](velocity, noise.to(device), options.steps)
    background = model.background(target, space, sample.rx_max_gy)
    latent = torch.where(model.region(body, target), latent, background)
    volume = model.decode(target, latent)[0].float().cpu()

    before = padding(sample.body.shape, model.multiple, move=move)[1]
    block = (slice(start, start + size) for start, size in zip(before, sample.body.shape, strict=True))
    return volume[(slice(None), *block)]
