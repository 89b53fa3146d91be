"""Files that say which cases belong to which split of a cohort."""

from __future__ import annotations

import csv
from pathlib import Path

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
    split: [cases]. Raises ValueError for anything else, and for a case that stands in one split twice."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"case", "split"} <= set(reader.fieldnames or ()):
                raise ValueError(f"{path}: columns {reader.fieldnames} found; case and split are accepted")
            found: dict[str, list[str]] = {}
            for row in reader:
                found.setdefault(row["split"], []).append(row["case"])
    elif path.suffix in (".yaml", ".yml"):
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: no YAML; split: [cases] is accepted") from error
        usual = isinstance(found, dict) and all(isinstance(names, list) for names in found.values())
        if not usual:
            raise ValueError(f"{path}: split: [cases] is accepted")
        found = {str(split): [str(name) for name in names] for split, names in found.items()}
    else:
        raise ValueError(f"{path}: a .csv or .yaml file is accepted")
    for split, names in found.items():
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: a case stands in {split} twice")
    return found
