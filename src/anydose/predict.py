"""From a case to a dose on one page: render, sample and decode, mimic, back to the case's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydose.case import dose_mimicking, modality, names
from anydose.case.case import Case
from anydose.case.naming import table
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary
from anydose.case.volume import Volume, block
from anydose.diffusion.sampler import SAMPLERS
from anydose.io import notebook
from anydose.io.read import read_case
from anydose.model import no_dose, registry
from anydose.model.any2any import Any2Any
from anydose.model.looks import sample_looks
from anydose.model.options import Options
from anydose.model.sample import Sample, draw_sample, working_case
from anydose.score.dvh import DVH, structure_dvh
from anydose.score.report.page import draw_page
from anydose.score.report.volumes import shown_grid

if TYPE_CHECKING:
    from ipyniivue import NiiVue
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["NOT_MIMICKED", "STAGES", "Options", "Prediction", "predict", "refuse_impossible"]

NOT_MIMICKED = "the dose is the network's own: dose mimicking needs a target and static beams"
STAGES = ("render", "sample", "mimic", "grid")
NOTEBOOK_VOXELS = 4_000_000
SHOWN_STRUCTURES = 40
DOSE_COLUMNS = (98, 95, 50, 2)  # percent of the volume, as D98


@dataclass(frozen=True, repr=False, eq=False)
class Prediction:
    """What was predicted, on the case's grid, in the target's unit."""

    mean: NDArray[np.float32]
    """The target (c, d, h, w): the mean over the members."""
    members: tuple[NDArray[np.float32], ...]
    """Each sample (c, d, h, w)."""
    used: tuple[str, ...]
    """The conditions that were shown."""
    inferred: tuple[str, ...]
    """What the case did not state or had to be changed, a sentence each."""
    mimicked: bool
    """Whether each member was moved towards what the beams can deliver."""
    case: Case
    """The case as it was given."""
    work: Case
    """The case on the grid that the model worked on, as `case` where that is its own."""
    options: Options
    """How it was predicted."""
    width: Callable[[], NDArray[np.float32]]
    """Makes `look_std`, which few ask for."""
    model: Path | None = None
    """The checkpoint; None for a model that was made in memory."""
    source: Path | None = None
    """Where the case was read; None for a case that was given as such."""
    organs: tuple[str, ...] = HEAD_NECK.organs
    """The organs that the model knows, a channel each."""

    @cached_property
    def look_std(self) -> NDArray[np.float32]:
        """Standard deviation (c, d, h, w) over every look of every sample."""
        return self.width()

    @property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation (c, d, h, w) over the members."""
        return np.asarray(np.std(np.stack(self.members), axis=0), dtype=np.float32)

    @property
    def dose(self) -> Volume:
        """The mean dose in Gy on the case's grid. Raises ValueError where another modality was predicted."""
        if self.options.target != "dose":
            raise ValueError(f"{self.case.name}: {self.options.target} was predicted, no dose; see `mean`")
        return self.volume()

    def volume(self) -> Volume:
        """The mean of a one-channel target as a volume on the case's grid."""
        return Volume(self.mean[0], self.case.grid, modality.TABLE[self.options.target].unit)

    def dvh(self) -> dict[str, DVH]:
        """The dose-volume histogram of every structure that has a voxel, by the case's own name."""
        dose, masks = self.dose, self.case.structures
        return {name: structure_dvh(self.case, dose, name) for name, mask in masks.items() if mask.any()}

    def to_rows(self) -> list[dict[str, Any]]:
        """One row a structure: its role, prescription in Gy, volume in cc and dose in Gy (DOSE_COLUMNS)."""
        levels, rows = self.case.prescription.levels_gy, []
        for name, of in self.dvh().items():
            about: dict[str, Any] = {"structure": name, "role": names.role(name), "rx_gy": levels.get(name)}
            about |= {"volume_cc": of.volume_cc, "mean_gy": of.mean_gy, "max_gy": of.max_gy}
            at_percent = {f"d{p}_gy": of.dose_at_cc(p / 100 * of.volume_cc) for p in DOSE_COLUMNS}
            rows.append(about | at_percent)
        return rows

    def to_dataframe(self) -> DataFrame:
        """`to_rows` as a pandas table. Raises ValueError where pandas is not installed."""
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ValueError("to_dataframe needs pandas: pip install 'anydose[tables]'") from error
        return DataFrame(self.to_rows())

    def plot(self) -> Figure:
        """Three slices with the dose and the DVH below, as a matplotlib figure."""
        return draw_page(self.case, self.dose, f"{self.case.name}: {self._how()}")

    def view(self) -> NiiVue:
        """Three linked planes of CT and dose as a widget of a notebook. Raises ValueError where ipyniivue is
        not installed."""
        grid = shown_grid(self.case, NOTEBOOK_VOXELS)
        ct = self.case.ct.resample(grid, outside=-1000.0) if self.case.ct is not None else None
        return notebook.planes(self.dose.resample(grid), ct, self.case.rx_max_gy)

    def save(self, folder: str | Path, **how: Any) -> dict[str, Any]:
        """Write what `anydose predict` writes into a folder of its own; returns the run record. The
        keywords and errors are those of `anydose.deliver.dose.save`."""
        from anydose import save  # the front door: writers lie above this file

        record: dict[str, Any] = save(self, folder, **how)
        return record

    def _how(self) -> str:
        model = self.model.stem if self.model else "a model in memory"
        return f"{self.options.target} by {model}{', dose mimicking' if self.mimicked else ''}"

    def __repr__(self) -> str:
        voxels = " x ".join(str(n) for n in self.mean.shape)
        return f"Prediction({self.case.name}: {self._how()}, {voxels}, from {', '.join(self.used)})"

    def _repr_html_(self) -> str:
        head = f"<p><b>{escape(self.case.name)}</b>: {escape(self._how())}; for research, not for clinics</p>"
        if self.options.target != "dose":
            return head
        rows = self.to_rows()
        titles = "".join(f"<th>{escape(title)}</th>" for title in rows[0]) if rows else ""
        return f"{head}<table><tr>{titles}</tr>{''.join(_html_row(row) for row in rows)}</table>"


def predict(
    case: Case | str | Path | Any2Any,
    model: Any2Any | str | Path | Case = registry.DEFAULT,
    options: Options | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Prediction:
    """Predict one modality of a case from the others, by default its dose by the shipped model.

    Args:
        case: a case, or the path of one in any format that `read_case` knows.
        model: a loaded model, a shipped model's name or a checkpoint's path. The two may stand in either
            order, as in `predict("compact-hn", "folder")`.
        options: how to predict; the default is what ships.
        on_stage: called with each name of STAGES when that stage is done.

    Raises:
        ValueError: the case lacks a wanted condition, a body or, for a dose, a prescription; or the model was
            not trained for the target, or what it gives cannot be a dose.
    """
    source, case, model = _in_order(case, model)
    options, done = model.as_trained(options or Options()), on_stage or _ignore
    conditions = _conditions(model, case, options)

    work = working_case(_blind(case, options.target), model.config.trained_mm, model.config.working_mm)
    sample, start = draw_sample(work, conditions, model.config.organs)
    done("render")
    looks = torch.stack([torch.stack(each) for each in sample_looks(model, sample, options)])
    no_dose.refuse_what_is_no_number(looks, case, model.named)
    members = [_physical(member, sample, options.target) for member in looks.mean(dim=1)]
    raised: tuple[str, ...] = ()
    if options.target == "dose":
        if model.file is not None:  # mimicking could hide what is no dose
            no_dose.refuse_beyond(members, case, model.named)
        raised = no_dose.below_zero(members, sample.body.numpy())
        members = [np.maximum(member, np.float32(0)) for member in members]
    done("sample")
    plan = _plan(work, start, sample) if _wants_mimicking(options) else None
    if plan is not None:
        members = list(dose_mimicking.mimic(np.stack(members), plan))
    done("mimic")
    to_grid = partial(_to_grid, work=work, case=case, start=start, target=options.target)
    on_grid = tuple(to_grid(member) for member in members)
    look_std = _physical_width(looks.flatten(0, 1).std(dim=0, correction=0), sample, options.target)
    prediction = Prediction(
        mean=on_grid[0] if len(on_grid) == 1 else np.mean(np.stack(on_grid), axis=0, dtype=np.float32),
        members=on_grid,
        used=tuple(sample.volumes),
        inferred=(
            *work.inferred,
            *raised,
            *(table.not_drawn(work.naming, Vocabulary(sample.organs)) if "oar" in sample.volumes else ()),
            *((NOT_MIMICKED,) if _wants_mimicking(options) and plan is None else ()),
        ),
        mimicked=plan is not None,
        case=case,
        work=work,
        options=options,
        width=partial(to_grid, look_std, outside=0.0),
        model=model.file,
        source=source,
        organs=model.config.organs,
    )
    if model.file is not None:  # one in memory may be half trained; what is written is checked again
        refuse_impossible(prediction)
    done("grid")
    return prediction


def _html_row(row: dict[str, Any]) -> str:
    cells = (f"{value:.1f}" if isinstance(value, float) else str(value or "") for value in row.values())
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _ignore(stage: str) -> None:
    """Nobody watches."""


def _in_order(
    first: Case | str | Path | Any2Any, second: Any2Any | str | Path | Case
) -> tuple[Path | None, Case, Any2Any]:
    """(where the case was read, the case, the model), whichever of the two was given first."""
    if registry.is_model(first) and not registry.is_model(second):
        first, second = second, first
    if isinstance(first, Any2Any) or isinstance(second, Case):
        raise ValueError("predict: one case and one model are needed")
    source = None if isinstance(first, Case) else Path(first)
    case = first if isinstance(first, Case) else read_case(Path(first))
    return source, case, second if isinstance(second, Any2Any) else registry.load(second)


def refuse_impossible(prediction: Prediction) -> None:
    """Raises ValueError for what can be no dose, as `anydose.model.no_dose` says."""
    if prediction.options.target != "dose":
        return
    made_by = prediction.model.name if prediction.model else "in memory"
    no_dose.refuse_beyond(prediction.members, prediction.case, f"the model {made_by}")


def _blind(case: Case, target: str) -> Case:
    """The case without the volume that is to be predicted."""
    if target == "dose":
        return replace(case, dose=None)
    return replace(case, ct=None) if target == "ct" else case


def _wants_mimicking(options: Options) -> bool:
    return bool(options.mimic) and options.target == "dose"


def _conditions(model: Any2Any, case: Case, options: Options) -> tuple[str, ...]:
    """The modalities to show, in the table's order; ValueError where the options cannot be met."""
    known, target = model.config.modalities, options.target
    model.must_give(target)
    for name in options.given:
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
        raise ValueError(_no_prescription(case))
    return modality.subset(options.given or (name for name in known if name != target))


def _no_prescription(case: Case) -> str:
    """What is missing, what the plan says of it, and how to say it."""
    known = [sentence for sentence in case.inferred if sentence.startswith("prescription")]
    possible = [m.roi for m in case.naming if m.role not in ("body", "support")][:SHOWN_STRUCTURES]
    return "; ".join(
        [
            f"{case.name}: no prescription",
            *known,
            "give each target its dose in Gy, as --rx NAME=GY, with NAME one of " + ", ".join(possible),
        ]
    )


def _plan(work: Case, start: tuple[int, int, int], sample: Sample) -> Case | None:
    """The block as a case whose beams can be asked what they deliver, with what `sample` shows alone; None
    where beams or targets are not shown or their doses are not defined."""
    shown, (d, h, w) = sample.volumes.keys(), sample.body.shape
    part = work.block(start, (d, h, w))
    if not {"ptv", "beam"} <= shown or not dose_mimicking.is_defined(part):
        return None
    hidden = () if "oar" in shown else part.of_role("oar")
    kept = {name: mask for name, mask in part.structures.items() if name not in hidden}
    return replace(part, ct=part.ct if "ct" in shown else None, structures=kept)


def _physical(volume: Tensor, sample: Sample, target: str) -> NDArray[np.float32]:
    """Model range -> physical values on the block; nothing outside the body."""
    row = modality.TABLE[target]
    values = row.from_range(volume.numpy(), sample.rx_max_gy)
    if target != "body":
        values = np.where(sample.body.numpy(), values, np.float32(row.outside))
    return np.asarray(values, dtype=np.float32)


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
    channels = [Volume(c, work.grid, row.unit).resample(case.grid, outside=empty).array for c in whole]
    moved = channels[0][None] if len(channels) == 1 else np.stack(channels)
    assert case.body is not None
    if target != "body":
        np.copyto(moved, np.float32(empty), where=~case.body)
    return moved
