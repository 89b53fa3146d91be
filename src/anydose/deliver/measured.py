"""What was measured of a model, and lies beside its weights: what each condition is worth to a dose, and how
far a generated modality is from the truth. So a run can say what it lacks, and refuse what is no better than
nothing.

NAME.conditions.json and NAME.complete.json hold the rows that `anydose bench conditions` and `anydose bench
complete` write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anydose.case import modality
from anydose.model.options import Options
from anydose.predict import Prediction

Row = dict[str, Any]
LESS_ERROR = 0.9  # of the error without a model: below it a model is clearly better
WITHOUT_MODEL = "_without_model"  # how the figure of an answer without a model ends
MORE_DICE = 0.1  # above the Dice without a model
WORDS = {
    "ct": "CT",
    "ptv": "targets",
    "oar": "organs",
    "body": "body",
    "beam": "beam plates",
    "angle": "angle plate",
}


def rows_beside(model: Path | None, kind: str) -> list[Row]:
    """The rows of `<model>.<kind>.json` beside a model's weights; none if there is no such file. Raises
    ValueError for a file that holds something else."""
    path = model.with_name(f"{model.stem}.{kind}.json") if model else None
    if path is None or not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"{path}: the rows of `anydose bench {kind}` are accepted")
    return found


def not_shown(prediction: Prediction) -> tuple[str, ...]:
    """A sentence on the conditions that a dose was predicted without, by choice or by lack, with the measured
    cost in OpenKBP's dose score; none if it was shown everything."""
    options = prediction.options
    missing = {name for name in modality.NAMES if name not in (*prediction.used, options.target)}
    if options.target != "dose" or not missing:
        return ()
    chosen = {name for name in missing if options.given and name not in options.given}
    parts = []
    if chosen:
        parts.append(f"{_words(chosen)} by choice")
    if missing - chosen:
        parts.append(f"{_words(missing - chosen)}, which the case does not hold")
    return (f"predicted without {' and without '.join(parts)}: {_cost(prediction.model, missing)}",)


def _words(names: Iterable[str]) -> str:
    return ", ".join(WORDS[name] for name in modality.subset(names))


def _cost(model: Path | None, missing: set[str]) -> str:
    measured = {frozenset(row["without"]): row for row in rows_beside(model, "conditions")}
    below = [row for without, row in measured.items() if without <= missing and without]
    if not below or frozenset() not in measured:
        return "what this costs was not measured for this model"
    nearest = measured.get(frozenset(missing)) or max(below, key=lambda row: float(row["dose_score"]))
    least = "" if set(nearest["without"]) == missing else "at least "
    full = measured[frozenset()]["dose_score"]
    return (
        f"this costs {least}{nearest['change']:.2f} Gy on average (dose score {nearest['dose_score']:.2f} "
        f"instead of {full:.2f} Gy, {nearest['patients']} validation patients)"
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a generated modality is worth writing."""

    said: str
    """The measured figure, in a sentence."""
    better: bool
    """Clearly better than having no model."""
    poor_organs: tuple[str, ...] = ()
    """Of 'oar': the organs of which it is not."""


def verdict(model: Path | None, options: Options) -> Verdict:
    """What was measured of a model's completion of `options.target`, with what is given if that was measured,
    else with everything given. A dose is judged by its own page, and has none."""
    target = options.target
    if target not in modality.NAMES:
        raise ValueError(f"target {target!r}: one of {', '.join(modality.NAMES)} is accepted")
    if target == "dose":
        return Verdict("a dose: see `anydose predict`", better=True)
    rows = [row for row in rows_beside(model, "complete") if row.get("target") == target]
    if not rows:
        return Verdict(f"{target}: never measured for this model (`anydose bench complete`)", better=False)
    asked = ", ".join(modality.subset(options.given))
    row = next((row for row in rows if row.get("given") == asked), rows[0])
    given = "everything else" if row.get("given") == "all" else str(row.get("given"))
    where = f"measured with {given} given, {row['patients']} patients"
    if target == "oar":
        return _organs(row, where)
    figures = {name: value for name, value in row.items() if _is_figure(name, target)}
    without = {name: _without_model(name, row, rows[0]) for name in figures}
    said = ", ".join(f"{name} {figures[name]:.2f} ({without[name]:.2f} without a model)" for name in figures)
    main = next(iter(figures))
    return Verdict(f"{target}: {said}; {where}", _is_better(main, figures[main], without[main]))


def _is_figure(name: str, target: str) -> bool:
    return name.startswith(f"{target}_") and not name.endswith(WITHOUT_MODEL)


def _without_model(name: str, row: Row, everything_given: Row) -> float:
    """A figure without a model. It was measured once, beside the row in which everything is given."""
    key = name + WITHOUT_MODEL
    for measured in (everything_given, row):
        if key in measured:
            return float(measured[key])
    return 0.0 if name.endswith("dice") else float("inf")


def _organs(row: Row, where: str) -> Verdict:
    dice = {k.removesuffix("_dice"): v for k, v in row.items() if k.endswith("_dice") and k != "oar_dice"}
    poor = tuple(name for name, value in dice.items() if not _is_better("dice", value, 0.0))
    words = ", ".join(f"{name} {value:.2f}" for name, value in dice.items())
    return Verdict(f"oar: Dice {words}; {where}", len(poor) < len(dice), poor)


def _is_better(figure: str, value: float, without_model: float) -> bool:
    if figure.endswith("dice"):
        return value >= without_model + MORE_DICE
    return value <= LESS_ERROR * without_model
