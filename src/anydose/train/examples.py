"""What one step trains on: a draw (tasks.py) applied to a patient. Geometry is prepared on the CPU, ahead and
in other processes; the codec runs where the model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from anydose.diffusion import path as vp
from anydose.model.any2any import Any2Any
from anydose.model.augment import cropped, flipped, rotated
from anydose.model.sample import Sample, padded, structures
from anydose.train.data import Cohort
from anydose.train.latents import LatentCohort, Latents
from anydose.train.tasks import Draw, TaskConfig, draw


@dataclass(frozen=True)
class Example:
    """One training example, on the model's device."""

    inputs: dict[str, Any]
    """The arguments of `Any2Any.velocity`."""
    v_true: Tensor
    """The velocity (1, c, d, h, w) to learn."""
    masks: Tensor | None = None
    """Masks (s, d, h, w) of the structures whose DVHs count, for a dose."""


Prepared = tuple[Sample | Latents, Draw]


@dataclass(frozen=True)
class Geometry:
    """What preparing a patient needs to know of the model. No weights: other processes get a copy, and must
    not touch a GPU."""

    multiple: tuple[int, int, int]
    """Volume sizes are multiples of this, along (z, y, x)."""
    unswapped: dict[str, tuple[str, ...]]
    """{target: the conditions whose channels stay what they are in a mirror image}."""


def geometry_of(model: Any2Any) -> Geometry:
    """The geometry that a model wants."""
    names = model.config.modalities
    return Geometry(model.multiple, {target: model.unswapped_when_mirrored(target) for target in names})


def example(model: Any2Any, sample: Sample, d: Draw, objective: str, crop: tuple[int, ...] = ()) -> Example:
    """Apply a draw to a patient."""
    return encoded(model, changed_patient(geometry_of(model), sample, d, crop), d, objective)


def changed_patient(geometry: Geometry, sample: Sample, d: Draw, crop: tuple[int, ...] = ()) -> Sample:
    """The patient cropped, augmented and padded as a draw says."""
    a = d.augmentation
    if crop:
        sample = cropped(sample, (crop[0], crop[1], crop[2]), a.offset)
    sample = rotated(sample, a.rotation_deg, a.zoom, a.deformation_mm, d.noise_seed)
    sample = padded(sample, geometry.multiple, a.offset)
    return flipped(sample, a.left_right, a.cranio_caudal, geometry.unswapped[d.target])


@torch.no_grad()
def encoded(model: Any2Any, sample: Sample, d: Draw, objective: str) -> Example:
    """A changed patient as the model's inputs, the true v and, for a dose, the masks of its DVHs."""
    model.must_know(sample.organs)
    device = next(model.parameters()).device
    names = (d.target, *d.visible)
    values = {name: model.encode(name, _sent(sample.volumes[name][None], device)) for name in names}
    body = model.latent_body(_sent(sample.body[None], device))
    noisy = noisy_example(Latents(sample.name, values, body, sample.spacing_mm), d, objective)
    masks = structures(sample).to(device) if d.target == "dose" else None
    return Example(noisy.inputs, noisy.v_true, masks)


def noisy_example(latents: Latents, d: Draw, objective: str) -> Example:
    """Apply a draw to latents; there are no masks. Regression feeds no noise: x_t = 0 at t = 1, v = -x_0. The
    noise is drawn on the CPU, so that every device trains on the same."""
    generator = torch.Generator().manual_seed(d.noise_seed)
    given = {name: latents.values[name] for name in d.visible}
    x0 = latents.values[d.target]
    diffuses = objective == "diffusion"
    t = torch.tensor([d.t if diffuses else 1.0], device=x0.device)
    eps = torch.randn(x0.shape, generator=generator).to(x0) if diffuses else torch.zeros_like(x0)
    inputs = {
        "noisy": vp.noised(x0, eps, t),
        "t": t,
        "target": d.target,
        "given": given,
        "spacing_mm": torch.tensor([latents.spacing_mm], device=x0.device),
        "body": latents.body,
    }
    return Example(inputs, vp.velocity(x0, eps, t))


def _sent(volume: Tensor, device: torch.device) -> Tensor:
    """A volume where the model is; from page-locked memory, the copy does not hold up what comes before."""
    return volume.to(device, non_blocking=True)


def on_device(latents: Latents, device: torch.device) -> Latents:
    """Cached latents where the model is."""
    values = {name: value.to(device, non_blocking=True) for name, value in latents.values.items()}
    body = latents.body.to(device, non_blocking=True)
    return Latents(latents.name, values, body, latents.spacing_mm)


@dataclass(frozen=True, eq=False)
class Patients(Dataset[Prepared]):
    """The changed patients of a run, by (progress, number of the example); a plain record, so that other
    processes can prepare them."""

    geometry: Geometry
    cohort: Cohort | LatentCohort
    task: TaskConfig
    crop: tuple[int, ...]
    seed: int

    def __getitem__(self, key: tuple[float, int]) -> Prepared:
        progress, number = key
        d = draw(self.task, self.cohort.modalities, self.seed, number, progress)
        if isinstance(self.cohort, LatentCohort):
            return self.cohort.load(d.case, d.noise_seed), d
        return changed_patient(self.geometry, self.cohort.load(d.case), d, self.crop), d
