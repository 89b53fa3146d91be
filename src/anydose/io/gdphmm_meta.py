"""The files that the GDP-HMM challenge gives beside its plans: targets of each patient, and site, phase and
split of each plan.

PTV_DICT.json, Pat_Obj_DICT.json and meta_data.csv lie beside the plans, in a folder above them, or in
`meta_files` of one of these. Format: RiqiangGao/GDP-HMM_AAPMChallenge (R. Gao et al., arXiv 2501.11803).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PTV_FILE, OBJECTS_FILE, PLANS_FILE = "PTV_DICT.json", "Pat_Obj_DICT.json", "meta_data.csv"
META_FOLDER = "meta_files"
FOLDERS_UP = 4
TARGETS = ("PTV_High", "PTV_Mid", "PTV_Low")
SITES = {"1": "head and neck", "2": "lung"}


@dataclass(frozen=True)
class Target:
    """One target level of a patient."""

    level: str
    """'PTV_High', 'PTV_Mid' or 'PTV_Low'."""
    structure: str
    """Its structure's name."""
    dose_gy: float
    """Its prescription."""


@dataclass(frozen=True)
class Plan:
    """One row of meta_data.csv."""

    patient: str
    """The patient's number."""
    plan: str
    """The plan's."""
    is_vmat: bool
    """Whether it is an arc."""
    site: str
    """'head and neck' or 'lung'."""
    phase: str
    """Of the challenge: 'train' or 'valid'."""
    dev_split: str
    """Of the baseline: 'train', 'valid' or 'test'."""
    file: str
    """The name of its .npz."""


def find(path: Path, name: str) -> Path | None:
    """The side file called `name` of the plan at `path`; the nearest one, None if there is none."""
    for folder in path.resolve().parents[:FOLDERS_UP]:
        for place in (folder / name, folder / META_FOLDER / name):
            if place.is_file():
                return place
    return None


def side_files(path: Path) -> list[Path]:
    """The side files that a plan is read with."""
    found = find(path, PTV_FILE)
    return [found] if found else []


def targets(path: Path) -> list[Target]:
    """The targets of the patient whose plan lies at `path`, the highest first; [] where no side file tells.
    The high one's structure is its OPT structure, as the challenge normalises. ValueError for a file that is
    not of this form."""
    file = find(path, PTV_FILE)
    if file is None:
        return []
    try:
        value = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file}: a JSON {type(value).__name__}; an object by patient is accepted")
    patient = path.name.split("+")[0].removesuffix(".npz")
    rows = value.get(patient, value.get(patient.rjust(3, "0"), {}))
    return [_target(file, rows, level) for level in TARGETS if isinstance(rows, dict) and level in rows]


def _target(file: Path, rows: dict[str, Any], level: str) -> Target:
    row, key = rows[level], "OPTName" if level == TARGETS[0] else "StructName"
    try:
        name, dose_gy = row[key], float(row["PDose"])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{file}: {level} is {str(row)[:60]}; {key} and PDose are needed") from error
    if not isinstance(name, str):
        raise ValueError(f"{file}: {key} of {level} is {str(name)[:40]}; a structure's name is accepted")
    return Target(level, name, dose_gy)


def plans(file: Path) -> Iterator[Plan]:
    """The rows of meta_data.csv. ValueError for a file without these columns."""
    needed = {"PID", "PlanID", "isVMAT", "site", "phase", "dev_split", "npz_path"}
    with file.open(newline="", encoding="utf-8") as text:
        reader = csv.DictReader(text)
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{file}: no column {', '.join(sorted(missing))}; these are needed")
        for row in reader:
            site = SITES.get(str(row["site"]).strip(), str(row["site"]))
            yield Plan(
                patient=row["PID"],
                plan=row["PlanID"],
                is_vmat=row["isVMAT"].strip().lower() == "true",
                site=site,
                phase=row["phase"],
                dev_split=row["dev_split"],
                file=row["npz_path"].replace("\\", "/").rsplit("/", 1)[-1],
            )


def is_cohort(root: Path) -> bool:
    """Whether a folder holds plans and the file that says their site, phase and split."""
    return root.is_dir() and find(root / "plan.npz", PLANS_FILE) is not None and any(root.rglob("*.npz"))


def cohort(root: Path, site: str = "", phase: str = "", dev_split: str = "") -> list[tuple[Plan, Path]]:
    """The plans of a GDP-HMM folder with the file of each, of one site, phase or split if given. ValueError
    if there is no meta_data.csv, or no plan left."""
    file = find(root / "plan.npz", PLANS_FILE)
    if file is None:
        raise ValueError(f"{root}: no {PLANS_FILE} found; it lies in {META_FOLDER} beside the plans")
    here = {path.name: path for path in root.rglob("*.npz")}
    wanted = [
        (plan, here[plan.file])
        for plan in plans(file)
        if plan.file in here
        and site in ("", plan.site)
        and phase in ("", plan.phase)
        and dev_split in ("", plan.dev_split)
    ]
    if not wanted:
        asked = ", ".join(text for text in (site, phase, dev_split) if text) or "any"
        raise ValueError(f"{root}: no plan ({asked}) among {len(here)} .npz files is listed in {file}")
    return wanted
