"""Any modality of a case generated from the others: the question, the model's answer, and the case with the
answer in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case import modality, names
from anydose.case.case import Case, Mask, Prescription
from anydose.case.volume import Volume, bounding_box
from anydose.io.formats import format_for
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import Any2Any
from anydose.predict import Options, Prediction, predict
from anydose.score import completion

SKIN_HU = -300.0  # air below, patient above
STRUCTURES = ("ptv", "oar", "body")


@dataclass(frozen=True)
class Question:
    """What a model is asked."""

    case: Case
    """With stand-ins for what a model cannot do without: an empty target for a level alone, a block for an
    unknown body."""
    withheld: tuple[str, ...]
    """Modalities that those stand-ins would make lies."""
    levels_gy: Mapping[str, float]
    """Target structure -> prescribed Gy."""


@dataclass(frozen=True, repr=False, eq=False)
class Completion:
    """One modality of a case, generated from the others."""

    question: Question
    """What was asked."""
    answer: Prediction
    """What the model gave, on the case's grid."""
    original: Case
    """The case as it was given."""

    @property
    def target(self) -> str:
        """The modality."""
        return self.answer.options.target

    @property
    def case(self) -> Case | None:
        """The case with the generated modality in the place of its own; None for beam and angle, which are no
        part of a case but drawn from its beams."""
        return completed(self.question, self.target, self.answer.mean, self.answer.organs)

    def figures(self) -> dict[str, float]:
        """How far it is from the truth (score.completion.figures); empty where the case does not hold it."""
        truth = self.truth()
        if truth is None:
            return {}
        assert self.question.case.body is not None
        found = completion.figures(
            self.target,
            truth,
            self.answer.mean,
            self.question.case.body,
            levels_gy=tuple(self.question.levels_gy.values()),
            organs=self.answer.organs,
        )
        return {name: round(value, 4) for name, value in found.items()}

    def truth(self) -> NDArray[np.float32] | None:
        """The case's own modality (c, d, h, w), drawn; None where it has none."""
        if self.original.body is None and self.target == "beam":
            return None
        return modality.table(names.Vocabulary(self.answer.organs))[self.target].draw(self.original)

    def save(self, folder: str | Path, **how: Any) -> dict[str, Any]:
        """Write what `anydose complete` writes into a folder of its own; returns the run record. The
        keywords and errors are those of `anydose.deliver.completion.save`."""
        from anydose import save  # the front door: writers lie above this file

        record: dict[str, Any] = save(self, folder, **how)
        return record

    def __repr__(self) -> str:
        return f"Completion({self.original.name}: {self.target} from {', '.join(self.answer.used)})"


def complete(
    case: Case | str | Path,
    target: str,
    model: Any2Any | str | Path = registry.DEFAULT,
    options: Options | None = None,
    *,
    levels_gy: Sequence[float] = (),
) -> Completion:
    """Generate one modality of a case, missing or hidden, from the others.

    Args:
        case: a case, or the path of one in any format that `read_case` knows.
        target: 'ct', 'ptv', 'oar', 'body', 'beam', 'angle' or 'dose'.
        model: a loaded model, a shipped model's name or a checkpoint's path. A shipped model's adapter for
            other targets than the dose is taken by itself.
        options: how to sample; the default is what ships.
        levels_gy: the prescription of a case without targets.

    Raises:
        ValueError: the case does not hold enough, or an option is not accepted.
    """
    source = None if isinstance(case, Case) else Path(case)
    case = case if isinstance(case, Case) else read_case(Path(case))
    question = ask(case, target, levels_gy)
    network = model if isinstance(model, Any2Any) else registry.load(registry.completing(str(model), target))
    found = answer(network, question, replace(options or Options(), target=target))
    return Completion(question, replace(found, source=source), case)


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


def answer(model: Any2Any, question: Question, options: Options) -> Prediction:
    """The wanted modality of a question, generated from the others. Raises ValueError as `predict` does."""
    known = options.given or tuple(n for n in model.config.modalities if n != options.target)
    given = tuple(name for name in known if name not in question.withheld or name in options.given)
    return predict(question.case, model, replace(options, given=given))


def structures_of(
    question: Question,
    target: str,
    made: NDArray[np.float32],
    organs: tuple[str, ...] = names.ORGAN_CHANNELS,
) -> dict[str, Mask]:
    """The structures that generated values (c, d, h, w) of ptv, oar or body stand for, named as in the case;
    an organ that it does not have by the format's name for it, or TG-263's. organs: of the channels."""
    case = question.case
    if target == "body":
        return completion.masks(target, made, {0: next(iter(case.of_role("body")))}, {})
    if target == "ptv":
        by_level = {gy: name for name, gy in reversed(list(question.levels_gy.items()))}
        return completion.masks(target, made, {}, {name: gy for gy, name in by_level.items()})
    own = {meaning.tg263: meaning.roi for meaning in case.naming}
    usual = {names.parse(name).tg263: name for name in format_for(case).organ_names}
    wanted = {k: own.get(organ, usual.get(organ, organ)) for k, organ in enumerate(organs)}
    return completion.masks(target, made, {k: name for k, name in wanted.items() if name != "other"}, {})


def completed(
    question: Question,
    target: str,
    made: NDArray[np.float32],
    organs: tuple[str, ...] = names.ORGAN_CHANNELS,
) -> Case | None:
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
    found = {**kept, **structures_of(question, target, made, organs)}
    levels = {name: gy for name, gy in question.levels_gy.items() if name in found}
    return replace(case, structures=found, prescription=replace(case.prescription, levels_gy=levels))
