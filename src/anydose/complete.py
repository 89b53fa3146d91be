"""Any modality of a case generated from the others: the question, the model's answer, and the case with the
answer in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anydose.case import modality, names
from anydose.case.case import Case, Mask, Prescription
from anydose.case.volume import Volume, bounding_box
from anydose.io.formats import format_for
from anydose.model.any2any import Any2Any
from anydose.predict import Options, Prediction, predict
from anydose.score import completion

SKIN_HU = -300.0  # air below, patient above
STRUCTURES = ("ptv", "oar", "body")


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
    usual = {names.organ_channel(name): name for name in format_for(case).organ_names}
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
