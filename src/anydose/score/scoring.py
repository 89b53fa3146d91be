"""A dose scored with a scorecard, and what stands beside the total: hard limits and target coverage.

The same `score` serves users, evaluation and training: with `soft.SoftDVH` as the histogram, and the bound
voxel indices as tensors, the total has gradients. A volume is scored by sub-voxel histograms, an array or a
tensor by its voxels. Source of the rules: the PlanScoreCard format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from anydose.case.case import Case, Mask
from anydose.case.volume import Volume
from anydose.score import limits as hard
from anydose.score import metrics
from anydose.score.binding import BODY, BoundScorecard
from anydose.score.dvh import DVH, dvh, known_percent, structure_dvh, unknown
from anydose.score.hard_limit import HardLimit
from anydose.score.limits import LimitResult, TargetCoverage
from anydose.score.metrics import Histogram, Number, as_float
from anydose.score.scorecard import Item

LEAST_SHARE = 0.5  # of a card's points: a total of less is no score of the plan


@dataclass(frozen=True)
class Result:
    """One item's outcome."""

    structure: str
    """What the scorecard calls it."""
    matched: str | None
    """The case's name for it."""
    metric: str
    value: float | None
    """In `unit`; None where the item could not be scored."""
    unit: str | None
    score: float | None
    maximum: float
    flag: str
    """pass, variation, fail or missing."""
    why: str = ""
    """Why it could not be scored."""


@dataclass(frozen=True, repr=False)
class Score:
    """The points of a dose, and what stands beside them. Two percentages may be compared only if their
    `missing` items are the same."""

    total: Number
    """Over the scored items alone; a tensor if the dose was one."""
    maximum: float
    """Over the scored items alone."""
    items: tuple[Result, ...]
    warnings: tuple[str, ...] = ()
    scorecard: str = ""
    limits: tuple[LimitResult, ...] = ()
    """Hard limits; empty for arrays and tensors, which training scores."""
    targets: tuple[TargetCoverage, ...] = ()
    """Coverage of every target; empty for arrays and tensors."""
    part_known: dict[str, float] = field(default_factory=dict)
    """Structures of which only this many percent have a known dose."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The items that are in neither total nor maximum, by structure and metric."""
        return tuple(f"{r.structure} {r.metric}" for r in self.items if r.flag == "missing")

    @property
    def percent(self) -> float:
        """Total in percent of the maximum; 0 if nothing could be scored."""
        return 100.0 * as_float(self.total) / self.maximum if self.maximum else 0.0

    @property
    def scored_share(self) -> float:
        """The share of the card's points that could be scored at all."""
        whole = sum(row.maximum for row in self.items)
        return self.maximum / whole if whole else 0.0

    @property
    def withheld(self) -> str:
        """Why no total is shown: less than half of the card could be scored; else ''."""
        if self.scored_share >= LEAST_SHARE:
            return ""
        return f"only {100 * self.scored_share:.0f} % of the scorecard's points could be scored"

    @property
    def standing(self) -> tuple[float, ...]:
        """Sorts doses of one case, the better one first: limits, then target coverage, then points."""
        return hard.standing(self.limits, self.targets, self.percent)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; total and percent are None where they are withheld."""
        hidden = bool(self.withheld)
        return {
            "scorecard": self.scorecard,
            "total": None if hidden else as_float(self.total),
            "maximum": self.maximum,
            "percent": None if hidden else self.percent,
            "scored_share": self.scored_share,
            "withheld": self.withheld,
            "limits": [asdict(row) for row in self.limits],
            "limit_counts": dict(hard.counts(self.limits)),
            "targets": [asdict(row) for row in self.targets],
            "part_known_percent": dict(self.part_known),
            "items": [asdict(row) for row in self.items],
            "missing": list(self.missing),
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        return f"Score({self.scorecard}: {self.summary()})"

    def text(self) -> str:
        """A table for a terminal: one line an item, the hard limits, target coverage, the warnings, and the
        total with what it leaves out."""
        lines = [f"{self.scorecard}", "", *(_item_line(row) for row in self.items)]
        if self.limits:
            lines += ["", "hard limits", *(_limit_line(row) for row in self.limits)]
        if self.targets:
            lines += ["", "target coverage", *(_target_line(row) for row in self.targets)]
        for name, percent in self.part_known.items():
            lines.append(f"note: {name}: {unknown(percent)}")
        return "\n".join([*lines, "", *(f"note: {w}" for w in self.warnings), self.summary()])

    def summary(self) -> str:
        """One line: the total, or why there is none, with limits, coverage and what was left out."""
        total = f"total {as_float(self.total):.2f} of {self.maximum:g} ({self.percent:.1f} %)"
        said = [f"total withheld: {self.withheld}" if self.withheld else total]
        if self.limits:
            said.append("hard limits " + ", ".join(f"{n} {k}" for k, n in hard.counts(self.limits).items()))
        known = [row.v95_percent for row in self.targets if row.v95_percent is not None]
        if self.targets:
            said.append(f"lowest target V95 {min(known):.1f} %" if known else "target coverage unknown")
        if self.missing:
            said.append(f"not scored: {', '.join(self.missing)}")
        return "; ".join(said)


def _item_line(row: Result) -> str:
    found = f"{row.value:10.2f} {row.unit or '':3}" if row.value is not None else f"{'-':>10}    "
    points = f"{row.score:6.2f}" if row.score is not None else f"{'-':>6}"
    name = f"{row.structure:20.20} {row.metric:24.24}"
    return f"{name} {found} {points} / {row.maximum:5.2f}  {row.flag} {row.why}".rstrip()


def _limit_line(row: LimitResult) -> str:
    found = f"{row.value:10.2f}" if row.value is not None else f"{'-':>10}"
    return f"{row.structure:26.26} {row.metric:18.18} {found}  {row.limit:20} {row.state} {row.why}".rstrip()


def _target_line(row: TargetCoverage) -> str:
    if row.v95_percent is None or row.d95_gy is None:
        return f"{row.structure:26.26} {row.level_gy:g} Gy: not known"
    return f"{row.structure:26.26} {row.level_gy:g} Gy: V95 {row.v95_percent:.1f} %, D95 {row.d95_gy:.2f} Gy"


def score(
    bound: BoundScorecard, dose: Any, histogram: Callable[[Any, float], Histogram] | None = None
) -> Score:
    """Score one dose.

    Args:
        bound: a scorecard bound to a case.
        dose: a Volume in Gy on any grid; or an array or tensor (d, h, w) in Gy on the case's grid.
        histogram: makes a histogram of doses (n,) and the volume of one voxel in cc: `DVH`, exact, or
            `soft.SoftDVH`, differentiable. By default a Volume is scored by sub-voxel parts, with limits and
            coverage; anything else by `DVH`.

    Raises:
        ValueError: a dose not in Gy, of another shape or nowhere in the case; what concerns one item alone
            is reported in its row.
    """
    if isinstance(dose, Volume) and histogram is None:
        return _scored_volume(bound, dose)
    flat, voxel_cc = on_case(bound.case, dose).reshape(-1), bound.case.grid.voxel_cc
    make = histogram or DVH
    cache: dict[str, Histogram] = {}

    def at(key: str) -> Histogram:
        if key not in cache:
            cache[key] = make(flat[bound.index[key]], voxel_cc)
        return cache[key]

    return total_of(bound, at)


def _scored_volume(bound: BoundScorecard, dose: Volume) -> Score:
    case, cache = bound.case, {}
    sampled = on_case(case, dose)

    def of_mask(mask: Mask) -> DVH:
        return dvh(dose, mask, case.grid)

    def at(key: str) -> DVH:
        if key not in cache:
            named = key in case.structures
            cache[key] = structure_dvh(case, dose, key) if named else of_mask(bound.masks[key])
        return cache[key]

    found = []
    for limit, key, why in bound.limits:
        found.append(hard.checked(limit, partial(_known, at, key, why), bound.total_gy))
    found += _spill(bound, of_mask)
    shown = {**{key: bound.masks[key] for key, _ in bound.rows if key}, **case.targets}
    shares = {key: known_percent(sampled[mask]) for key, mask in shown.items()}
    return replace(
        total_of(bound, at),
        limits=tuple(found),
        targets=hard.coverage(case, at),
        part_known={key: share for key, share in shares.items() if share < 100},
    )


def _known(at: Callable[[str], DVH], key: str | None, why: str) -> DVH:
    if key is None:
        raise ValueError(why)
    return at(key)


def _spill(bound: BoundScorecard, of_mask: Callable[[Mask], DVH]) -> list[LimitResult]:
    """The limit on dose where no target is, that a dose without shape breaks."""
    found = hard.spilled(bound.case)
    if found is None or bound.total_gy is None:
        return []
    outside, target_cc = found
    level = hard.COVERED * bound.total_gy
    limit = HardLimit(hard.SPILL, f"V{level:g}Gy[cc]", at_most=round(target_cc, 1))
    return [hard.checked(limit, lambda: of_mask(outside), bound.total_gy)]


def total_of(bound: BoundScorecard, at: Callable[[str], Histogram]) -> Score:
    """Score from histograms: at(key) is that of a bound structure."""
    total: Number = 0.0
    results = []
    for item, (key, why) in zip(bound.card.items, bound.rows, strict=True):
        try:
            if key is None:
                raise ValueError(why)
            body = at(BODY) if BODY in bound.index and metrics.needs_body(item.of) else None
            value = metrics.evaluate(item.of, at(key), body, bound.total_gy)
            points = item.score(value)
        except ValueError as error:
            results.append(_missing(item, key, str(error)))
            continue
        total = total + points
        flag = item.flag(as_float(points))
        metric = metrics.find(item.of.metric)
        unit = item.of.output if metric is not None and metric.yields != "ratio" else None
        results.append(
            Result(
                structure=item.structure.label,
                matched=key,
                metric=metrics.text(item.of),
                value=as_float(value),
                unit=unit,
                score=as_float(points),
                maximum=item.maximum,
                flag=flag,
            )
        )
    maximum = sum(r.maximum for r in results if r.flag != "missing")
    return Score(total, maximum, tuple(results), bound.warnings, bound.card.name)


def _missing(item: Item, key: str | None, why: str) -> Result:
    """The row of an item that could not be scored."""
    return Result(
        structure=item.structure.label,
        matched=key,
        metric=metrics.text(item.of),
        value=None,
        unit=item.of.output,
        score=None,
        maximum=item.maximum,
        flag="missing",
        why=why,
    )


def on_case(case: Case, dose: Any) -> Any:
    """The dose as an array on the case's grid, not a number where it is unknown. ValueError for another
    shape or unit, and for a dose that is unknown everywhere."""
    if not isinstance(dose, Volume):
        if tuple(dose.shape) != case.grid.shape:
            raise ValueError(f"dose of shape {tuple(dose.shape)}, the case has {case.grid.shape}")
        return dose
    dose.in_unit("Gy")
    moved = dose.resample(case.grid, order=1, outside=float("nan")).array
    if np.isnan(moved).all():
        raise ValueError(
            f"{case.name}: the dose grid does not meet the case's grid: another frame of reference?"
        )
    return moved
