"""One cohort in four formats: the same patients, scores and doses, whatever form they come in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anydose.bench.registry import Row, benchmark
from anydose.bench.watch import killed, shares, watched
from anydose.engine.engine import Engine, each
from anydose.io import nifti, openkbp, run_folder
from anydose.io.convert import convert_case
from anydose.io.files import write_json
from anydose.score.metric_sets import DVH_ERROR

FIRST = "csv"  # what the others are compared with
WRITTEN = ("dicom", "nifti", "store")
QUICK = ("--looks", "1", "--no-mimic")
SPLITS = ("train", "validation")
DOSE = "openkbp_dose_gy"


@dataclass(frozen=True)
class Settings:
    """Whose patients, and how many."""

    cohort: Path
    """OpenKBP dataset folder (with provided-data): its train and validation patients."""
    work: Path
    """A folder for the converted patients and what is made of them; a stopped measurement goes on there."""
    limit: int = 0
    """Only the first N patients; 0 for all."""
    in_full: int = 12
    """So many of them are predicted with the default options too."""
    workers: int = 2
    """Processes."""


@benchmark(
    "formats",
    settings=Settings,
    says="OpenKBP patients as CSV, DICOM, NIfTI and cohort store: `anydose evaluate` of each (one look, no "
    "dose mimicking), killed (SIGKILL) in the middle and run again, and `anydose predict` of some with the "
    "default options, killed and run again too: how far scores and doses are apart, what was kept.",
    has_page=True,
)
def measure(settings: Settings) -> Iterator[Row]:
    """Rows of converting, of evaluating and of predicting; finished ones are kept in the folder."""
    work, workers = settings.work, settings.workers
    names = _linked(settings)
    every = (FIRST, *WRITTEN)
    steps: dict[str, Callable[[], Row]] = {}
    steps |= {f"convert to {form}": partial(_converted, form, names, settings) for form in WRITTEN}
    steps |= {f"evaluate {form}": partial(_evaluated, form, work, workers) for form in every}
    steps |= {f"scores of {form}": partial(_scores_apart, form, work) for form in WRITTEN}
    steps |= {f"predict {form}": partial(_predicted, form, names, settings) for form in every}
    steps |= {f"doses of {form}": partial(_doses_apart, form, work) for form in WRITTEN}
    file = work / f"rows of {len(names)}, {settings.in_full}.json"
    kept: dict[str, Row] = json.loads(file.read_text()) if file.is_file() else {}
    for step, make in steps.items():
        if step not in kept:
            kept[step] = make()
            write_json(kept, file)
        yield kept[step]


def _linked(settings: Settings) -> list[str]:
    """The patients' names; their CSV folders are linked into one."""
    found = [folder for split in SPLITS for folder in openkbp.patients(settings.cohort, split)]
    folder = settings.work / FIRST
    folder.mkdir(parents=True, exist_ok=True)
    for patient in found[: settings.limit or None]:
        if not (folder / patient.name).exists():
            (folder / patient.name).symlink_to(patient.resolve())
    return [patient.name for patient in found[: settings.limit or None]]


def _converted(form: str, names: Sequence[str], settings: Settings) -> Row:
    work = settings.work
    left = [name for name in names if not (work / form / name).exists()]
    refused = {}
    for done in each(partial(_convert, form=form, work=work), left, Engine(workers=settings.workers)):
        if done.why:
            refused[done.job] = done.why.replace(f"{work}/", "").removeprefix(f"{done.job}: ")
    there = [path for path in (work / form).iterdir() if not path.name.startswith(".") and path.is_dir()]
    row: Row = {"bench": "formats", "converted_to": form, "patients": len(there), "refused": len(refused)}
    return row | {"why": _grouped(refused)}


def _grouped(refused: dict[str, str]) -> str:
    """Each reason once, with those that it keeps out."""
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(refused.items()):
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{why}: {', '.join(names)}" for why, names in reasons.items())


def _convert(name: str, form: str, work: Path) -> None:
    place = work / form if form == "store" else work / form / name
    convert_case(work / FIRST / name, place, form)


def _evaluated(form: str, work: Path, workers: int) -> Row:
    """`evaluate`, killed after a third of the patients and run again."""
    out, places = work / "scores" / form, _patients(work / form)
    line = [sys.executable, "-m", "anydose.cli", "evaluate", "--cohort", str(work / form), *QUICK]
    line += ["--metrics", "openkbp", "--tables", str(out), "--workers", str(workers)]
    result = _in_two_runs(line, lambda: sorted((out / "cases").glob("[!.]*.json")), len(places) // 3, workers)
    found = json.loads((out / "summary.json").read_text())["summary"]
    about = {name: found[name] for name in ("patients", "failed", "dose_score", "dvh_score")}
    return {"bench": "formats", "evaluated": form, **about, **result}


def _predicted(form: str, names: Sequence[str], settings: Settings) -> Row:
    """`predict` with the default options, killed after a third of the patients and run again."""
    work, out = settings.work, settings.work / "predictions" / form
    there = [work / form / name for name in names if all((work / f / name).is_dir() for f in WRITTEN)]
    places = there[: settings.in_full]
    line = [sys.executable, "-m", "anydose.cli", "predict", *map(str, places), "--out", str(out)]
    line += ["--workers", str(settings.workers)]
    result = _in_two_runs(line, lambda: sorted(out.glob("*/run.json")), len(places) // 3, settings.workers)
    damaged = sum(bool(run_folder.damage(out / place.name)) for place in places)
    return {"bench": "formats", "predicted": form, "patients": len(places), "damaged": damaged, **result}


def _in_two_runs(line: list[str], outputs: Any, enough: int, workers: int) -> Row:
    """A command that is killed when there are `enough` outputs, then run to its end. A finished one is run
    once more and keeps all."""
    was_killed = len(outputs()) < enough and killed(line, lambda: len(outputs()) >= enough)
    before = {path: path.stat().st_mtime_ns for path in outputs()}
    said, busy, seconds = watched(line)
    after = outputs()
    untouched = sum(path.stat().st_mtime_ns == before.get(path) for path in after)
    return {
        "killed": was_killed,
        "before_the_kill": len(before),
        "untouched_by_the_second_run": untouched,
        "outputs": len(after),
        "seconds_second_run": round(seconds, 1),
        "busy_share_of_each_worker": shares(busy, seconds, workers),
    }


def _scores_apart(form: str, work: Path) -> Row:
    """How far each patient's scores are from those of the first format."""
    ours, first = _figures(work, form), _figures(work, FIRST)
    both = sorted(ours.keys() & first.keys())
    dose = [abs(ours[name][DOSE] - first[name][DOSE]) for name in both]
    dvh = [
        abs(ours[name][key] - value)
        for name in both
        for key, value in first[name].items()
        if DVH_ERROR in key
    ]
    same = sum(ours[name] == first[name] for name in both)
    return {
        "bench": "formats",
        "scores_of": form,
        "against": FIRST,
        "patients": len(both),
        "equal_to_the_last_bit": same,
        "dose_error_apart_gy_median": float(np.median(dose)),
        "dose_error_apart_gy_max": max(dose),
        "dvh_errors": len(dvh),
        "dvh_error_apart_gy_median": float(np.median(dvh)),
        "dvh_error_apart_gy_max": max(dvh),
    }


def _figures(work: Path, form: str) -> dict[str, dict[str, float]]:
    cases = json.loads((work / "scores" / form / "summary.json").read_text())["cases"]
    return {case["case"]: case["figures"] for case in cases}


def _doses_apart(form: str, work: Path) -> Row:
    """How far the predicted doses are from those of the first format, on this format's grid."""
    worst = 0.0
    means: list[float] = []
    places = sorted((work / "predictions" / form).glob("*/dose.nii.gz"))
    for path in places:
        dose = nifti.read_volume(path, "Gy")
        first = nifti.read_volume(work / "predictions" / FIRST / path.parent.name / path.name, "Gy")
        apart = np.abs(dose.array - first.resample(dose.grid, outside=0.0).array)
        worst, means = max(worst, float(apart.max())), [*means, float(apart.mean())]
    row: Row = {"bench": "formats", "doses_of": form, "against": FIRST, "patients": len(places)}
    return row | {"apart_gy_max": worst, "apart_gy_mean": float(np.mean(means))}


def _patients(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
