"""Files that say which cases belong to which split of a cohort."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml

from anydose.io import gdphmm_meta, openkbp
from anydose.io.sources import sources

EVERY = "all"
"""In place of a split's name: the cases of every split of the file."""


def cases_of(cohort: Path, split: str, splits: Path | None) -> list[tuple[str, Path]]:
    """(name, path) of the cases of one split of a cohort: an OpenKBP dataset's own, the development split of
    a GDP-HMM folder ('train', 'valid', 'test'), those that a file of splits names (EVERY: of all of them), or
    every case. Raises ValueError where there is no such split or case."""
    if splits is None and openkbp.is_dataset(cohort):
        return [(path.name, path) for path in openkbp.patients(cohort, split or "validation")]
    if splits is None and split and gdphmm_meta.is_cohort(cohort):
        plans = gdphmm_meta.cohort(cohort, dev_split="valid" if split == "validation" else split)
        return [(path.stem, path) for _, path in plans]
    found = sources(cohort)
    if splits is None:
        if split:
            raise ValueError(
                f"{cohort}: split {split!r} needs a file of splits, an OpenKBP dataset or a GDP-HMM folder"
            )
        return found
    wanted = {EVERY: list(splits_of(splits))} if split == EVERY else read_splits(splits)
    if split not in wanted:
        raise ValueError(f"{splits}: split {split!r} not found; {', '.join(wanted)} is accepted")
    places = dict(found)
    missing = [name for name in wanted[split] if name not in places]
    if missing:
        raise ValueError(f"{splits}: no case {missing[0]} in {cohort} ({len(missing)} missing)")
    return [(name, places[name]) for name in wanted[split]]


def splits_of(splits: Path) -> dict[str, str]:
    """Case -> its split, of a file in which every case stands once, as those of a cross-validation. Raises
    ValueError for a case in two splits."""
    found: dict[str, str] = {}
    for split, names in read_splits(splits).items():
        for name in names:
            if name in found:
                raise ValueError(f"{splits}: {name} stands in {found[name]} and {split}; one is accepted")
            found[name] = split
    return found


def read_splits(path: Path) -> dict[str, list[str]]:
    """Split -> names of its cases, of a CSV file with the columns case and split, or a YAML file of
    split: [cases]. Raises ValueError for anything else, and for a case that stands there twice."""
    if path.suffix == ".csv":
        found = _from_csv(path)
    elif path.suffix in (".yaml", ".yml"):
        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: no YAML; split: [cases] is accepted") from error
        if not isinstance(value, dict) or not all(_are_names(names) for names in value.values()):
            raise ValueError(f"{path}: split: [cases] is accepted, cases by name")
        found = {str(split): [str(name) for name in names] for split, names in value.items()}
    else:
        raise ValueError(f"{path}: a .csv or .yaml file is accepted")
    seen: dict[str, str] = {}
    for split, names in found.items():
        for name in names:
            if name in seen:
                where = f"in {split} twice" if seen[name] == split else f"in {seen[name]} and in {split}"
                raise ValueError(f"{path}: the case {name} stands {where}; each once is accepted")
            seen[name] = split
    without = next((split for split, names in found.items() if not names), None)
    if without is not None:
        raise ValueError(f"{path}: no case in the split {without!r}; a split with cases is accepted")
    if not seen:
        raise ValueError(f"{path}: no case found; a case and its split are accepted")
    return found


def _from_csv(path: Path) -> dict[str, list[str]]:
    """Split -> cases, of a table with the columns case and split, and any others."""
    found: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [str(name)[:40] for name in reader.fieldnames or ()]
            if not {"case", "split"} <= set(columns) or len(set(columns)) < len(columns):
                raise ValueError(f"columns {columns[:8]} found; case and split, once each, are accepted")
            for row in reader:
                name, split = row["case"], row["split"]
                if None in row or not (_is_name(name) and _is_name(split)):
                    raise ValueError(f"line {reader.line_num}: a case and its split are accepted")
                found.setdefault(split, []).append(name)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, int) or _is_name(name) for name in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()
