"""`anydose predict` from start to finish as a user runs it: wall time, memory, and what `--fast` is worth."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anydose.bench import averages
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.io import openkbp
from anydose.model.registry import DEFAULT
from anydose.score import challenge


@dataclass(frozen=True)
class PredictSettings(Patients):
    """How it is run."""

    model: str = DEFAULT
    """A shipped model's name or a .safetensors file."""
    steps: int = 4
    """Network evaluations a sample."""


@benchmark(
    "predict",
    settings=PredictSettings,
    says="Wall time and peak memory of `anydose predict`, start of the process included.",
)
def measure_predict(settings: PredictSettings) -> Iterator[Row]:
    """A row a patient."""
    options = ["--model", settings.model, "--steps", str(settings.steps)]
    for folder in settings.folders():
        with tempfile.TemporaryDirectory() as out:
            wall, run = _predicted(folder, Path(out), options)
        yield {
            "bench": "predict",
            "patient": folder.name,
            "steps": settings.steps,
            "wall_seconds": round(wall, 2),
            "sampling_seconds": run["seconds"]["sample"],
            "peak_memory_mb": run["peak_memory_mb"],
            "threads": torch.get_num_threads(),
            "children_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        }


@dataclass(frozen=True)
class FastSettings(Patients):
    """Which model is run."""

    model: str = DEFAULT
    """A shipped model's name or a .safetensors file."""


@benchmark(
    "fast",
    settings=FastSettings,
    says="`anydose predict --fast` against the default: seconds, OpenKBP's dose error, and how far apart the "
    "two doses are.",
    has_page=True,
)
def measure_fast(settings: FastSettings) -> Rows:
    """A row a patient, then the cohort's. ValueError for a cohort without patients."""
    rows = [_full_and_fast(folder, settings.model) for folder in settings.folders()]
    if not rows:
        raise ValueError("no patient to predict")
    return [*rows, _cohort(rows)]


def _full_and_fast(folder: Path, model: str) -> Row:
    """Both predictions of one patient; the difference is the mean over the body's voxels."""
    case = openkbp.read_case(folder)
    assert case.body is not None
    row: Row = {"bench": "fast", "patient": folder.name}
    doses = {}
    for name, extra in (("full", []), ("fast", ["--fast"])):
        with tempfile.TemporaryDirectory() as out:
            seconds, run = _predicted(folder, Path(out), ["--model", model, *extra])
            doses[name] = openkbp.read_dose(Path(out) / f"{case.name}.csv", case.grid).array
        row[f"{name}_seconds"] = round(seconds, 2)
        for option in ("steps", "samples", "looks"):
            row[f"{name}_{option}"] = run["options"][option]
        if case.dose is not None:
            error = challenge.dose_error(case.dose.in_unit("Gy"), doses[name], case.body)
            row[f"{name}_dose_error"] = round(error, 4)
    apart = challenge.dose_error(doses["full"], doses["fast"], case.body)
    return {**row, "difference_gy": round(apart, 4), "threads": torch.get_num_threads()}


def _predicted(folder: Path, out: Path, options: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Wall seconds of one `anydose predict`, and its run record."""
    line = [sys.executable, "-m", "anydose.cli", "predict", str(folder), "--out", str(out), *options]
    begin = time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    return time.perf_counter() - begin, json.loads((out / "run.json").read_text())


def _cohort(rows: Rows) -> Row:
    """The cohort's row: means, and the slowest fast prediction."""
    measured = [name for name in rows[0] if name.endswith(("_seconds", "_error", "_gy"))]
    mean = {name: round(averages.mean(rows, name), 4) for name in measured}
    if "fast_dose_error" in mean:
        mean["fast_minus_full"] = round(mean["fast_dose_error"] - mean["full_dose_error"], 4)
    slowest = max(row["fast_seconds"] for row in rows)
    return {"bench": "fast", "patients": len(rows), **mean, "fast_seconds_slowest": slowest}
