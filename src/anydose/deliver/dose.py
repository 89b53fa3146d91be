"""What a prediction leaves on disk: the dose in the input's own form and as NIfTI, its DVH, a page, and the
record of how it came about. Each file appears by atomic rename, run.json last: a folder with a run.json is
complete."""

from __future__ import annotations

import csv
import json
import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anydose import __version__
from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io import nifti
from anydose.io.files import file_name, whole
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import pick_device
from anydose.model.checkpoint import file_hash, load_model
from anydose.predict import Options, Prediction, predict
from anydose.score import calibration
from anydose.score import training_ranges as guard
from anydose.score.calibration import Calibration
from anydose.score.dvh import dvh
from anydose.score.report.page import write_page

DVH_STEP_GY = 0.25
SHOWN_COVERAGE = 0.8  # of the intervals in uncertainty.nii.gz and on the page


@dataclass(frozen=True)
class Dicom:
    """How an RTDOSE is written: grid ('ct', 'reference', a spacing in mm, '' for the reference's or 2.5 mm),
    bits a voxel (16 or 32), with other identifiers than the patient's, with a placeholder plan where there is
    none."""

    grid: str = ""
    bits: int = 32
    anonymize: bool = False
    placeholder_plan: bool = False


@dataclass(frozen=True)
class TrustFiles:
    """What may lie beside a model's weights: its calibrated uncertainty, and the ranges of its training
    cohort."""

    uncertainty: Path
    ranges: Path


def trust_files(model: Path) -> TrustFiles:
    """Where they would lie."""
    return TrustFiles(*(model.with_name(f"{model.stem}.{kind}.json") for kind in ("uncertainty", "ranges")))


@dataclass(frozen=True)
class Trust:
    """How far a prediction can be trusted: its intervals, None if not asked for, and sentences on what is
    unusual."""

    intervals: Calibration | None = None
    warnings: tuple[str, ...] = field(default=())


def trust(case: Case, model: Path, options: Options, intervals: bool) -> Trust:
    """What the files beside a model say of a case. intervals: ask for them. ValueError if they are asked for
    and were never calibrated."""
    files, said, found = trust_files(model), [], None
    if files.ranges.is_file():
        said += guard.warnings(case, guard.read(files.ranges))
    if intervals and not files.uncertainty.is_file():
        raise ValueError(f"{files.uncertainty}: not found; `anydose bench calibration --fit` writes it")
    if intervals:
        found = calibration.read(files.uncertainty)
        if found.about.get("sha256") != file_hash(model):
            said.append("the intervals were calibrated with other weights than these")
        theirs = {k: found.about.get(k) for k in ("steps", "looks", "samples", "mimic")}
        if any(value != getattr(options, k) for k, value in theirs.items()):
            words = ", ".join(f"{k} {value}" for k, value in theirs.items())
            said.append(f"the intervals were calibrated for {words}")
    return Trust(found, tuple(said))


def deliver(
    case: Case,
    prediction: Prediction,
    folder: Path,
    title: str,
    model: str,
    dicom: Dicom,
    trust: Trust | None = None,
) -> list[str]:
    """Write a dose prediction into `folder`; model: what made it (a hash); returns the names of the files."""
    trust = trust or Trust()
    folder.mkdir(parents=True, exist_ok=True)
    dose, name = prediction.volume(case), file_name(case.name)
    written = ["dose.nii.gz", "dvh.csv", "page.png"]
    nifti.write_volume(dose, folder / "dose.nii.gz")
    written += _own_form(case, dose, folder, name, model, dicom)
    if len(prediction.members) > 1:
        nifti.write_volume(Volume(prediction.spread[0], case.grid, "Gy"), folder / "dose_std.nii.gz")
        written.append("dose_std.nii.gz")
        for number, member in enumerate(prediction.members, start=1):
            written.append(f"dose_{number}.nii.gz")
            nifti.write_volume(Volume(member[0], case.grid, "Gy"), folder / written[-1])
    with whole(folder / "dvh.csv") as scratch:
        write_dvh(case, dose, scratch)
    bands: list[dict[str, Any]] = []
    if trust.intervals is not None:
        bands = _write_intervals(case, prediction, trust.intervals, folder)
        written += ["uncertainty.nii.gz", "dvh_bands.csv"]
    with whole(folder / "page.png") as scratch:
        write_page(case, dose, scratch, title, trust.warnings, bands)
    return written


def _write_intervals(
    case: Case, prediction: Prediction, intervals: Calibration, folder: Path
) -> list[dict[str, Any]]:
    """The half-width of every voxel's 80 % interval in Gy as NIfTI, and the intervals of the DVH points as
    CSV; returns the latter."""
    mean, spread = prediction.mean[0], prediction.look_std[0]
    half = intervals.half_width(mean, spread, case.grid, case.rx_max_gy, SHOWN_COVERAGE)
    inside = half if case.body is None else np.where(case.body, half, np.float32(0))
    nifti.write_volume(Volume(inside, case.grid, "Gy"), folder / "uncertainty.nii.gz")
    known = calibration.features(mean, spread, case.grid, case.rx_max_gy)
    rows = calibration.bands(intervals, calibration.dvh_points(case, mean, known))
    with whole(folder / "dvh_bands.csv") as scratch, scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["structure", "point", "gy"])
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    return rows


def _own_form(case: Case, dose: Volume, folder: Path, name: str, model: str, dicom: Dicom) -> list[str]:
    """The dose in the form that the case came in, where that is not NIfTI."""
    if case.meta.get("format") == "openkbp":
        from anydose.io import openkbp

        openkbp.write_dose(dose, case, folder / f"{name}.csv")
        return [f"{name}.csv"]
    if case.meta.get("format") == "dicom":
        from anydose.io.dicom import write as dicom_write

        how = asdict(dicom)
        on_grid = dose.resample(dicom_write.dose_grid(case, how.pop("grid")))
        dicom_write.write_rtdose(on_grid, case, folder / "dose.dcm", model=model, **how)
        return ["dose.dcm"]
    if case.meta.get("format") == "gdphmm":
        from anydose.io import gdphmm

        return [gdphmm.write_prediction(dose, case, folder).name]
    return []


def write_dvh(case: Case, dose: Volume, path: Path) -> None:
    """Cumulative DVHs as CSV: dose_gy, then the volume in percent of each structure."""
    structures = {name: mask for name, mask in case.structures.items() if mask.any()}
    at_gy = np.arange(0.0, float(dose.array.max()) + 2 * DVH_STEP_GY, DVH_STEP_GY)
    columns = [dvh(dose, mask, case.grid).curve(at_gy) for mask in structures.values()]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dose_gy", *(f"{name}_percent" for name in structures)])
        writer.writerows([f"{d:.2f}", *(f"{c[k]:.3f}" for c in columns)] for k, d in enumerate(at_gy))


def predict_to(
    source: Path,
    folder: Path,
    model: str,
    options: Options,
    device: str = "auto",
    read: Mapping[str, Any] | None = None,
    dicom: Dicom | None = None,
    intervals: bool = False,
) -> dict[str, Any]:
    """Read the case at `source`, predict its dose and leave everything in `folder`; returns the run
    record. intervals: with calibrated uncertainty."""
    watch = Stopwatch()
    case = read_case(source, **(read or {}))
    watch.done("read")
    path = registry.find(model)
    trusted = trust(case, path, options, intervals)
    network = load_model(path).on(pick_device(device))
    watch.done("load")
    prediction = predict(network, case, options, on_stage=watch.done)
    outputs = deliver(
        case,
        prediction,
        folder,
        title_of(case, path, options, prediction),
        file_hash(path),
        dicom or Dicom(),
        trusted,
    )
    watch.done("write")
    run = record(case, prediction, options, source, path, watch.seconds)
    run |= {"warnings": list(trusted.warnings), "outputs": [*outputs, "run.json"]}
    write_json(run, folder / "run.json")
    return run


def title_of(case: Case, model: Path, options: Options, prediction: Prediction) -> str:
    """One line that says of which patient, by which model and how."""
    steps = f"{options.steps} {options.sampler} step{'s' * (options.steps > 1)}"
    mimicked = ", dose mimicking" if prediction.mimicked else ""
    return f"{case.name}: {model.stem}, {steps}, seed {options.seed}{mimicked}"


class Stopwatch:
    """Seconds of each stage of a run, and of all of it."""

    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()
        self.stages: dict[str, float] = {}

    def done(self, stage: str) -> None:
        """A stage that began where the last one ended is done."""
        now = time.monotonic()
        self.stages[stage] = now - self.last
        self.last = now

    @property
    def seconds(self) -> dict[str, float]:
        """Every stage so far, and 'all'."""
        return {**self.stages, "all": self.last - self.begin}


def record(
    case: Case,
    prediction: Prediction,
    options: Options,
    source: Path,
    model: Path,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Inputs and their hashes, model and its hash, options, versions, what was used and inferred, seconds,
    memory."""
    inputs = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    return {
        "case": case.name,
        "inputs": {p.name if p == source else str(p.relative_to(source)): file_hash(p) for p in inputs},
        "model": {"file": model.name, "sha256": file_hash(model)},
        "options": asdict(options),
        "mimicked": prediction.mimicked,
        "used": list(prediction.used),
        "inferred": list(prediction.inferred),
        "rx_max_gy": case.rx_max_gy if case.prescription.levels_gy else None,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": versions(),
        "notice": "AI prediction for research, not for clinical use",
    }


def versions() -> dict[str, str]:
    """What a result depends on."""
    return {
        "anydose": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def about() -> dict[str, Any]:
    """Models, device and versions."""
    return {"models": registry.listing(), "device": str(pick_device("auto")), "versions": versions()}


def write_json(value: Any, path: Path) -> None:
    """Write JSON by atomic rename."""
    with whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2) + "\n")
