"""Scorecards: the PlanScoreCard JSON format read and written, its curves, and its prescription scaling.

Written from the specification of the format alone (sections 5.1, 5.3 and 5.6). A reader tolerates unknown
keys, missing optional keys and nulls; unknown keys are kept and written back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anydose.atomic.files import whole
from anydose.score.curve import curve as curve
from anydose.score.hard_limit import HardLimit
from anydose.score.metrics import Definition, Number, find
from anydose.score.structures import StructureReference

FAR = 1e6  # no dose in cGy, volume or score is larger
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Point:
    """One point of a curve: x in the item's OutputUnit, its score, and how it is shown."""

    x: float
    score: float
    variation: bool = False
    colors: tuple[float, ...] = ()
    label: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One line of a scorecard. ValueError if more than one point is the variation point, and for names that
    are no text and numbers that none of a plan are."""

    structure: StructureReference
    of: Definition
    points: tuple[Point, ...]
    rank: int = 0
    comment: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(point.variation for point in self.points) > 1:
            raise ValueError(f"{self.structure.label} {self.of.metric}: more than one variation point")
        if not isinstance(self.of.metric, str) or not isinstance(self.of.output, str | None):
            raise ValueError(f"metric {self.of.metric!r} in {self.of.output!r}: names and units are text")
        if not all(abs(point.x) <= FAR and abs(point.score) <= FAR for point in self.points):
            raise ValueError(f"{self.of.metric}: a point beyond {FAR:g}")
        object.__setattr__(self, "points", tuple(sorted(self.points, key=lambda point: point.x)))

    @property
    def maximum(self) -> float:
        """The highest score of the curve; 0 for an empty one."""
        return max((point.score for point in self.points), default=0.0)

    def score(self, value: Number) -> Number:
        """The curve's score of a value, float or tensor. ValueError for an empty curve."""
        return curve([p.x for p in self.points], [p.score for p in self.points], value)

    def flag(self, score: float) -> str:
        """'fail' at score 0, 'variation' below the variation point's score, else 'pass'."""
        if score == 0:
            return "fail"
        level = next((point.score for point in self.points if point.variation), -math.inf)
        return "variation" if score < level else "pass"


@dataclass(frozen=True)
class Scorecard:
    """A scorecard with the prescription it was written for."""

    name: str
    items: tuple[Item, ...]
    site: str = ""
    creator: str = ""
    dose_per_fraction_gy: float | None = None
    """None if not stated."""
    fractions: int | None = None
    """None if not stated."""
    limits: tuple[HardLimit, ...] = ()
    """Key HardLimits, beyond the format; empty if not stated."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys that are not known, written back as they came."""

    @property
    def total_gy(self) -> float | None:
        """The prescribed dose the scorecard was written for."""
        if not self.dose_per_fraction_gy or not self.fractions:
            return None
        return self.dose_per_fraction_gy * self.fractions


def prescriptions_match(card: Scorecard, dose_per_fraction_gy: float, fractions: int) -> bool:
    """True within 0.1 Gy per fraction and fewer than one fraction."""
    if card.dose_per_fraction_gy is None or card.fractions is None:
        return False
    near = abs(card.dose_per_fraction_gy - dose_per_fraction_gy) <= 0.1 + 1e-9
    return near and abs(card.fractions - fractions) < 1


def to_prescription(card: Scorecard, total_gy: float, fractions: int | None = None) -> Scorecard:
    """The scorecard for a plan of `total_gy`: every absolute dose threshold is multiplied by plan total /
    scorecard total. The result carries the plan's prescription, so that doing it again changes nothing. The
    format names PointX of dose metrics, InputValue of three metrics and HI_Target; the absolute levels of
    VolumeOfRegret, ModifiedGradientIndex and DoseAtSubVolume are scaled too, because one left behind would
    mix two prescriptions. ValueError if the scorecard states no prescription."""
    if card.total_gy is None:
        raise ValueError(
            f"scorecard {card.name!r} states no prescription, so it cannot be scaled to {total_gy:g} Gy"
        )
    factor = total_gy / card.total_gy
    count = fractions or card.fractions or 1
    return replace(
        card,
        items=tuple(_scaled(item, factor) for item in card.items),
        limits=tuple(limit.scaled(factor) for limit in card.limits),
        dose_per_fraction_gy=total_gy / count,
        fractions=count,
    )


@dataclass(frozen=True)
class AbsoluteDoses:
    """Which numbers of an item are absolute doses, and so belong to one prescription."""

    points: bool = False
    """PointX of its curve."""
    value: bool = False
    """InputValue."""
    levels: bool = False
    """HI_HiValue and HI_LowValue."""
    target: bool = False
    """HI_Target."""

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.points or self.value or self.levels or self.target


def absolute(item: Item) -> AbsoluteDoses:
    """The absolute doses of an item; none of a metric that is not known."""
    row, of = find(item.of.metric), item.of
    if row is None:
        return AbsoluteDoses()
    has_levels = of.metric == "ModifiedGradientIndex"
    in_dose = of.target_unit in ("Gy", "cGy")
    return AbsoluteDoses(
        points=row.yields == "dose" and of.output != "%",
        value=row.abscissa == "dose" and of.unit != "%",
        levels=has_levels and (of.target_unit or of.unit) != "%",
        target=in_dose and not has_levels,
    )


def _scaled(item: Item, factor: float) -> Item:
    """The item with its absolute doses multiplied by `factor`."""
    of, in_dose = item.of, absolute(item)
    if in_dose.value:
        of = replace(of, value=_times(of.value, factor))
    if in_dose.levels:
        of = replace(of, high=_times(of.high, factor), low=_times(of.low, factor))
    if in_dose.target:
        of = replace(of, target=_times(of.target, factor))
    points = item.points
    if in_dose.points:
        points = tuple(replace(point, x=point.x * factor) for point in points)
    return replace(item, of=of, points=points)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


# JSON key <-> field, in the order of the format
STRUCTURE_KEYS = {
    "StructureId": "structure_id",
    "TemplateStructureId": "template_id",
    "StructureCode": "code",
    "StructureComment": "comment",
    "AutoGenerated": "auto_generated",
}
DEFINITION_KEYS = {
    "MetricType": "metric",
    "InputValue": "value",
    "InputUnit": "unit",
    "OutputUnit": "output",
    "HI_HiValue": "high",
    "HI_LowValue": "low",
    "HI_Target": "target",
    "HI_TargetUnit": "target_unit",
}
POINT_KEYS = ("PointX", "Score", "Variation", "Colors", "Label")
ITEM_KEYS = ("Structure", "Rank", "ScorePoints", "MetricComment", *DEFINITION_KEYS)
LIMIT_KEYS = {"Structure": "structure", "Metric": "metric", "AtLeast": "at_least", "AtMost": "at_most"}
HEAD_KEYS = ("TemplateName", "Site", "Creator", "DosePerFraction", "NumberOfFractions")
CARD_KEYS = (*HEAD_KEYS, "HardLimits", "ScoreTemplates")


def read_scorecard(path: Path) -> Scorecard:
    """Read a PlanScoreCard JSON file (UTF-8, with or without BOM; the legacy bare list too). ValueError
    names the file and the item that cannot be read."""
    try:
        root = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON scorecard ({error})") from error
    return from_json(root, str(path))


def from_json(root: Any, source: str = "scorecard") -> Scorecard:
    """A scorecard from parsed JSON; `source` names it in errors."""
    if isinstance(root, list):
        root = {"TemplateName": Path(source).stem, "ScoreTemplates": root}
    if not isinstance(root, dict) or not isinstance(root.get("ScoreTemplates"), list):
        raise ValueError(f"{source}: no PlanScoreCard file: an object with a list ScoreTemplates is needed")
    items = []
    for number, raw in enumerate(root["ScoreTemplates"], start=1):
        try:
            items.append(_item(raw))
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise ValueError(f"{source}: item {number}: {error}") from error
    if not items:
        raise ValueError(f"{source}: no item found; a scorecard with at least one is needed")
    fractions = _head_number(root, "NumberOfFractions", source)
    return Scorecard(
        name=root.get("TemplateName") or "",
        items=tuple(items),
        site=root.get("Site") or "",
        creator=root.get("Creator") or "",
        dose_per_fraction_gy=_head_number(root, "DosePerFraction", source),
        fractions=None if fractions is None else int(fractions),
        limits=_limits(root.get("HardLimits") or [], source),
        extra={k: v for k, v in root.items() if k not in CARD_KEYS},
    )


def _limits(rows: Any, source: str) -> tuple[HardLimit, ...]:
    if not isinstance(rows, list):
        raise ValueError(f"{source}: HardLimits: a list is needed")
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            given = {LIMIT_KEYS[key]: value for key, value in row.items()}
            numbers = {key: _number(given.get(key)) for key in ("at_least", "at_most")}
            found.append(HardLimit(str(given["structure"]), str(given["metric"]), **numbers))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise ValueError(f"{source}: hard limit {number}: {error}; {', '.join(LIMIT_KEYS)}") from error
    return tuple(found)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number


def _head_number(root: dict[str, Any], key: str, source: str) -> float | None:
    try:
        return _number(root.get(key))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {key}: {error}") from error


def _item(raw: dict[str, Any]) -> Item:
    structure = raw.get("Structure") or {}
    numbers = ("value", "high", "low", "target")
    found: dict[str, Any] = {k: raw.get(key) for key, k in DEFINITION_KEYS.items()}
    found |= {k: _number(found[k]) for k in numbers}
    of = Definition(**found)
    extra = {k: v for k, v in raw.items() if k not in ITEM_KEYS}
    extra["Structure"] = {k: v for k, v in structure.items() if k not in STRUCTURE_KEYS}
    wanted: dict[str, Any] = {k: structure.get(key) for key, k in STRUCTURE_KEYS.items()}
    return Item(
        StructureReference(**{**wanted, "auto_generated": bool(wanted["auto_generated"])}),
        replace(of, metric=of.metric or "Undefined"),
        tuple(_point(point) for point in raw.get("ScorePoints") or []),
        int(raw.get("Rank") or 0),
        raw.get("MetricComment") or "",
        extra,
    )


def _point(raw: dict[str, Any]) -> Point:
    x, score = _number(raw.get("PointX")), _number(raw.get("Score"))
    if x is None or score is None:
        raise ValueError("a score point needs PointX and Score")
    extra = {k: v for k, v in raw.items() if k not in POINT_KEYS}
    colors = tuple(float(c) for c in raw.get("Colors") or ())
    return Point(x, score, bool(raw.get("Variation")), colors, raw.get("Label") or "", extra)


def to_json(card: Scorecard) -> dict[str, Any]:
    """A scorecard as the format's JSON object."""
    values = (card.name, card.site, card.creator, card.dose_per_fraction_gy, card.fractions)
    head = dict(zip(HEAD_KEYS, values, strict=True))
    limits = {"HardLimits": [_limit_json(limit) for limit in card.limits]} if card.limits else {}
    return {**head, **card.extra, **limits, "ScoreTemplates": [_item_json(item) for item in card.items]}


def _limit_json(limit: HardLimit) -> dict[str, Any]:
    return {key: getattr(limit, name) for key, name in LIMIT_KEYS.items()}


def _item_json(item: Item) -> dict[str, Any]:
    structure = {key: getattr(item.structure, k) for key, k in STRUCTURE_KEYS.items()}
    points = [
        {
            **dict(zip(POINT_KEYS, (p.x, p.score, p.variation, list(p.colors), p.label), strict=True)),
            **p.extra,
        }
        for p in item.points
    ]
    return {
        **item.extra,
        "Structure": {**structure, **item.extra.get("Structure", {})},
        "Rank": item.rank,
        **{key: getattr(item.of, k) for key, k in DEFINITION_KEYS.items()},
        "ScorePoints": points,
        "MetricComment": item.comment,
    }


def write_scorecard(card: Scorecard, path: Path) -> None:
    """Write PlanScoreCard JSON, UTF-8 without BOM, by atomic rename."""
    with whole(path) as scratch:
        scratch.write_text(json.dumps(to_json(card), indent=2) + "\n", encoding="utf-8")


def templates() -> dict[str, Path]:
    """The scorecards that come with the package, by file name."""
    return {path.stem: path for path in sorted(TEMPLATES.glob("*.json"))}
