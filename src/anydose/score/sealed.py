"""JSON beside a model that says how far to trust it: with a hash of its own, so that damage is seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SEAL = "sha256"


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with the SHA-256 of the rest of it in its key `sha256`."""
    return {**value, SEAL: _hash(value)}


def read(path: Path) -> dict[str, Any]:
    """The value without its hash. Raises ValueError, naming the file, for another form, for a value that
    differs from its hash, and for numbers that are not finite. A file without hash is older than 0.2."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: damaged, {type(value).__name__} found, an object is needed")
    if SEAL in value and value[SEAL] != _hash(value):
        raise ValueError(f"{path}: damaged, it differs from its SHA-256")
    _check_finite(value, path)
    return {key: part for key, part in value.items() if key != SEAL}


def _hash(value: Mapping[str, Any]) -> str:
    rest = {key: part for key, part in value.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_finite(value: Any, path: Path) -> None:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _check_finite(part, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: damaged, {value} found, finite numbers are needed")
