"""Scorecards of other systems: ProKnow JSON and ePeerReview CSV, and one reader for every kind of file.

Source: specification of the PlanScoreCard format, section 5.7; ProKnow's metric names:
proknow/proknow-python, docs/usage/computed_metrics.rst. A metric that has no counterpart is kept under its
own name, so that scoring reports it as not known instead of dropping it."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

from anydose.score.metrics import Definition, parse
from anydose.score.scorecard import Item, Point, Scorecard, from_json
from anydose.score.structures import StructureReference

# ProKnow type -> (MetricType, InputUnit, OutputUnit); arg_1 is the abscissa where there is an InputUnit
PROKNOW = {
    "DOSE_VOLUME_PERCENT_ROI": ("DoseAtVolume", "%", "Gy"),
    "DOSE_VOLUME_CC_ROI": ("DoseAtVolume", "cc", "Gy"),
    "DOSE_VOLUME_MINUS_CC_ROI": ("DoseAtSubVolume", "cc", "Gy"),
    "VOLUME_PERCENT_DOSE_ROI": ("VolumeAtDose", "Gy", "%"),
    "VOLUME_CC_DOSE_ROI": ("VolumeAtDose", "Gy", "cc"),
    "MEAN_DOSE_ROI": ("MeanDose", None, "Gy"),
    "MAX_DOSE_ROI": ("MaxDose", None, "Gy"),
    "MIN_DOSE_ROI": ("MinDose", None, "Gy"),
    "VOLUME_OF_REGRET": ("VolumeOfRegret", "Gy", "cc"),
    "CONFORMATION_NUMBER": ("ConformationNumber", "Gy", None),
    "CONFORMALITY_INDEX": ("ConformityIndex", "Gy", None),
    "HOMOGENEITY_INDEX": ("HomogeneityIndex", None, None),
    "INHOMOGENEITY_INDEX": ("InhomogeneityIndex", None, None),
}
IN_BRACKETS = re.compile(r"\[\s*([-+]?\d*\.?\d+)\s*\]")
PAIR = re.compile(r"\(\s*([-+]?\d*\.?\d+)\s*;\s*([-+]?\d*\.?\d+)\s*\)")
COLUMNS = {"structure": "Structure", "metric": "Metric", "points": "Points"}


def read_any(path: Path) -> Scorecard:
    """A scorecard of any kind: PlanScoreCard JSON, ProKnow JSON (has a list `computed`) or ePeerReview CSV.
    ValueError for anything else."""
    if path.suffix.lower() == ".csv":
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a scorecard, no text ({error})") from error
        return from_epeerreview(text, str(path))
    try:
        root = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a scorecard, neither JSON nor .csv ({error})") from error
    if isinstance(root, dict) and isinstance(root.get("computed"), list):
        return from_proknow(root, str(path))
    return from_json(root, str(path))


def from_proknow(root: dict[str, Any], source: str = "scorecard") -> Scorecard:
    """A ProKnow scorecard template from parsed JSON. An objective's score is the number in square brackets
    of its label, its PointX the bound on its worse side; the label that starts with ACCEPTABLE marks the
    variation point."""
    items = []
    for rank, raw in enumerate(root["computed"], start=1):
        try:
            items.append(_proknow_item(raw, rank))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{source}: computed metric {rank}: {error}") from error
    return Scorecard(root.get("name") or Path(source).stem, tuple(items), creator="ProKnow")


def _proknow_item(raw: dict[str, Any], rank: int) -> Item:
    kind = raw["type"]
    name, unit, output = PROKNOW.get(kind, (kind, None, None))
    argument = raw.get("arg_1")
    argument = None if argument is None else float(argument)
    of = Definition(name, argument if unit else None, unit, output)
    if name == "HomogeneityIndex":
        of = Definition(name, high=1.0, low=99.0, target=argument, target_unit="Gy")
    points = _proknow_points(raw.get("objectives") or [])
    name_there = raw.get("roi_name")
    if not isinstance(name_there, str | None):
        raise ValueError(f"roi_name {str(name_there)[:40]}; text is needed")
    return Item(StructureReference(template_id=name_there), of, points, rank)


def _proknow_points(objectives: list[dict[str, Any]]) -> tuple[Point, ...]:
    scored = []
    for objective in objectives:
        label = objective["label"]
        if found := IN_BRACKETS.search(label or ""):
            scored.append((float(found.group(1)), objective))
    if not scored:
        return ()
    best = max(scored, key=lambda pair: pair[0])[1]
    worse = ("max", "min") if best.get("max") is not None else ("min", "max")
    points = []
    for score, objective in scored:
        x = next((float(objective[k]) for k in worse if objective.get(k) is not None), None)
        if x is None:
            raise ValueError(f"objective {objective.get('label')!r} has neither min nor max")
        if not math.isfinite(x):
            raise ValueError(f"objective {objective.get('label')!r}: {x} is no number")
        if x < 0:
            raise ValueError(f"objective {objective.get('label')!r}: {x:g}; 0 or more is accepted")
        variation = objective["label"].strip().upper().startswith("ACCEPTABLE")
        colors = tuple(float(c) for c in objective.get("color") or ())
        points.append(Point(x, score, variation, colors, objective["label"]))
    ascending = worse[0] == "min"  # equal x: the worse score stands outside
    return tuple(sorted(points, key=lambda p: (p.x, p.score if ascending else -p.score)))


def from_epeerreview(text: str, source: str = "scorecard") -> Scorecard:
    """An ePeerReview CSV with the columns Structure, Metric and Points (any order, others ignored): metrics
    as D0.03cc[Gy], points as (x;score)(x;score)..., of which the second is the variation point. ValueError
    names the line."""
    rows = csv.DictReader(text.splitlines())
    columns = {c.strip().lower(): c for c in rows.fieldnames or ()}
    for key, name in COLUMNS.items():
        if key not in columns:
            raise ValueError(f"{source}: no column {name}; {', '.join(COLUMNS.values())} are needed")
    items = []
    for line, row in enumerate(rows, start=2):
        try:
            text_of = row[columns["points"]] or ""
            if rest := PAIR.sub("", text_of).strip(" ,"):
                raise ValueError(f"points {text_of!r}: {rest!r} is no (x;score)")
            points = [(float(x), float(score)) for x, score in PAIR.findall(text_of)]
            of = parse(row[columns["metric"]] or "")
        except ValueError as error:
            raise ValueError(f"{source}: line {line}: {error}") from error
        curve = tuple(Point(x, score, variation=number == 1) for number, (x, score) in enumerate(points))
        items.append(
            Item(
                StructureReference(template_id=(row[columns["structure"]] or "").strip()), of, curve, line - 1
            )
        )
    return Scorecard(Path(source).stem, tuple(items), creator="ePeerReview")
