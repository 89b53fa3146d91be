"""The cases below a folder: a dataset, a clinic's export of many patients, or one case; and doses that belong
to cases by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anydose.io.files import ONE_FILE, case_place
from anydose.io.formats import accepted, dose_suffixes, format_of
from anydose.io.gdphmm_meta import META_FOLDER
from anydose.io.run_folder import is_result

CASES = (".npz", "")  # endings of cases that hold a dose, beside those of dose files


def sources(root: Path) -> list[tuple[str, Path]]:
    """(name, path) of every case at or below `root`, pt_2 before pt_10: an OpenKBP dataset, a folder of cases
    in any form (one folder or .npz a patient), or one case. Names are made unique by their folders.
    ValueError if there is none."""
    root = case_place(root)
    found = list(_cases(root, set()))
    if not found:
        raise ValueError(f"{root}: no case found; {accepted()}, or a folder of these, is accepted")
    stems = [_stem(path) for path in found]
    if len(set(stems)) < len(stems):
        stems = ["_".join([*path.relative_to(root).parts[:-1], _stem(path)]) for path in found]
    return sorted(zip(stems, found, strict=True), key=lambda pair: (len(pair[0]), pair[0]))


def is_cohort(path: Path) -> bool:
    """True for a folder of cases, False for one case and for anything else."""
    path = case_place(path)
    if not path.is_dir() or is_result(path) or _is_case(path):
        return False
    return next(_cases(path, set()), None) is not None


def dose_of(doses: Path, case_name: str, single: bool) -> Path:
    """The dose of one case: `doses` itself for a single case, else the file or folder in it that is named
    after the case. ValueError if there is none."""
    if single:
        return doses
    suffixes = dict.fromkeys((*dose_suffixes(), *CASES))
    for suffix in suffixes:
        if (found := doses / f"{case_name}{suffix}").exists():
            return found
    raise ValueError(f"{doses}: no dose named {case_name} ({', '.join(s for s in suffixes if s)})")


def _stem(path: Path) -> str:
    return path.stem if path.suffix.lower() in ONE_FILE else path.name


def _cases(path: Path, seen: set[Path]) -> Iterator[Path]:
    if is_result(path):
        return  # what `predict` and `complete` left is no patient
    if path.is_dir():
        place = path.resolve()
        if place in seen:  # a link to where we have been
            return
        seen.add(place)
    if _is_case(path):
        yield path
    elif path.is_dir():
        named = (p for p in path.iterdir() if not p.name.startswith(".") and p.name != META_FOLDER)
        for below in sorted(named):
            yield from _cases(below, seen)


def _is_case(path: Path) -> bool:
    """True if the file or folder itself is one case: a format may look below a folder, so a folder of
    patients has to be told from a patient."""
    try:
        return format_of(path).is_one_case(path)
    except ValueError:
        return False
