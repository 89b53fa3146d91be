"""A folder of cases, and a folder of doses that belong to them by name."""

from __future__ import annotations

from pathlib import Path

from anydose.io.read import kind_of

SUFFIXES = (".csv", ".nii.gz", ".nii", ".npy", ".npz", ".dcm", "")


def cases(path: Path) -> list[Path]:
    """The case at `path`, or the cases in the folder, sorted by name. ValueError if there is none."""
    if path.is_file() or not path.is_dir():
        kind_of(path)
        return [path]
    inside = sorted(
        (p for p in path.iterdir() if p.is_dir() and _is_case(p)), key=lambda p: (len(p.name), p.name)
    )
    if not any(p.is_file() for p in path.iterdir()) and inside:
        return inside
    kind_of(path)
    return [path]


def _is_case(path: Path) -> bool:
    try:
        kind_of(path)
    except ValueError:
        return False
    return True


def dose_of(doses: Path, case_name: str, single: bool) -> Path:
    """The dose of one case: `doses` itself for a single case, else the file or folder in it that is named
    after the case. ValueError if there is none."""
    if single:
        return doses
    for suffix in SUFFIXES:
        if (found := doses / f"{case_name}{suffix}").exists():
            return found
    raise ValueError(f"{doses}: no dose named {case_name} ({', '.join(s for s in SUFFIXES if s)})")
