"""What a prediction leaves on disk: the dose in the input's own form and as NIfTI, its DVH and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from anydose.case.case import Case
from anydose.case.names import NameMap
from anydose.case.volume import Volume
from anydose.deliver.folder import Place, one_result
from anydose.deliver.measured import not_shown
from anydose.deliver.record import Stopwatch, input_hashes, model_hash, record, title_of
from anydose.deliver.trust import Trust, refuse_uncalibrated, trust
from anydose.io import nifti
from anydose.io.files import case_place
from anydose.io.format import Beside, DoseOptions, DVHCurve
from anydose.io.formats import write_dose
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import Any2Any
from anydose.predict import Options, Prediction, predict, refuse_impossible
from anydose.score import calibration
from anydose.score.calibration import Calibration
from anydose.score.dvh import DVH, structure_dvh
from anydose.score.report.page import write_page
from anydose.score.spreadsheet import write_csv

DVH_STEP_GY = 0.25
SHOWN_COVERAGE = 0.8  # of the intervals in uncertainty.nii.gz and on the page


def predict_to(
    source: Path,
    folder: Path,
    model: str | Path | Any2Any = registry.DEFAULT,
    options: Options | None = None,
    *,
    device: str = "auto",
    read: Mapping[str, Any] | None = None,
    dicom: DoseOptions | None = None,
    intervals: bool = False,
    overwrite: bool = False,
    on_stage: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Read the case at `source`, predict its dose and leave everything in `folder`; returns the run record.

    Args:
        source: a case in any format that `read_case` knows; read: keywords for it.
        folder: a new or empty folder, or one that holds a prediction of the same case.
        model: a shipped model's name, a checkpoint's path, or a model that was loaded from one.
        options: how to predict; the default is what ships.
        device: 'auto', 'cpu' or 'cuda:0'.
        read: keywords of `read_case`.
        dicom: how an RTDOSE is written.
        intervals: with calibrated uncertainty.
        overwrite: replace what `folder` holds, whatever it is.
        on_stage: called with the name of each stage of the run record's seconds when it is done.

    Raises:
        ValueError: the case, the options, the model or the folder is refused; nothing is written.
    """
    source = case_place(source)
    watch, options = Stopwatch(on_stage), options or Options()
    network_file = model.file if isinstance(model, Any2Any) else registry.find(str(model))
    if isinstance(model, Any2Any):
        options = model.as_trained(options)
    else:
        options = registry.options_for(options, model)
    with one_result(folder, source, overwrite) as place:
        inputs = input_hashes(source)
        place.refuse_other("dose", inputs)
        case = read_case(source, **(read or {}))
        watch.done("read")
        refuse_uncalibrated(network_file, intervals)
        network = model if isinstance(model, Any2Any) else registry.load(model, device)
        watch.done("load")
        prediction = predict(case, network, options, on_stage=watch.done)
        how = {"asked": asked(read, dicom, intervals)}
        return _finish(place, prediction, intervals, dicom or DoseOptions(), watch, inputs, how)


def asked(
    read: Mapping[str, Any] | None = None, dicom: DoseOptions | None = None, intervals: bool = False
) -> dict[str, Any]:
    """What was asked beside the model's options, as plain values for the run record."""
    reading = {name: _stated(value) for name, value in (read or {}).items() if value}
    return {"read": reading, "dose_file": _plain(dicom or DoseOptions()), "intervals": intervals}


def _stated(value: Any) -> Any:
    """A keyword of `read_case` as JSON holds it."""
    if isinstance(value, NameMap):
        return dict(value.names)
    return list(value) if isinstance(value, tuple) else value


def _plain(dicom: DoseOptions) -> dict[str, Any]:
    return {name: value for name, value in asdict(dicom).items() if name != "beside"}


def save(
    prediction: Prediction,
    folder: str | Path,
    *,
    dicom: DoseOptions | None = None,
    intervals: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Leave a dose prediction in a folder of its own, as `anydose predict` does; returns the run record. The
    keywords and errors are those of `predict_to`."""
    watch, case = Stopwatch(), prediction.case
    prediction.dose  # noqa: B018  (refuses another target)
    refuse_uncalibrated(prediction.model, intervals)
    with one_result(Path(folder), prediction.source, overwrite) as place:
        inputs = input_hashes(prediction.source)
        place.refuse_other("dose", inputs, case.name)
        how = {"asked": asked(None, dicom, intervals)}
        return _finish(place, prediction, intervals, dicom or DoseOptions(), watch, inputs, how)


def _finish(
    place: Place,
    prediction: Prediction,
    intervals: bool,
    dicom: DoseOptions,
    watch: Stopwatch,
    inputs: Mapping[str, str],
    how: Mapping[str, Any],
) -> dict[str, Any]:
    place.refuse_other("dose", inputs, prediction.case.name)
    refuse_impossible(prediction)
    trusted = trust(prediction, intervals)
    trusted = replace(trusted, warnings=(*not_shown(prediction), *trusted.warnings))
    deliver(prediction, place.scratch, trusted, dicom)
    watch.done("write")
    run = record(prediction, watch.seconds, inputs) | {"warnings": list(trusted.warnings)}
    return place.finish(run | dict(how))


def deliver(prediction: Prediction, folder: Path, trust: Trust, dicom: DoseOptions) -> None:
    """Write a dose prediction into `folder`."""
    case, dose = prediction.case, prediction.dose
    nifti.write_volume(dose, folder / "dose.nii.gz")
    filled = [roi for roi, mask in case.structures.items() if mask.any()]
    curves = {roi: binned(structure_dvh(case, dose, roi)) for roi in filled}
    name = prediction.model.stem if prediction.model else ""
    known = Beside(name, model_hash(prediction.model), curves)
    write_dose(dose, case, folder, replace(dicom, beside=known))
    if len(prediction.members) > 1:
        nifti.write_volume(Volume(prediction.spread[0], case.grid, "Gy"), folder / "dose_std.nii.gz")
        for number, member in enumerate(prediction.members, start=1):
            nifti.write_volume(Volume(member[0], case.grid, "Gy"), folder / f"dose_{number}.nii.gz")
    write_dvh(curves, folder / "dvh.csv")
    bands: list[dict[str, Any]] = []
    if trust.intervals is not None:
        bands = _write_intervals(case, prediction, trust.intervals, folder)
    drawn = {roi: (curve.at_gy, curve.percent) for roi, curve in curves.items()}
    write_page(case, dose, folder / "page.png", title_of(prediction), trust.warnings, bands, drawn)


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
    write_csv(folder / "dvh_bands.csv", columns, table)
    return rows


def write_dvh(curves: Mapping[str, DVHCurve], path: Path) -> None:
    """Cumulative DVHs as CSV: dose_gy, then the volume in percent of each structure."""
    longest = max((len(of.volume_cc) for of in curves.values()), default=2)
    percents = [np.pad(of.percent, (0, longest - len(of.volume_cc))) for of in curves.values()]
    rows = (
        [f"{k * DVH_STEP_GY:.2f}", *(f"{percent[k]:.3f}" for percent in percents)] for k in range(longest)
    )
    write_csv(path, ["dose_gy", *(f"{name}_percent" for name in curves)], rows)


def binned(of: DVH) -> DVHCurve:
    """The curve at doses from 0 to beyond the highest, DVH_STEP_GY apart."""
    at_gy = np.arange(0.0, of.max_gy + 2 * DVH_STEP_GY, DVH_STEP_GY)
    volume_cc = of.curve(at_gy) * of.volume_cc / 100
    return DVHCurve(DVH_STEP_GY, volume_cc, of.min_gy, of.max_gy, of.mean_gy)
