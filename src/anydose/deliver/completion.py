"""What a completion leaves on disk: the generated modality as NIfTI, the patient it completes in the input's
own form, and a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case import beams, modality
from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.complete import Question, ask, complete, completed, structures_of
from anydose.deliver.record import Stopwatch, record
from anydose.io import nifti
from anydose.io.files import file_name, whole, write_json
from anydose.io.formats import format_for
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import pick_device
from anydose.model.checkpoint import load_model
from anydose.predict import Options
from anydose.score import completion
from anydose.score.report.completion import write_completion

PATIENT = "patient"  # subfolder with the completed patient in the input's own form


def volumes(question: Question, target: str, made: NDArray[np.float32]) -> dict[str, Volume]:
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
    found = structures_of(question, target, made)
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
    levels_gy: Sequence[float] = (),
    device: str = "auto",
    read: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Read the case at `source`, generate its `options.target` and leave everything in `folder`; returns the
    run record, with the figures of what was generated where the case holds the truth."""
    watch, target = Stopwatch(), options.target
    case = read_case(source, **(read or {}))
    watch.done("read")
    question = ask(case, target, levels_gy)
    path = registry.find(registry.completing(model, options.target))
    network = load_model(path).on(pick_device(device))
    watch.done("load")
    prediction = complete(network, question, options)
    watch.done("sample")
    outputs = []
    for stem, volume in volumes(question, target, prediction.mean).items():
        (folder / stem).parent.mkdir(parents=True, exist_ok=True)
        nifti.write_volume(volume, folder / f"{stem}.nii.gz")
        outputs.append(f"{stem}.nii.gz")
    outputs += _write_patient(completed(question, target, prediction.mean), folder / PATIENT)
    truth = modality.TABLE[target].draw(case) if case.body is not None or target != "beam" else None
    title = f"{case.name}: {target} from {', '.join(prediction.used)}; {path.stem}, steps: {options.steps}"
    with whole(folder / "page.png") as scratch:
        shown = shown_values(question, target, prediction.mean)
        write_completion(question.case, target, shown, truth, scratch, title)
    watch.done("write")
    run = record(case, prediction, options, source, path, watch.seconds)
    run |= {"figures": _figures(question, target, prediction.mean, truth), "outputs": [*outputs, "page.png"]}
    run["outputs"].append("run.json")
    write_json(run, folder / "run.json")
    return run


def shown_values(question: Question, target: str, made: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the page shows: target levels snapped as they are written, everything else as generated."""
    if target != "ptv":
        return made
    return completion.snapped(made[0], list(question.levels_gy.values()))[None]


def _figures(
    question: Question, target: str, made: NDArray[np.float32], truth: NDArray[np.float32] | None
) -> dict[str, float]:
    if truth is None:
        return {}
    assert question.case.body is not None
    levels = tuple(question.levels_gy.values())
    found = completion.figures(target, truth, made, question.case.body, levels)
    return {name: round(value, 4) for name, value in found.items()}


def _write_patient(case: Case | None, folder: Path) -> list[str]:
    """The completed patient in its own form where that can hold it, else NIfTI; the folder appears whole."""
    if case is None:
        return []
    scratch = folder.with_name(f".{os.getpid()}.{folder.name}")
    try:
        scratch.mkdir(parents=True)
        format_for(case).write_case(case, scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [f"{folder.name}/"]
