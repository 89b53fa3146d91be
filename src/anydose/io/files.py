"""Files that appear whole or not at all, and file names that stay in their folder."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` (same suffixes) to write to; on leaving it is renamed to `path`, on an
    exception it is deleted. The folder is created. Scratch files of the same name that dead processes of this
    machine left are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(path)
    scratch = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    for left in path.parent.glob(f".*.{glob.escape(path.name)}"):
        owner = left.name.removeprefix(".").removesuffix(f".{path.name}")
        if owner.isdigit() and not _is_alive(int(owner)):
            left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


LITTER = (".ds_store", "thumbs.db", "desktop.ini")


def is_litter(path: Path) -> bool:
    """True for what desktops leave beside files: `._name`, .DS_Store, Thumbs.db."""
    return path.name.startswith("._") or path.name.lower() in LITTER


def file_name(text: str) -> str:
    """A structure or case name as one file name: what could leave the folder or hide becomes '_'.
    ValueError if nothing is left."""
    safe = re.sub(r"[^\w\-+. ()]", "_", text).strip(" .")
    if not safe:
        raise ValueError(f"the name {text!r} cannot be a file name; a letter or digit is needed")
    return safe


def write_json(value: Any, path: Path) -> None:
    """Write JSON by atomic rename."""
    with whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2) + "\n")
