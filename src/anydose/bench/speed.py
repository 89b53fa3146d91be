"""What a model's shortcuts and its other targets are worth, measured on validation patients: `--fast` against
the default, and every modality completed from the others."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anydose.case import modality
from anydose.case.case import Case
from anydose.complete import ask, complete
from anydose.io import openkbp
from anydose.model.any2any import Any2Any
from anydose.predict import Options
from anydose.score import challenge, completion

Rows = list[dict[str, Any]]


def bench_fast(folders: Iterable[Path], model: str) -> Rows:
    """`anydose predict` as a user runs it, `--fast` against the default, start of the process included: wall
    seconds, both OpenKBP dose scores, and the mean absolute difference of the two doses where dose is
    possible. The last row is the cohort's."""
    rows: Rows = []
    for folder in folders:
        case, row = openkbp.read_case(folder), {"bench": "fast", "patient": folder.name}
        assert case.body is not None
        doses = {}
        for name, extra in (("full", []), ("fast", ["--fast"])):
            with tempfile.TemporaryDirectory() as out:
                seconds, run = _predicted(folder, Path(out), ["--model", model, *extra])
                doses[name] = openkbp.read_dose(Path(out) / f"{case.name}.csv", case.grid).array
            options = run["options"]
            row |= {f"{name}_seconds": round(seconds, 2)}
            row |= {f"{name}_{k}": options[k] for k in ("steps", "samples", "looks")}
            if case.dose is not None:
                error = challenge.dose_error(case.dose.in_unit("Gy"), doses[name], case.body)
                row |= {f"{name}_dose_error": round(error, 4)}
        apart = challenge.dose_error(doses["full"], doses["fast"], case.body)
        rows.append({**row, "difference_gy": round(apart, 4), "threads": torch.get_num_threads()})
    if not rows:
        raise ValueError("no patient to predict")
    return [*rows, _mean(rows)]


def _predicted(folder: Path, out: Path, options: list[str]) -> tuple[float, dict[str, Any]]:
    """Wall seconds of one `anydose predict`, and its run record."""
    line = [sys.executable, "-m", "anydose.cli", "predict", str(folder), "--out", str(out), *options]
    begin = time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    return time.perf_counter() - begin, json.loads((out / "run.json").read_text())


def _mean(rows: Rows) -> dict[str, Any]:
    """The cohort's row: means, and the slowest fast prediction."""
    measured = [k for k in rows[0] if k.endswith(("_seconds", "_error", "_gy"))]
    mean = {k: round(float(np.mean([r[k] for r in rows if k in r])), 4) for k in measured}
    gap = {"fast_minus_full": round(mean["fast_dose_error"] - mean["full_dose_error"], 4)}
    slowest = {"fast_seconds_slowest": max(r["fast_seconds"] for r in rows)}
    return {"bench": "fast", "patients": len(rows), **mean, **gap, **slowest}


# Which conditions a dose is predicted from, fewer and fewer; a beam's plate is the target's shadow.
GIVEN_FOR_DOSE = {
    "all": ("ct", "ptv", "oar", "body", "beam", "angle"),
    "without ct": ("ptv", "oar", "body", "beam", "angle"),
    "without beam": ("ct", "ptv", "oar", "body", "angle"),
    "without beam, angle": ("ct", "ptv", "oar", "body"),
    "without oar": ("ct", "ptv", "body", "beam", "angle"),
    "without body": ("ct", "ptv", "oar", "beam", "angle"),
    "without ptv": ("ct", "oar", "body", "beam", "angle"),
    "ct, ptv, body": ("ct", "ptv", "body"),
    "ptv, body": ("ptv", "body"),
    "ptv alone": ("ptv",),
    "ct, oar, body (no target, no beam)": ("ct", "oar", "body"),
}
# The target without the plates that are its shadow, and the other way round: what the rest knows of it.
GIVEN_FOR_OTHERS = {
    "ptv": ("ct", "oar", "body", "angle", "dose"),
    "beam": ("ct", "oar", "body", "angle", "dose"),
}


def bench_complete(cases: Iterable[Case], models: Mapping[str, Any2Any], options: Options) -> Rows:
    """Every modality, by its model of `models`, from all the others ("remaining-1"), beside what one would
    say without a model, and the dose as conditions are taken away: a row for each, means over the cases that
    have the modality."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for case in cases:
        for target, given, used in _questions(case):
            made = complete(
                models[target], ask(case, target), replace(options, target=target, given=used)
            ).mean
            truth = modality.TABLE[target].draw(case)
            assert truth is not None and case.body is not None
            levels = tuple(case.prescription.levels_gy.values())
            row = completion.figures(target, truth, made, case.body, levels)
            if given == "all" and target in ("ct", "body", "beam", "angle"):
                plain = completion.naive(target, truth, case.body)
                row |= {f"{name}_without_model": value for name, value in plain.items()}
            found.setdefault((target, given), []).append(row)
    rows: Rows = []
    for (target, given), figures in found.items():
        names = dict.fromkeys(name for one in figures for name in one)
        mean = {n: round(float(np.mean([f[n] for f in figures if n in f])), 4) for n in names}
        how = {"steps": options.steps, "looks": options.looks, "patients": len(figures)}
        rows.append({"bench": "complete", "target": target, "given": given, **mean, **how})
    return rows


def _questions(case: Case) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(target, words for what is given, what is given) of everything that is asked of one case."""
    plates = ("beam", "angle")  # slow to draw: there if there are beams
    rest = {name: row for name, row in modality.TABLE.items() if name not in plates}
    found = {name for name, row in rest.items() if row.draw(case) is not None}
    have = modality.subset((*found, *(plates if case.beams else ())))
    for target in (name for name in have if name != "dose"):
        yield target, "all", ()
        if target in GIVEN_FOR_OTHERS:
            used = tuple(name for name in GIVEN_FOR_OTHERS[target] if name in have)
            yield target, ", ".join(GIVEN_FOR_OTHERS[target]), used
    for words, given in GIVEN_FOR_DOSE.items():
        if "dose" in have:
            yield "dose", words, tuple(name for name in given if name in have)
