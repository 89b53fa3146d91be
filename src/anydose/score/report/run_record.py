"""The record that a prediction leaves beside its dose (run.json), as far as a report shows it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "run.json"
BANDS = "dvh_bands.csv"
NAMING = ("roi", "tg263", "role", "channel", "why")


@dataclass(frozen=True)
class RunRecord:
    """What a report says of how a dose came about. Every part may be empty."""

    warnings: tuple[str, ...] = ()
    """What makes the case unlike the model's training data."""
    lines: Mapping[str, str] = field(default_factory=dict)
    """Model, options, used inputs: heading -> text."""
    structures: tuple[tuple[str, str, str, str, str], ...] = ()
    """A row a structure of the case, of NAMING: what the model took it for, and why."""
    bands: tuple[Mapping[str, Any], ...] = ()
    """80 % intervals of DVH points: structure, point ('D_95', 'mean'), low_80 and high_80 in Gy."""


def read_beside(dose: Path) -> RunRecord:
    """The record beside a dose file, or in the folder of a prediction; an empty one where there is none.
    ValueError with one sentence for a file that is no such record."""
    folder = dose if dose.is_dir() else dose.parent
    path, bands = folder / NAME, folder / BANDS
    if not path.is_file():
        return RunRecord()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: no run record: not JSON ({error}); delete it or predict again") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: no run record: an object is needed, {_kind(raw)} found")
    known = _read_bands(bands) if bands.is_file() else ()
    return RunRecord(_sentences(raw, "warnings", path), _lines(raw, path), _naming(raw, path), known)


def _read_bands(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The intervals of the DVH points; ValueError with the file for a table that is none."""
    found = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                low, high = float(row["low_80"]), float(row["high_80"])
                if not (math.isfinite(low) and math.isfinite(high)):
                    raise ValueError("an interval is not finite")
                found.append({"structure": row["structure"], "point": row["point"], "low": low, "high": high})
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ValueError(f"{path}: no table of intervals ({error}); delete it or predict again") from error
    return tuple(found)


def _sentences(raw: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{path}: {key}: a list of sentences is needed, {_kind(value)} found")
    return tuple(value)


def _object(raw: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {key}: an object is needed, {_kind(value)} found")
    return value


def _lines(raw: dict[str, Any], path: Path) -> dict[str, str]:
    model, options = _object(raw, "model", path), _object(raw, "options", path)
    said = {
        "Model": ", ".join(f"{key} {value}" for key, value in model.items()),
        "Options": ", ".join(f"{key} {_text(value)}" for key, value in options.items()),
        "Shown to the model": ", ".join(_sentences(raw, "used", path)),
        "Filled in": "; ".join(_sentences(raw, "inferred", path)),
    }
    if "mimicked" in raw:
        said["Dose mimicking"] = "moved towards what the beams can deliver" if raw["mimicked"] else "none"
    return {heading: text for heading, text in said.items() if text}


def _naming(raw: dict[str, Any], path: Path) -> tuple[tuple[str, str, str, str, str], ...]:
    """What each structure was taken for; the record may lack it."""
    rows = raw.get("structures", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: structures: a list of objects is needed, {_kind(rows)} found")
    found = []
    for row in rows:
        roi, tg263, role, channel, why = (_text(row.get(key, "")) for key in NAMING)
        found.append((roi, tg263, role, channel, why))
    return tuple(found)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(_text(entry) for entry in value) or "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(value: Any) -> str:
    return {list: "a list", dict: "an object", str: "text", type(None): "null"}.get(type(value), "a number")
