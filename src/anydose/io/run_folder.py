"""Folders that `anydose predict` and `complete` leave: what their run.json says, and if it still holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

RECORD = "run.json"
DOSE = "dose.nii.gz"


def read_record(folder: Path) -> dict[str, Any] | None:
    """The run record in a folder: its target, the case's name, outputs as {file: SHA-256} (None of a record
    of version 0.1, which kept no hashes). None if there is no record, or it is something else's."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"case", "options", "outputs"} <= record.keys():
        return None
    outputs, options = record["outputs"], record["options"]
    if isinstance(outputs, list) and all(isinstance(name, str) for name in outputs):
        outputs = dict.fromkeys(outputs)  # version 0.1 kept no hashes
    if not isinstance(outputs, dict) or not isinstance(options, dict):
        return None
    record = {"target": options.get("target", "dose"), **record, "outputs": outputs}
    return record if isinstance(record["target"], str) and isinstance(record["case"], str) else None


def is_result(folder: Path) -> bool:
    """True for a folder that a run left, complete."""
    return read_record(folder) is not None


def dose_file(folder: Path) -> Path:
    """The dose that a prediction folder holds. Raises ValueError if there is none, or if it is not the file
    that the run wrote."""
    record = read_record(folder)
    if record is None:
        raise ValueError(f"{folder}: no {RECORD} of a complete prediction found")
    if DOSE not in record["outputs"]:
        raise ValueError(f"{folder}: holds the {record['target']} of {record['case']}, no {DOSE}")
    path = folder / DOSE
    if not path.is_file():
        raise ValueError(f"{path}: not found, though {RECORD} lists it; predict again")
    expected = record["outputs"][DOSE]
    if expected is not None and hash_of(path) != expected:
        raise ValueError(f"{path}: is not the file that {RECORD} lists (sha256 differs); predict again")
    return path


def damage(folder: Path) -> list[str]:
    """What is wrong with a prediction folder, a sentence each: missing, altered or not listed."""
    record = read_record(folder)
    if record is None:
        return [f"{folder}: no {RECORD} of a complete result"]
    listed = {name: digest for name, digest in record["outputs"].items() if name != RECORD}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    said = [f"{name}: missing" for name in listed if name not in found]
    said += [f"{name}: not listed" for name in sorted(found - listed.keys() - {RECORD})]
    for name, digest in listed.items():
        if name in found and digest is not None and hash_of(folder / name) != digest:
            said.append(f"{name}: altered")
    return said


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
