"""A scorecard applied to a dose: masks are found once (`hold`), every dose after that is a page of sums
(`score`).

The same `score` serves users, evaluation and training: with `soft.SoftDVH` as the histogram, and the held
voxel indices as tensors, the total has gradients. Source of the rules: PlanScoreCard specification,
sections 5.4 to 5.6."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case, Mask
from anydose.case.volume import Volume
from anydose.score import metrics
from anydose.score.dvh import DVH
from anydose.score.metrics import Histogram, Number, as_float
from anydose.score.scorecard import (
    Item,
    Point,
    Scorecard,
    absolute,
    prescriptions_match,
    read_scorecard,
    templates,
    to_prescription,
)
from anydose.score.structures import Matching, Wanted, build, match
from anydose.score.structures import matching as matching_of

BODY = "(body)"
Index = Any  # flat voxel indices (n,): an int64 array, or a tensor after `Held.moved`


@dataclass(frozen=True)
class Result:
    """One item's outcome. value in `unit` and score are None where the item could not be scored; `why` says
    so. matched: the case's name for the structure; flag: pass, variation, fail or missing."""

    structure: str
    matched: str | None
    metric: str
    value: float | None
    unit: str | None
    score: float | None
    maximum: float
    flag: str
    why: str = ""


@dataclass(frozen=True)
class Score:
    """total and maximum over the scored items alone; `total` is a tensor if the dose was one. Two
    percentages may be compared only if their `missing` items are the same."""

    total: Number
    maximum: float
    items: tuple[Result, ...]
    warnings: tuple[str, ...] = ()
    scorecard: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The items that are in neither total nor maximum, by structure and metric."""
        return tuple(f"{r.structure} {r.metric}" for r in self.items if r.flag == "missing")

    @property
    def percent(self) -> float:
        """Total in percent of the maximum; 0 if nothing could be scored."""
        return 100.0 * as_float(self.total) / self.maximum if self.maximum else 0.0

    def to_json(self) -> dict[str, Any]:
        """{total, maximum, percent, items, missing, warnings, scorecard}, plain numbers."""
        return {
            "scorecard": self.scorecard,
            "total": as_float(self.total),
            "maximum": self.maximum,
            "percent": self.percent,
            "items": [asdict(r) for r in self.items],
            "missing": list(self.missing),
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """A table for a terminal: one line an item, then the warnings and the total with what it leaves
        out."""
        lines = [f"{self.scorecard}", ""]
        for r in self.items:
            found = f"{r.value:10.2f} {r.unit or '':3}" if r.value is not None else f"{'-':>10}    "
            points = f"{r.score:6.2f}" if r.score is not None else f"{'-':>6}"
            name = f"{r.structure:20.20} {r.metric:24.24}"
            lines.append(f"{name} {found} {points} / {r.maximum:5.2f}  {r.flag} {r.why}".rstrip())
        lines += ["", *(f"note: {w}" for w in self.warnings)]
        left_out = f"; not scored: {', '.join(self.missing)}" if self.missing else ""
        total = f"total {as_float(self.total):.2f} of {self.maximum:g} ({self.percent:.1f} %)"
        return "\n".join([*lines, total + left_out])


@dataclass(frozen=True)
class Held:
    """A scorecard whose structures are found on a case. rows: per item the key of its structure or the
    reason why there is none; index: key -> flat voxel indices. Made by `hold`."""

    card: Scorecard
    case: Case
    total_gy: float | None
    rows: tuple[tuple[str | None, str], ...]
    index: dict[str, Index]
    warnings: tuple[str, ...] = ()

    def moved(self, convert: Callable[[NDArray[np.int64]], Any]) -> Held:
        """The same with `convert` applied to every index array, e.g. torch.from_numpy."""
        return replace(self, index={key: convert(value) for key, value in self.index.items()})


def hold(case: Case, card: Scorecard, matching: Matching | None = None, rescale: bool = False) -> Held:
    """Find every structure of `card` in `case`, building those that only a StructureComment describes.
    rescale: multiply the scorecard's absolute doses by plan total / scorecard total (off in the format, off
    here)."""
    by = matching_of(case) if matching is None else matching
    total = case.rx_max_gy if case.prescription.levels_gy else None
    warnings = _disagreement(card, total, case.prescription.fractions, rescale)
    if rescale and total is not None:
        card = to_prescription(card, total, case.prescription.fractions)
    masks: dict[str, Mask] = {}
    rows = tuple(_find(item.structure, case, by, masks) for item in card.items)
    bodies = list(case.of_role("body"))
    index = {key: np.flatnonzero(mask) for key, mask in masks.items()}
    if len(bodies) == 1:
        index[BODY] = index[bodies[0]] if bodies[0] in index else np.flatnonzero(case.structures[bodies[0]])
    return Held(card, case, total, rows, index, warnings)


def _find(wanted: Wanted, case: Case, by: Matching, masks: dict[str, Mask]) -> tuple[str | None, str]:
    try:
        key = match(wanted, case.structures, by)
        if key is None and wanted.comment:
            key = wanted.comment
            if key not in masks:
                masks[key] = build(key, lambda name: _operand(name, case, by), case.grid)
    except ValueError as error:
        return None, str(error)
    if key is None:
        return None, f"no structure {wanted.label} in the case"
    mask = masks.setdefault(key, case.structures[key]) if key in case.structures else masks[key]
    return (key, "") if mask.any() else (None, f"structure {key} is empty")


def _operand(name: str, case: Case, by: Matching) -> Mask:
    found = match(Wanted(structure_id=name), case.structures, by)
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
    concerned = [f"{i.structure.label} {metrics.text(i.of)}" for i in card.items if any(absolute(i))]
    done = "were scaled to the plan" if rescale else "are taken as written"
    return (
        f"plan prescription {total:g} Gy in {count}, scorecard {card.total_gy:g} Gy in {card.fractions}: "
        f"absolute doses {done} in {', '.join(concerned) or 'no item'}",
    )


def score(held: Held, dose: Any, histogram: Callable[[Any, float], Histogram] = DVH) -> Score:
    """Score one dose: a Volume in Gy on any grid, or an array or tensor (d, h, w) in Gy on the case's grid.
    histogram(doses (n,), volume of one voxel in cc): `DVH`, exact, or `soft.SoftDVH`, differentiable.
    ValueError for a dose not in Gy or of another shape; what concerns one item alone is reported in its
    row."""
    flat = _on_case(held.case, dose).reshape(-1)
    voxel_cc = held.case.grid.voxel_cc
    cache: dict[str, Histogram] = {}

    def at(key: str) -> Histogram:
        if key not in cache:
            cache[key] = histogram(flat[held.index[key]], voxel_cc)
        return cache[key]

    return total_of(held, at)


def total_of(held: Held, at: Callable[[str], Histogram]) -> Score:
    """Score from histograms: at(key) is that of a held structure."""
    total: Number = 0.0
    results = []
    for item, (key, why) in zip(held.card.items, held.rows, strict=True):
        try:
            if key is None:
                raise ValueError(why)
            body = at(BODY) if BODY in held.index and metrics.needs_body(item.of) else None
            value = metrics.evaluate(item.of, at(key), body, held.total_gy)
            points = item.score(value)
        except ValueError as error:
            results.append(_missing(item, key, str(error)))
            continue
        total = total + points
        flag = item.flag(as_float(points))
        unit = item.of.output if metrics.TABLE[item.of.metric].yields != "ratio" else None
        row = (item.structure.label, key, metrics.text(item.of), as_float(value), unit)
        results.append(Result(*row, as_float(points), item.maximum, flag))
    maximum = sum(r.maximum for r in results if r.flag != "missing")
    return Score(total, maximum, tuple(results), held.warnings, held.card.name)


def _missing(item: Item, key: str | None, why: str) -> Result:
    label, metric = item.structure.label, metrics.text(item.of)
    return Result(label, key, metric, None, item.of.output, None, item.maximum, "missing", why)


def _on_case(case: Case, dose: Any) -> Any:
    """The dose as an array on the case's grid; not a number where a dose on another grid does not reach."""
    if not isinstance(dose, Volume):
        if tuple(dose.shape) != case.grid.shape:
            raise ValueError(f"dose of shape {tuple(dose.shape)}, the case has {case.grid.shape}")
        return dose
    dose.in_unit("Gy")
    if dose.grid.matches(case.grid):
        return dose.array
    moved = dose.resample(case.grid, order=1, outside=float("nan")).array
    if np.isnan(moved).all():
        raise ValueError(
            f"{case.name}: the dose grid does not meet the case's grid: another frame of reference?"
        )
    return moved


def own_template(case: Case) -> Scorecard:
    """The packaged scorecard that finds the largest part of its structures in the case, of the prescription
    nearest to the case's among equals. ValueError if none finds half of them."""
    best: tuple[float, float, Scorecard] | None = None
    for path in templates().values():
        card = read_scorecard(path)
        rows = [_find(i.structure, case, Matching(), {}) for i in card.items]
        found = sum(key is not None for key, _ in rows) / len(rows)
        near = -abs((card.total_gy or 0.0) - (case.rx_max_gy if case.prescription.levels_gy else 0.0))
        if best is None or (found, near) > best[:2]:
            best = (found, near, card)
    if best is None or best[0] < 0.5:
        raise ValueError(
            f"{case.name}: no packaged scorecard fits its structures ({', '.join(templates())}); give one"
        )
    return best[2]


STEP_PARTS = (10, 100, 1000)
REACH = 0.2


def normalised(held: Held, dose: Any, without: Iterable[int] = ()) -> tuple[float, Score]:
    """The factor on the dose, within 20 % of 1, with the highest total, and its score. Searched in steps of
    a tenth, a hundredth and a thousandth of the distance, each about the best so far; while searching, a
    point of score 0 counts -1000 and recovers within 0.1 of PointX, so that no item is given up. without:
    items (from 0) that do not count in the search."""
    flat = np.asarray(_on_case(held.case, dose)).reshape(-1)
    base = {key: DVH(flat[index], held.case.grid.voxel_cc) for key, index in held.index.items()}
    left_out = set(without)
    steep = tuple(_steep(item) for item in held.card.items)
    kept = [k for k in range(len(steep)) if k not in left_out]
    card = replace(held.card, items=tuple(steep[k] for k in kept))
    search = replace(held, card=card, rows=tuple(held.rows[k] for k in kept))

    def at_factor(of: Held, factor: float) -> Score:
        scaled = {key: histogram.scaled(factor) for key, histogram in base.items()}
        return total_of(of, scaled.__getitem__)

    best, reach = 1.0, REACH
    for parts in STEP_PARTS:
        step = REACH / parts
        around = best + step * np.arange(-round(reach / step), round(reach / step) + 1)
        allowed = [float(f) for f in around if abs(f - 1) <= REACH + 1e-9]
        best = max(allowed, key=lambda factor: (at_factor(search, factor).total, -abs(factor - 1)))
        reach = step
    return best, at_factor(held, best)


def _steep(item: Item) -> Item:
    """The curve with -1000 at its zero-score points and a tail of 0.1 back to 0 on the side that scores."""
    points: list[Point] = []
    for number, point in enumerate(item.points):
        if point.score != 0:
            points.append(point)
            continue
        after = item.points[number + 1 :]
        side = 0.1 if after and max(p.score for p in after) > 0 else -0.1
        points += [replace(point, score=-1000.0), replace(point, x=point.x + side, variation=False)]
    return replace(item, points=tuple(points))
