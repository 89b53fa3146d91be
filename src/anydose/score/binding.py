"""A scorecard bound to a case: its structures are found once, every dose after that is a page of sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case, Mask
from anydose.score import metrics
from anydose.score.hard_limit import HardLimit
from anydose.score.limits import limits_of
from anydose.score.scorecard import (
    Item,
    Scorecard,
    absolute,
    prescriptions_match,
    read_scorecard,
    templates,
    to_prescription,
)
from anydose.score.structures import Matching, StructureReference, build, match
from anydose.score.structures import matching as matching_of

BODY = "(body)"
EACH_TARGET = "(each target)"
NEAR = 0.03  # of the prescription: a card for another one fits only in its doses relative to it
Index = Any  # flat voxel indices (n,): an int64 array, or a tensor after `BoundScorecard.moved`


@dataclass(frozen=True)
class BoundScorecard:
    """A scorecard whose structures are found in a case. Made by `bind`."""

    card: Scorecard
    """With one item for each target where it asks for every one."""
    case: Case
    total_gy: float | None
    """The highest prescription, which % of dose refers to; None if not stated."""
    rows: tuple[tuple[str | None, str], ...]
    """Per item the key of its structure, or None and the reason why there is none."""
    index: dict[str, Index]
    """Key -> flat voxel indices."""
    masks: dict[str, Mask] = field(default_factory=dict)
    """Key -> mask (d, h, w)."""
    limits: tuple[tuple[HardLimit, str | None, str], ...] = ()
    """Hard limits, each with the key of its structure, or None and the reason."""
    warnings: tuple[str, ...] = ()

    def moved(self, convert: Callable[[NDArray[np.int64]], Any]) -> BoundScorecard:
        """The same with `convert` applied to every index array, e.g. torch.from_numpy."""
        return replace(self, index={key: convert(value) for key, value in self.index.items()})


def bind(
    case: Case, card: Scorecard, matching: Matching | None = None, rescale: bool = False
) -> BoundScorecard:
    """Find every structure of `card` in `case`, building those that only a StructureComment describes.
    rescale: multiply the scorecard's absolute doses by plan total / scorecard total (off in the format, off
    here)."""
    by = matching_of(case) if matching is None else matching
    total = case.rx_max_gy if case.prescription.levels_gy else None
    warnings = _disagreement(card, total, case.prescription.fractions, rescale)
    if rescale and total is not None:
        card = to_prescription(card, total, case.prescription.fractions)
    card = for_each_target(card, case)
    masks: dict[str, Mask] = {}
    rows = tuple(find(item.structure, case, by, masks) for item in card.items)
    limits = []
    for limit in limits_of(case, card.limits):
        reference = StructureReference(limit.structure, limit.structure)
        limits.append((limit, *find(reference, case, by, masks)))
    bodies = list(case.of_role("body"))
    if len(bodies) == 1:
        masks[BODY] = case.structures[bodies[0]]
    index = {key: np.flatnonzero(mask) for key, mask in masks.items()}
    return BoundScorecard(card, case, total, rows, index, masks, tuple(limits), warnings)


def for_each_target(card: Scorecard, case: Case) -> Scorecard:
    """The card with its items on EACH_TARGET repeated for every target that has a prescription. Their doses
    are percent of that target's own prescription and become Gy; their points are shared among the targets,
    so that the card's maximum stays. Without a prescription the card stays as it is."""
    levels = sorted(case.prescription.levels_gy.items(), key=lambda level: -level[1])
    if not levels:
        return card
    items: list[Item] = []
    for item in card.items:
        if item.structure.template_id != EACH_TARGET:
            items.append(item)
            continue
        items += [_for_target(item, name, level_gy, len(levels)) for name, level_gy in levels]
    return replace(card, items=tuple(items))


def _for_target(item: Item, name: str, level_gy: float, targets: int) -> Item:
    of, points = item.of, item.points
    row = metrics.find(of.metric)
    if row is not None and of.output == "%" and row.yields == "dose":
        of = replace(of, output="Gy")
        points = tuple(replace(p, x=p.x * level_gy / 100) for p in points)
    if row is not None and of.unit == "%" and row.abscissa == "dose" and of.value is not None:
        of = replace(of, value=of.value * level_gy / 100, unit="Gy")
    shared = tuple(replace(p, score=p.score / targets) for p in points)
    return replace(item, structure=StructureReference(name, name), of=of, points=shared)


def find(
    reference: StructureReference, case: Case, by: Matching, masks: dict[str, Mask]
) -> tuple[str | None, str]:
    """The key of a structure in `masks`, where it is put; or None and why there is none."""
    try:
        key = match(reference, case.structures, by)
        if key is None and reference.comment:
            key = reference.comment
            if key not in masks:
                masks[key] = build(key, lambda name: _operand(name, case, by), case.grid)
    except ValueError as error:
        return None, str(error)
    if key is None:
        return None, f"no structure {reference.label} in the case"
    mask = masks.setdefault(key, case.structures[key]) if key in case.structures else masks[key]
    return (key, "") if mask.any() else (None, f"structure {key} is empty")


def _operand(name: str, case: Case, by: Matching) -> Mask:
    found = match(StructureReference(structure_id=name), case.structures, by)
    if found is None:
        raise ValueError(f"no structure {name} in the case to build it from")
    return case.structures[found]


def _disagreement(
    card: Scorecard, total: float | None, fractions: int | None, rescale: bool
) -> tuple[str, ...]:
    """One sentence, with the items concerned, if the plan's prescription is not the scorecard's."""
    if card.total_gy is None or card.fractions is None or total is None:
        return ()
    count = fractions or card.fractions
    if prescriptions_match(card, total / count, count):
        return ()
    concerned = [f"{i.structure.label} {metrics.text(i.of)}" for i in card.items if absolute(i).any]
    done = "were scaled to the plan" if rescale else "are taken as written"
    return (
        f"plan prescription {total:g} Gy in {count}, scorecard {card.total_gy:g} Gy in {card.fractions}: "
        f"absolute doses {done} in {', '.join(concerned) or 'no item'}",
    )


def own_template(case: Case) -> Scorecard:
    """The packaged scorecard that fits the case: it finds at least half of its organs' points there. One for
    the case's prescription comes first, then one relative to any prescription, then the nearest. ValueError
    if none fits."""
    fitting = []
    for path in templates().values():
        card = read_scorecard(path)
        found = _found_share(card, case)
        if found >= 0.5:
            fitting.append((_prescription_fit(card, case), found, card.name, card))
    if not fitting:
        raise ValueError(
            f"{case.name}: no packaged scorecard fits its structures ({', '.join(templates())}); give one"
        )
    return max(fitting, key=lambda entry: entry[:3])[3]


def _found_share(card: Scorecard, case: Case) -> float:
    """The share of the points that the card gives to structures which the case has."""
    items = [item for item in card.items if item.structure.template_id != EACH_TARGET]
    masks: dict[str, Mask] = {}
    keys = [find(item.structure, case, matching_of(case), masks)[0] for item in items]
    found = sum(item.maximum for item, key in zip(items, keys, strict=True) if key is not None)
    return found / (sum(item.maximum for item in items) or 1.0)


def _prescription_fit(card: Scorecard, case: Case) -> tuple[int, float]:
    """(2 for the case's prescription, 1 for any, 0 for another one; nearness)."""
    if card.total_gy is None:
        return 1, 0.0
    if not case.prescription.levels_gy:
        return 2, 0.0
    away = abs(card.total_gy - case.rx_max_gy) / case.rx_max_gy
    return (2 if away <= NEAR else 0), -away
