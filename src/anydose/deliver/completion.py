"""What a completion leaves on disk: the generated modality as NIfTI, the patient it completes in the input's
own form, and a page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case import beams, names
from anydose.case.volume import Volume
from anydose.complete import STRUCTURES, Completion, Question, answer, ask, structures_of
from anydose.deliver.folder import Place, one_result
from anydose.deliver.measured import Verdict, verdict
from anydose.deliver.record import Stopwatch, input_hashes, model_hash, record
from anydose.io import nifti
from anydose.io.files import case_place, file_name
from anydose.io.format import Generated
from anydose.io.formats import format_for
from anydose.io.read import read_case
from anydose.model import registry
from anydose.predict import Options
from anydose.score import completion
from anydose.score.report.completion import write_completion

PATIENT = "patient"  # subfolder with the completed patient in the input's own form


def volumes(
    question: Question,
    target: str,
    made: NDArray[np.float32],
    organs: tuple[str, ...] = names.ORGAN_CHANNELS,
) -> dict[str, Volume]:
    """What is written as NIfTI, file stem -> volume: HU, Gy, 0/1 masks, or plates."""
    grid = question.case.grid
    if target == "ct":
        return {"ct": Volume(np.rint(made[0]), grid, "HU")}
    if target == "dose":
        return {"dose": Volume(made[0], grid, "Gy")}
    if target == "angle":
        return {"angle": Volume(np.clip(made[0], 0, 1), grid, "1")}
    if target == "beam":
        centres = [round(360 * k / beams.SECTORS) for k in range(beams.SECTORS)]
        stems = ["beam", *(f"beam_sector_{deg:03d}" for deg in centres)]
        return {stem: Volume(np.maximum(c, 0), grid, "1") for stem, c in zip(stems, made, strict=True)}
    found = structures_of(question, target, made, organs)
    masks = {f"{nifti.SEGMENTATIONS}/{file_name(n)}": Volume(m, grid, "1") for n, m in found.items()}
    if target == "ptv":
        level = completion.snapped(made[0], list(question.levels_gy.values()))
        masks["ptv"] = Volume(level, grid, "Gy")
    return masks


def complete_to(
    source: Path,
    folder: Path,
    model: str,
    options: Options,
    *,
    levels_gy: Sequence[float] = (),
    device: str = "auto",
    read: Mapping[str, Any] | None = None,
    anyway: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read the case at `source`, generate its `options.target` and leave everything in `folder`; returns the
    run record, with the figures of what was generated where the case holds the truth.

    Args:
        source: a case in any format that `read_case` knows.
        folder: a new or empty folder, or one that holds the same completion of the same case.
        model: a shipped model's name or a checkpoint's path.
        options: how to sample, and the target.
        levels_gy: the prescription of a case without targets.
        device: 'auto', 'cpu' or 'cuda:0'.
        read: keywords of `read_case`.
        anyway: write, with a mark, what was measured to be no better than having no model.
        overwrite: replace what `folder` holds, whatever it is.

    Raises:
        ValueError: the case, the options, the model or the folder is refused; nothing is written.
    """
    watch, target = Stopwatch(), options.target
    network_file = registry.find(registry.completing(model, target))
    worth = _worth(network_file, options, anyway)
    source = case_place(source)
    with one_result(folder, source, overwrite) as place:
        inputs = input_hashes(source)
        place.refuse_other(target, inputs)
        case = read_case(source, **(read or {}))
        watch.done("read")
        question = ask(case, target, levels_gy)
        network = registry.load(network_file, device)
        watch.done("load")
        made = Completion(question, answer(network, question, options), case)
        watch.done("sample")
        return _finish(place, made, worth, watch, inputs)


def save(
    made: Completion, folder: str | Path, *, anyway: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Leave a completion in a folder of its own, as `anydose complete` does; returns the run record. The
    keywords and errors are those of `complete_to`."""
    source = made.answer.source
    worth = _worth(made.answer.model, made.answer.options, anyway)
    with one_result(Path(folder), source, overwrite) as place:
        inputs = input_hashes(source)
        place.refuse_other(made.target, inputs, made.original.name)
        return _finish(place, made, worth, Stopwatch(), inputs)


@dataclass(frozen=True)
class Worth:
    """What is written of a completion, and what is said with it."""

    verdict: Verdict
    """What was measured of such completions."""
    left_out: tuple[str, ...]
    """Organs that are not written."""
    warnings: tuple[str, ...]
    """Sentences that go with it."""


def _worth(model: Path | None, options: Options, anyway: bool) -> Worth:
    """Raises ValueError for what is no better than having no model, unless `anyway`."""
    judged = verdict(model, options)
    if not judged.better and not anyway:
        raise ValueError(
            f"{judged.said}: not clearly better than having no model; --anyway writes it with a mark"
        )
    if anyway and (judged.poor_organs or not judged.better):
        poor = ", ".join(judged.poor_organs) or options.target
        sentence = f"UNRELIABLE, written all the same: {poor}; {judged.said}"
        return Worth(judged, left_out=(), warnings=(sentence,))
    if not judged.poor_organs:
        return Worth(judged, left_out=(), warnings=(judged.said,))
    sentence = f"left out, no better than having no model: {', '.join(judged.poor_organs)}"
    return Worth(judged, left_out=judged.poor_organs, warnings=(sentence, judged.said))


def _finish(
    place: Place, made: Completion, worth: Worth, watch: Stopwatch, inputs: Mapping[str, str]
) -> dict[str, Any]:
    place.refuse_other(made.target, inputs, made.original.name)
    figures = made.figures()
    deliver(_without(made, worth.left_out), place.scratch, worth)
    watch.done("write")
    run = record(made.answer, watch.seconds, inputs)
    run |= {"figures": figures, "measured": worth.verdict.said, "warnings": list(worth.warnings)}
    return place.finish(run | {"reliable": worth.verdict.better, "left_out": list(worth.left_out)})


def _without(made: Completion, organs: Sequence[str]) -> Completion:
    """The completion with some of its organ channels empty."""
    if not organs:
        return made
    channels = [made.answer.organs.index(name) for name in organs]
    values = made.answer.mean.copy()
    values[channels] = 0
    return replace(made, answer=replace(made.answer, mean=values))


def deliver(made: Completion, folder: Path, worth: Worth) -> None:
    """Write a completion into `folder`."""
    question, values, organs = made.question, made.answer.mean, made.answer.organs
    for stem, volume in volumes(question, made.target, values, organs).items():
        (folder / stem).parent.mkdir(parents=True, exist_ok=True)
        nifti.write_volume(volume, folder / f"{stem}.nii.gz")
    if made.case is not None:
        (folder / PATIENT).mkdir()
        format_for(made.case).write_case(made.case, folder / PATIENT, _generated(made))
    write_completion(
        question.case,
        made.target,
        shown_values(question, made.target, values),
        truth=made.truth(),
        path=folder / "page.png",
        title=_title(made, worth),
        organs=organs,
    )


def _title(made: Completion, worth: Worth) -> str:
    """The page's title, with a line for each warning."""
    model = made.answer.model.stem if made.answer.model else "a model in memory"
    used, steps = ", ".join(made.answer.used), made.answer.options.steps
    title = f"{made.original.name}: {made.target} from {used}; {model}, steps: {steps}"
    return "\n".join([title, *(textwrap.shorten(sentence, 150) for sentence in worth.warnings)])


def _generated(made: Completion) -> Generated:
    """What of the completed patient the model made."""
    answer, found = made.answer, {}
    if made.target in STRUCTURES:
        found = structures_of(made.question, made.target, answer.mean, answer.organs)
    model = made.answer.model
    return Generated(made.target, tuple(found), model.stem if model else "", model_hash(model))


def shown_values(question: Question, target: str, made: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the page shows: target levels snapped as they are written, everything else as generated."""
    if target != "ptv":
        return made
    return completion.snapped(made[0], list(question.levels_gy.values()))[None]
