"""What a prediction leaves on disk: the dose in the input's own form and as NIfTI, its DVH and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.deliver.record import Stopwatch, record, title_of
from anydose.deliver.trust import Trust, trust
from anydose.io import nifti
from anydose.io.files import whole, write_json
from anydose.io.format import DoseOptions
from anydose.io.formats import write_dose
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import pick_device
from anydose.model.checkpoint import file_hash, load_model
from anydose.predict import Options, Prediction, predict
from anydose.score import calibration
from anydose.score.calibration import Calibration
from anydose.score.dvh import dvh
from anydose.score.report.page import write_page
from anydose.score.spreadsheet import write_csv

DVH_STEP_GY = 0.25
SHOWN_COVERAGE = 0.8  # of the intervals in uncertainty.nii.gz and on the page


@dataclass(frozen=True)
class Dicom:
    """How an RTDOSE is written: grid ('ct', 'reference', a spacing in mm, '' for the reference's or the CT's
    voxels), bits a voxel (16 or 32), with other identifiers than the patient's, with a placeholder plan
    where there is none."""

    grid: str = ""
    bits: int = 32
    anonymize: bool = False
    placeholder_plan: bool = False


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
    dose = prediction.volume(case)
    written = ["dose.nii.gz", "dvh.csv", "page.png"]
    nifti.write_volume(dose, folder / "dose.nii.gz")
    written += write_dose(dose, case, folder, DoseOptions(model=model, **asdict(dicom)))
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
    columns = list(rows[0]) if rows else ["structure", "point", "gy"]
    table = ([f"{v:.3f}" if isinstance(v, float) else v for v in row.values()] for row in rows)
    with whole(folder / "dvh_bands.csv") as scratch:
        write_csv(scratch, columns, table)
    return rows


def write_dvh(case: Case, dose: Volume, path: Path) -> None:
    """Cumulative DVHs as CSV: dose_gy, then the volume in percent of each structure."""
    structures = {name: mask for name, mask in case.structures.items() if mask.any()}
    at_gy = np.arange(0.0, float(dose.array.max()) + 2 * DVH_STEP_GY, DVH_STEP_GY)
    curves = [dvh(dose, mask, case.grid).curve(at_gy) for mask in structures.values()]
    rows = ([f"{gy:.2f}", *(f"{curve[k]:.3f}" for curve in curves)] for k, gy in enumerate(at_gy))
    write_csv(path, ["dose_gy", *(f"{name}_percent" for name in structures)], rows)


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
