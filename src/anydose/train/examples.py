"""What one step trains on: a draw (tasks.py) applied to a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from anydose.diffusion import path as vp
from anydose.model.any2any import Any2Any
from anydose.model.augment import cropped, flipped, turned
from anydose.model.sample import Sample, padded, structures
from anydose.train.data import Cohort
from anydose.train.latents import LatentCohort, Latents
from anydose.train.tasks import Draw, TaskConfig, draw

Example = tuple[dict[str, Any], Tensor, Tensor | None]  # inputs, true v, masks (s, d, h, w) of the DVHs


def example(model: Any2Any, sample: Sample, d: Draw, objective: str, crop: tuple[int, ...] = ()) -> Example:
    """Apply a draw to volumes: the model's inputs, the true v and, for a dose, the masks of its DVHs."""
    a = d.augmentation
    if crop:
        sample = cropped(sample, (crop[0], crop[1], crop[2]), a.offset)
    sample = turned(sample, a.rotation_deg, a.zoom, a.deformation_mm, d.noise_seed)
    sample = padded(sample, model.multiple, a.offset)
    sample = flipped(sample, a.left_right, a.cranio_caudal, model.named_in_mirror(d.target))
    values = {name: model.codec.encode(sample.volumes[name][None]) for name in (d.target, *d.visible)}
    body = model.latent_body(sample.body[None])
    inputs, v, _ = noisy_example(Latents(sample.name, values, body, sample.spacing_mm), d, objective)
    return inputs, v, structures(sample) if d.target == "dose" else None


def noisy_example(latents: Latents, d: Draw, objective: str) -> Example:
    """Apply a draw to latents: the model's inputs, the true v, and no masks. Regression feeds no noise: x_t =
    0 at t = 1, v = -x_0."""
    generator = torch.Generator().manual_seed(d.noise_seed)
    latent = {name: latents.values[name] for name in (d.target, *d.visible)}
    x0, t = latent.pop(d.target), torch.tensor([d.t if objective == "diffusion" else 1.0])
    eps = torch.randn(x0.shape, generator=generator) if objective == "diffusion" else torch.zeros_like(x0)
    inputs = {
        "noisy": vp.noised(x0, eps, t),
        "t": t,
        "target": d.target,
        "given": latent,
        "spacing_mm": torch.tensor([latents.spacing_mm]),
        "body": latents.body,
    }
    return inputs, vp.velocity(x0, eps, t), None


@dataclass(frozen=True, eq=False)
class Examples(Dataset[Example]):
    """The examples of a run, by (step, number of the example); a plain record, so that other processes can
    prepare them."""

    model: Any2Any
    cohort: Cohort | LatentCohort
    task: TaskConfig
    objective: str
    crop: tuple[int, ...]
    seed: int
    steps: int

    def __getitem__(self, key: tuple[int, int]) -> Example:
        step, number = key
        d = draw(self.task, self.cohort.modalities, self.seed, number, step / self.steps)
        if isinstance(self.cohort, LatentCohort):
            return noisy_example(self.cohort.load(d.case, d.noise_seed), d, self.objective)
        with torch.no_grad():
            return example(self.model, self.cohort.load(d.case), d, self.objective, self.crop)
