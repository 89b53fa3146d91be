"""From a case to a dose: draw -> encode -> sample -> decode -> grid, on one page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.volume import Volume, block
from anydose.diffusion.sampler import SAMPLERS
from anydose.model.any2any import Any2Any
from anydose.model.sample import Sample, draw_sample, flipped, padded, working_case


@dataclass(frozen=True)
class Options:
    """How to sample. steps: network evaluations a sample; samples: how many doses; given: modalities to use
    ('' for all that the case has); flips: 1, 2 (left-right) or 4 mirror images averaged per sample."""

    steps: int = 2
    sampler: str = "ddim"
    samples: int = 1
    seed: int = 0
    given: tuple[str, ...] = ()
    target: str = "dose"
    flips: int = 1
    precision: str = "bf16"


@dataclass(frozen=True)
class Prediction:
    """mean: the target (c, d, h, w) in its unit on the case's grid; members: each sample, alike; views: the
    standard deviation over every mirror image of every sample, alike; used: the conditions that were visible;
    inferred: what the case did not state or had to be changed; seconds: by stage."""

    mean: NDArray[np.float32]
    members: tuple[NDArray[np.float32], ...]
    views: NDArray[np.float32]
    used: tuple[str, ...]
    inferred: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation over the members."""
        return np.std(np.stack(self.members), axis=0).astype(np.float32)

    def volume(self, case: Case, target: str = "dose") -> Volume:
        """The mean as a volume on the case's grid (one-channel targets)."""
        return Volume(self.mean[0], case.grid, modality.TABLE[target].unit)


def predict(model: Any2Any, case: Case, options: Options | None = None) -> Prediction:
    """Predict one modality of a case from the others. ValueError where the case lacks a wanted condition, a
    body or, for a dose, a prescription."""
    o = options or Options()
    begin = time.monotonic()
    conditions = _conditions(model, case, o)
    blind = replace(case, **{o.target: None}) if o.target in ("dose", "ct") else case
    work = working_case(blind, model.config.trained_mm, model.config.working_mm)
    sample, start = draw_sample(work, conditions)
    drawn = time.monotonic()
    drawings = list(sample_views(model, sample, o))
    back = partial(_to_grid, sample=sample, work=work, case=case, start=start, target=o.target)
    members = [back(torch.stack(views).mean(dim=0)) for views in drawings]
    spread = torch.stack([view for views in drawings for view in views]).std(dim=0, correction=0)
    done = time.monotonic()
    return Prediction(
        np.mean(np.stack(members), axis=0, dtype=np.float32),
        tuple(members),
        back(spread - 1) - np.float32(modality.TABLE[o.target].low),  # -1 maps to low, a spread of 0 to 0
        tuple(sample.volumes),
        work.inferred,
        {"draw": drawn - begin, "sample": done - drawn},
    )


def sample_target(model: Any2Any, sample: Sample, o: Options) -> Iterator[Tensor]:
    """`o.samples` samples (c, d, h, w) of the target in the model's range, on the sample's block."""
    for views in sample_views(model, sample, o):
        yield torch.stack(views).mean(dim=0)


@torch.inference_mode()
def sample_views(model: Any2Any, sample: Sample, o: Options) -> Iterator[list[Tensor]]:
    """`o.samples` times the `o.flips` mirror images, turned back, that one sample averages, each as in
    `sample_target`."""
    views = [(False, False), (True, False), (False, True), (True, True)][: o.flips]
    for number in range(o.samples):
        seeds = [(o.seed * 1000003 + number) * 4 + k for k in range(len(views))]
        images = (flipped(sample, *view, model.named_in_mirror(o.target)) for view in views)
        yield [
            _mirror(_sample_once(model, image, o, seed), o.target, *view)
            for image, view, seed in zip(images, views, seeds, strict=True)
        ]


def _sample_once(model: Any2Any, sample: Sample, o: Options, seed: int) -> Tensor:
    device = next(model.parameters()).device
    whole = padded(sample, model.multiple)
    given = {name: model.codec.encode(volume[None].to(device)) for name, volume in whole.volumes.items()}
    body = model.latent_body(whole.body[None].to(device))
    spacing = torch.tensor([sample.spacing_mm], device=device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(model.latent_shape(o.target, whole.body.shape), generator=generator).to(device)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=o.precision == "bf16"):
            return model.velocity(x, t.to(device), o.target, given, spacing, body).float()

    latent = SAMPLERS[o.sampler](velocity, noise, o.steps)
    air = model.air(o.target, whole.body.shape, sample.reference_gy)
    latent = torch.where(model.region(body, o.target), latent, air)
    volume = model.codec.decode(latent)[0].float().cpu()
    before = [(n - m) // 2 for n, m in zip(whole.body.shape, sample.body.shape, strict=True)]
    return volume[(slice(None), *(slice(b, b + m) for b, m in zip(before, sample.body.shape, strict=True)))]


def _mirror(volume: Tensor, target: str, left_right: bool, cranio_caudal: bool) -> Tensor:
    one = Sample("", {target: volume}, volume[0] > 0, (1.0, 1.0, 1.0), 1.0)
    return flipped(one, left_right, cranio_caudal).volumes[target]


def _conditions(model: Any2Any, case: Case, o: Options) -> tuple[str, ...]:
    known = model.config.modalities
    for name in (o.target, *o.given):
        if name not in known:
            raise ValueError(f"modality {name!r}: one of {', '.join(known)} is accepted")
    if o.target in o.given:
        raise ValueError(f"modality {o.target!r} is both given and the target")
    if o.sampler not in SAMPLERS:
        raise ValueError(f"sampler {o.sampler!r}: one of {', '.join(SAMPLERS)} is accepted")
    if o.flips not in (1, 2, 4) or o.samples < 1:
        raise ValueError(f"{o.flips} flips and {o.samples} samples: 1, 2 or 4 flips and at least 1 sample")
    if o.target == "dose" and not case.prescription.levels_gy:
        raise ValueError(f"{case.name}: no prescription; give each target its dose in Gy")
    return modality.subset(o.given or (name for name in known if name != o.target))


def _to_grid(
    volume: Tensor, sample: Sample, work: Case, case: Case, start: Sequence[int], target: str
) -> NDArray[np.float32]:
    """Model range on the block -> physical values on the grid of `case`, by way of the grid worked on;
    nothing outside the body, no negative dose."""
    row = modality.TABLE[target]
    values = row.from_range(volume.numpy(), sample.reference_gy if row.by_reference else 1.0)
    if target != "body":
        values = np.where(sample.body.numpy(), values, np.float32(row.outside))
    if target == "dose":
        values = np.maximum(values, 0.0)
    back = tuple(-s for s in start)
    whole = block(values.astype(np.float32), back, work.grid.shape, row.outside)
    if work.grid is case.grid:
        return whole
    moved = np.stack(
        [Volume(c, work.grid, row.unit).resample(case.grid, outside=row.outside).array for c in whole]
    )
    return moved if target == "body" else np.where(case.body, moved, np.float32(row.outside))
