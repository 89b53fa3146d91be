"""From a case to a dose: draw, encode, sample, decode, what the beams can reach, grid; on one page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydose.case import dose_mimicking as fluence
from anydose.case import modality
from anydose.case.case import Case
from anydose.case.volume import Volume, block
from anydose.diffusion.sampler import SAMPLERS
from anydose.model.any2any import Any2Any
from anydose.model.sample import Sample, draw_sample, flipped, padded, padding, working_case

AS_PREDICTED = "the dose is the network's own: what the beams can reach needs a target and static beams"


@dataclass(frozen=True)
class Options:
    """How to sample. steps: network evaluations a sample; samples: how many doses; given: modalities to use
    ('' for all that the case has); views: 1, 2 or 4 looks at the patient averaged per sample (VIEWS);
    reachable: draw a dose towards the nearest within reach of the given beams (case/fluence.py)."""

    steps: int = 2
    sampler: str = "ddim"
    samples: int = 1
    seed: int = 0
    given: tuple[str, ...] = ()
    target: str = "dose"
    views: int = 1
    reachable: bool = False
    precision: str = "bf16"


@dataclass(frozen=True)
class View:
    """One look at a patient: mirrored left to right, moved by a voxel against the model's patches, without
    some conditions (for a dose). The more two of them differ, the more their mean is worth."""

    mirrored: bool = False
    moved: bool = False
    without: tuple[str, ...] = ()


VIEWS = (View(), View(True, True, ("ct",)), View(mirrored=True), View(moved=True, without=("ct",)))


@dataclass(frozen=True)
class Prediction:
    """mean: the target (c, d, h, w) in its unit on the case's grid; members: each sample, alike; views: the
    standard deviation over every view of every sample, alike; used: the conditions that were visible;
    inferred: what the case did not state or had to be changed; reachable: whether each member was drawn
    towards what the beams can reach; seconds: by stage."""

    mean: NDArray[np.float32]
    members: tuple[NDArray[np.float32], ...]
    views: NDArray[np.float32]
    used: tuple[str, ...]
    inferred: tuple[str, ...]
    reachable: bool = False
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
    sampled = time.monotonic()
    back = partial(_to_grid, work=work, case=case, start=start, target=o.target)
    values = np.stack([_physical(torch.stack(views).mean(dim=0), sample, o.target) for views in drawings])
    to_draw = o.reachable and o.target == "dose"
    plan = _plan(work.block(start, sample.body.shape), sample) if to_draw else None
    if plan is not None:
        values = fluence.reachable(values, plan)
    members = [back(value) for value in values]
    spread = torch.stack([view for views in drawings for view in views]).std(dim=0, correction=0)
    low = np.float32(modality.TABLE[o.target].low)  # -1 maps to it, a spread of 0 to 0
    said = (AS_PREDICTED,) if to_draw and plan is None else ()
    return Prediction(
        np.mean(np.stack(members), axis=0, dtype=np.float32),
        tuple(members),
        back(_physical(spread - 1, sample, o.target)) - low,
        tuple(sample.volumes),
        (*work.inferred, *said),
        plan is not None,
        {"draw": drawn - begin, "sample": sampled - drawn, "reach": time.monotonic() - sampled},
    )


def sample_target(model: Any2Any, sample: Sample, o: Options) -> Iterator[Tensor]:
    """`o.samples` samples (c, d, h, w) of the target in the model's range, on the sample's block."""
    for views in sample_views(model, sample, o):
        yield torch.stack(views).mean(dim=0)


@torch.inference_mode()
def sample_views(model: Any2Any, sample: Sample, o: Options) -> Iterator[list[Tensor]]:
    """`o.samples` times the `o.views` views, turned back, that one sample averages, each as in
    `sample_target`."""
    for number in range(o.samples):
        yield [
            _seen(model, sample, o, view, (o.seed * 1000003 + number) * 4 + k)
            for k, view in enumerate(VIEWS[: o.views])
        ]


def _seen(model: Any2Any, sample: Sample, o: Options, view: View, seed: int) -> Tensor:
    """The target of one view, turned back; conditions are left out of a dose's views alone, and where others
    remain."""
    rest = {name: volume for name, volume in sample.volumes.items() if name not in view.without}
    seen = replace(sample, volumes=rest) if rest and o.target == "dose" else sample
    image = flipped(seen, view.mirrored, False, model.named_in_mirror(o.target))
    out = {o.target: _sample_once(model, image, o, seed, int(view.moved))}
    return flipped(replace(image, volumes=out), view.mirrored, False).volumes[o.target]


def _sample_once(model: Any2Any, sample: Sample, o: Options, seed: int, move: int = 0) -> Tensor:
    device = next(model.parameters()).device
    whole = padded(sample, model.multiple, move=move)
    before = padding(sample.body.shape, model.multiple, move=move)[1]
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
    return volume[(slice(None), *(slice(b, b + m) for b, m in zip(before, sample.body.shape, strict=True)))]


def _conditions(model: Any2Any, case: Case, o: Options) -> tuple[str, ...]:
    known = model.config.modalities
    for name in (o.target, *o.given):
        if name not in known:
            raise ValueError(f"modality {name!r}: one of {', '.join(known)} is accepted")
    if o.target in o.given:
        raise ValueError(f"modality {o.target!r} is both given and the target")
    if o.sampler not in SAMPLERS:
        raise ValueError(f"sampler {o.sampler!r}: one of {', '.join(SAMPLERS)} is accepted")
    if o.views not in (1, 2, 4) or o.samples < 1:
        raise ValueError(f"{o.views} views and {o.samples} samples: 1, 2 or 4 views and at least 1 sample")
    if o.target == "dose" and not case.prescription.levels_gy:
        raise ValueError(f"{case.name}: no prescription; give each target its dose in Gy")
    return modality.subset(o.given or (name for name in known if name != o.target))


def _plan(part: Case, sample: Sample) -> Case | None:
    """The block as a case whose beams can be asked what they reach, with what `sample` shows alone; None
    where beams or targets are not shown or their doses are not defined."""
    shown = sample.volumes.keys()
    if not {"ptv", "beam"} <= shown or not fluence.is_defined(part):
        return None
    hidden = () if "oar" in shown else part.of_role("oar")
    kept = {name: mask for name, mask in part.structures.items() if name not in hidden}
    return replace(part, ct=part.ct if "ct" in shown else None, structures=kept)


def _physical(volume: Tensor, sample: Sample, target: str) -> NDArray[np.float32]:
    """Model range -> physical values on the block; nothing outside the body, no negative dose."""
    row = modality.TABLE[target]
    values = row.from_range(volume.numpy(), sample.reference_gy if row.by_reference else 1.0)
    if target != "body":
        values = np.where(sample.body.numpy(), values, np.float32(row.outside))
    return np.asarray(np.maximum(values, 0.0) if target == "dose" else values, dtype=np.float32)


def _to_grid(
    values: NDArray[np.float32], work: Case, case: Case, start: Sequence[int], target: str
) -> NDArray[np.float32]:
    """Values on the block -> on the grid of `case`, by way of the grid worked on."""
    row = modality.TABLE[target]
    whole = block(values, tuple(-s for s in start), work.grid.shape, row.outside)
    if work.grid is case.grid:
        return whole
    moved = np.stack(
        [Volume(c, work.grid, row.unit).resample(case.grid, outside=row.outside).array for c in whole]
    )
    return moved if target == "body" else np.where(case.body, moved, np.float32(row.outside))
