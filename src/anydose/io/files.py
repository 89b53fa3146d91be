"""Files that appear whole or not at all, and file names that stay in their folder."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from anydose.atomic.files import whole as whole  # readers and writers of patients take it from here

LONGEST_BYTES = 180  # of a file's name: systems allow 255, of which endings and scratch marks need some


DICOMDIR = "DICOMDIR"
ONE_FILE = (".npz", ".zip")  # endings of cases that are one file
LITTER = (".ds_store", "thumbs.db", "desktop.ini")


def is_litter(path: Path) -> bool:
    """True for what desktops leave beside files: `._name`, .DS_Store, Thumbs.db."""
    return path.name.startswith("._") or path.name.lower() in LITTER


def case_place(path: Path) -> Path:
    """Where a case lies that is given by the index of its medium: the folder of a DICOMDIR; else `path`."""
    return path.parent if path.name.upper() == DICOMDIR and path.is_file() else path


def file_name(text: str) -> str:
    """A structure or case name as one file name: what could leave the folder or hide becomes '_', and a name
    that is too long is cut and gets a hash. ValueError if nothing is left."""
    safe = re.sub(r"[^\w\-+. ()]", "_", text).strip(" .")
    if not safe:
        raise ValueError(f"the name {text[:60]!r} cannot be a file name; a letter or digit is needed")
    if len(safe.encode()) <= LONGEST_BYTES:
        return safe
    kept = safe.encode()[: LONGEST_BYTES - 11].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def write_json(value: Any, path: Path) -> None:
    """Write JSON by atomic rename."""
    with whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2) + "\n")
