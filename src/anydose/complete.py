"""What a completion leaves on disk: the missing (or hidden) modality generated from the others, as NIfTI, as
a patient in the input's own form with it filled in, and a page. run.json comes last: a folder with one is
complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case import beams, modality, names
from anydose.case.case import Case, Mask, Prescription
from anydose.case.volume import Volume, bounding_box
from anydose.deliver.dose import Stopwatch, record, write_json
from anydose.io import nifti, openkbp
from anydose.io.files import file_name, whole
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.checkpoint import load_model
from anydose.predict import Options, Prediction, predict
from anydose.score import completion
from anydose.score.report.completion import write_completion

SKIN_HU = -300.0  # air below, patient above
STRUCTURES = ("ptv", "oar", "body")
PATIENT = "patient"  # subfolder with the completed patient in the input's own form


@dataclass(frozen=True)
class Question:
    """What a model is asked. case: with stand-ins for what it cannot do without (an empty target for a level
    alone, a block for an unknown body); withheld: modalities that those would make lies; levels_gy: target
    structure -> Gy."""

    case: Case
    withheld: tuple[str, ...]
    levels_gy: Mapping[str, float]


def ask(case: Case, target: str, levels_gy: Sequence[float] = ()) -> Question:
    """The question for one modality of a case. levels_gy: the prescription of a case without targets.
    ValueError where the case does not hold enough."""
    if target not in modality.NAMES:
        raise ValueError(f"target {target!r}: one of {', '.join(modality.NAMES)} is accepted")
    withheld: tuple[str, ...] = ()
    if case.prescription.levels_gy:
        if levels_gy:
            raise ValueError(
                f"{case.name}: has a prescription, no other levels are accepted (--rx changes it)"
            )
    elif levels_gy:
        empty = {f"PTV{gy:g}": np.zeros(case.grid.shape, dtype=bool) for gy in levels_gy}
        levels = Prescription({name: gy for name, gy in zip(empty, levels_gy, strict=True)})
        case = replace(case, structures={**case.structures, **empty}, prescription=levels)
        withheld = ("ptv", "beam")  # plates are shadows of a target that nobody drew
    elif target in ("ptv", "dose"):
        raise ValueError(f"{case.name}: no prescription; give its levels in Gy, as --levels 70,63,56")
    else:
        withheld = ("dose",)  # without a reference dose a dose has no scale
    if case.body is None:
        case = replace(case, structures={**case.structures, "External": _block_of_skin(case)})
        withheld = (*withheld, "body")
        said = f"body: none in the case, the box of all voxels above {SKIN_HU:g} HU stands for it"
        case = replace(case, inferred=(*case.inferred, said))
    return Question(case, withheld, case.prescription.levels_gy)


def _block_of_skin(case: Case) -> Mask:
    if case.ct is None or not (case.ct.in_unit("HU") > SKIN_HU).any():
        raise ValueError(f"{case.name}: no body structure and no CT to find one in; one of both is needed")
    start, shape = bounding_box(case.ct.in_unit("HU") > SKIN_HU)
    box = np.zeros(case.grid.shape, dtype=bool)
    box[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))] = True
    return box


def complete(model: Any2Any, question: Question, options: Options) -> Prediction:
    """The wanted modality of a question, generated from the others. ValueError as in `predict`."""
    known = options.given or tuple(n for n in model.config.modalities if n != options.target)
    given = tuple(name for name in known if name not in question.withheld or name in options.given)
    return predict(model, question.case, replace(options, given=given))


def structures_of(question: Question, target: str, made: NDArray[np.float32]) -> dict[str, Mask]:
    """The structures that generated values (c, d, h, w) of ptv, oar or body stand for, named as in the
    case."""
    case = question.case
    if target == "body":
        return completion.masks(target, made, {0: next(iter(case.of_role("body")))}, {})
    if target == "ptv":
        by_level = {gy: name for name, gy in reversed(list(question.levels_gy.items()))}
        return completion.masks(target, made, {}, {name: gy for gy, name in by_level.items()})
    own = {names.organ_channel(name): name for name in case.of_role("oar")}
    theirs = {names.organ_channel(name): name for name in openkbp.ORGANS}
    usual = theirs if case.meta.get("format") == "openkbp" else dict(enumerate(names.ORGAN_CHANNELS))
    wanted = {k: own.get(k, usual.get(k, "")) for k in range(len(names.ORGAN_CHANNELS) - 1)}
    return completion.masks(target, made, {k: name for k, name in wanted.items() if name}, {})


def completed(question: Question, target: str, made: NDArray[np.float32]) -> Case | None:
    """The case with the generated modality in the place of its own; None for beam and angle, which are no
    part of a case but drawn from its beams."""
    case = question.case
    if target == "ct":
        return replace(case, ct=Volume(np.rint(made[0]), case.grid, "HU"))
    if target == "dose":
        return replace(case, dose=Volume(made[0], case.grid, "Gy"))
    if target not in STRUCTURES:
        return None
    gone = case.targets if target == "ptv" else case.of_role(target)
    kept = {name: mask for name, mask in case.structures.items() if name not in gone}
    found = {**kept, **structures_of(question, target, made)}
    levels = {name: gy for name, gy in question.levels_gy.items() if name in found}
    return replace(case, structures=found, prescription=replace(case.prescription, levels_gy=levels))


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
    """The completed patient in its own form (OpenKBP or DICOM, else NIfTI); the folder appears whole."""
    if case is None:
        return []
    scratch = folder.with_name(f".{os.getpid()}.{folder.name}")
    try:
        scratch.mkdir(parents=True)
        if case.meta.get("format") == "openkbp":
            openkbp.write_case(case, scratch)
        elif case.meta.get("format") == "dicom" and case.ct is not None:
            from anydose.io.dicom import write as dicom_write

            dicom_write.write_study(case, scratch)
        else:
            nifti.write_case(case, scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [f"{folder.name}/"]
