"""From a case to a dose on one page: render, sample and decode, mimic, back to the case's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydose.case import dose_mimicking, modality
from anydose.case.case import Case
from anydose.case.volume import Volume, block
from anydose.diffusion.sampler import SAMPLERS
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.checkpoint import load_model
from anydose.model.looks import sample_looks
from anydose.model.options import Options
from anydose.model.sample import Sample, draw_sample, working_case

NOT_MIMICKED = "the dose is the network's own: dose mimicking needs a target and static beams"
STAGES = ("render", "sample", "mimic", "grid")


@dataclass(frozen=True)
class Prediction:
    """What was predicted, on the case's grid, in the target's unit."""

    mean: NDArray[np.float32]
    """The target (c, d, h, w): the mean over the members."""
    members: tuple[NDArray[np.float32], ...]
    """Each sample (c, d, h, w)."""
    look_std: NDArray[np.float32]
    """Standard deviation (c, d, h, w) over every look of every sample."""
    used: tuple[str, ...]
    """The conditions that were shown."""
    inferred: tuple[str, ...]
    """What the case did not state or had to be changed, a sentence each."""
    mimicked: bool = False
    """Whether each member was moved towards what the beams can deliver."""

    @property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation (c, d, h, w) over the members."""
        return np.std(np.stack(self.members), axis=0).astype(np.float32)

    def volume(self, case: Case, target: str = "dose") -> Volume:
        """The mean as a volume on the case's grid (one-channel targets)."""
        return Volume(self.mean[0], case.grid, modality.TABLE[target].unit)


def predict(
    model: Any2Any | str | Path,
    case: Case | str | Path,
    options: Options | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Prediction:
    """Predict one modality of a case from the others.

    Args:
        model: a loaded model, a shipped model's name or a checkpoint's path.
        case: a case, or the path of one in any format that `read_case` knows.
        options: how to predict; the default is what ships.
        on_stage: called with each name of STAGES when that stage is done.

    Raises:
        ValueError: the case lacks a wanted condition, a body or, for a dose, a prescription.
    """
    options, done = options or Options(), on_stage or _ignore
    model = _loaded(model)
    case = case if isinstance(case, Case) else read_case(Path(case))
    conditions = _conditions(model, case, options)

    work = working_case(_blind(case, options.target), model.config.trained_mm, model.config.working_mm)
    sample, start = draw_sample(work, conditions)
    done("render")
    looks = torch.stack([torch.stack(each) for each in sample_looks(model, sample, options)])
    members = [_physical(member, sample, options.target) for member in looks.mean(dim=1)]
    done("sample")
    plan = _plan(work.block(start, sample.body.shape), sample) if _wants_mimicking(options) else None
    if plan is not None:
        members = list(dose_mimicking.mimic(np.stack(members), plan))
    done("mimic")
    to_grid = partial(_to_grid, work=work, case=case, start=start, target=options.target)
    on_grid = tuple(to_grid(member) for member in members)
    look_std = _physical_width(looks.flatten(0, 1).std(dim=0, correction=0), sample, options.target)
    prediction = Prediction(
        mean=np.mean(np.stack(on_grid), axis=0, dtype=np.float32),
        members=on_grid,
        look_std=to_grid(look_std, outside=0.0),
        used=tuple(sample.volumes),
        inferred=(*work.inferred, *((NOT_MIMICKED,) if _wants_mimicking(options) and plan is None else ())),
        mimicked=plan is not None,
    )
    done("grid")
    return prediction


def _ignore(stage: str) -> None:
    """Nobody watches."""


def _loaded(model: Any2Any | str | Path) -> Any2Any:
    if isinstance(model, Any2Any):
        return model
    return load_model(registry.find(str(model))).on(pick_device("auto"))


def _blind(case: Case, target: str) -> Case:
    """The case without the volume that is to be predicted."""
    return replace(case, **{target: None}) if target in ("dose", "ct") else case


def _wants_mimicking(options: Options) -> bool:
    return options.mimic and options.target == "dose"


def _conditions(model: Any2Any, case: Case, options: Options) -> tuple[str, ...]:
    """The modalities to show, in the table's order; ValueError where the options cannot be met."""
    known, target = model.config.modalities, options.target
    for name in (target, *options.given):
        if name not in known:
            raise ValueError(f"modality {name!r}: one of {', '.join(known)} is accepted")
    if target in options.given:
        raise ValueError(f"modality {target!r} is both given and the target")
    if options.sampler not in SAMPLERS:
        raise ValueError(f"sampler {options.sampler!r}: one of {', '.join(SAMPLERS)} is accepted")
    if options.looks not in (1, 2, 4) or options.samples < 1:
        raise ValueError(
            f"{options.looks} looks and {options.samples} samples: 1, 2 or 4 looks and at least 1 sample"
        )
    if target == "dose" and not case.prescription.levels_gy:
        raise ValueError(f"{case.name}: no prescription; give each target its dose in Gy")
    return modality.subset(options.given or (name for name in known if name != target))


def _plan(part: Case, sample: Sample) -> Case | None:
    """The block as a case whose beams can be asked what they deliver, with what `sample` shows alone; None
    where beams or targets are not shown or their doses are not defined."""
    shown = sample.volumes.keys()
    if not {"ptv", "beam"} <= shown or not dose_mimicking.is_defined(part):
        return None
    hidden = () if "oar" in shown else part.of_role("oar")
    kept = {name: mask for name, mask in part.structures.items() if name not in hidden}
    return replace(part, ct=part.ct if "ct" in shown else None, structures=kept)


def _physical(volume: Tensor, sample: Sample, target: str) -> NDArray[np.float32]:
    """Model range -> physical values on the block; nothing outside the body, no negative dose."""
    row = modality.TABLE[target]
    values = row.from_range(volume.numpy(), sample.rx_max_gy if row.by_reference else 1.0)
    if target != "body":
        values = np.where(sample.body.numpy(), values, np.float32(row.outside))
    return np.asarray(np.maximum(values, 0.0) if target == "dose" else values, dtype=np.float32)


def _physical_width(width: Tensor, sample: Sample, target: str) -> NDArray[np.float32]:
    """A width in the model's range -> in the target's unit, 0 outside the body: the range is affine, -1 maps
    to its lowest value."""
    return _physical(width - 1, sample, target) - np.float32(modality.TABLE[target].low)


def _to_grid(
    values: NDArray[np.float32],
    work: Case,
    case: Case,
    start: Sequence[int],
    target: str,
    outside: float | None = None,
) -> NDArray[np.float32]:
    """Values (c, d, h, w) on the block -> on the grid of `case`, by way of the grid worked on; outside: the
    value where there is none, by default the modality's."""
    row = modality.TABLE[target]
    empty = row.outside if outside is None else outside
    whole = block(values, tuple(-s for s in start), work.grid.shape, empty)
    if work.grid is case.grid:
        return whole
    moved = np.stack([Volume(c, work.grid, row.unit).resample(case.grid, outside=empty).array for c in whole])
    return moved if target == "body" else np.where(case.body, moved, np.float32(empty))
