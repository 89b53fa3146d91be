"""What the viewer's page shows of a prediction: volumes on one grid, and the report's words and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io import nifti
from anydose.io.files import whole, write_json
from anydose.score import binding, importers
from anydose.score import compare as comparison
from anydose.score.report import palette
from anydose.score.report.embed import shown
from anydose.score.report.html import Report, report_data, write_data
from anydose.score.report.page import ISODOSES
from anydose.score.report.run_record import read_beside
from anydose.score.report.volumes import MASKS, shown_grid, start_voxel
from anydose.score.scoring import score
from anydose.serve.room import WHO

VOXELS = 4_000_000  # shown at most; a larger body is shown on a coarser grid, and the page says so
OUTSIDE_HU = -1000.0
EXTRA = {"uncertainty": "uncertainty.nii.gz", "spread": "dose_std.nii.gz"}
VIEW, REPORT = "view.json", "report.html"


def write_view(case: Case, prediction: Path, folder: Path, scorecard: Path | None = None) -> dict[str, Any]:
    """Write view.json, report.html and the volumes of a prediction; returns what view.json holds.

    Args:
        case: as it was predicted; its own dose, if any, is the reference.
        prediction: the folder that `predict_to` left.
        folder: where to write.
        scorecard: a file; None for the packaged one that fits. What cannot be scored is a note.
    """
    dose = nifti.read_volume(prediction / "dose.nii.gz", "Gy").resample(case.grid)
    record = read_beside(prediction)
    bound, result, notes = None, None, []
    try:
        card = importers.read_any(scorecard) if scorecard else binding.own_template(case)
        bound = binding.bind(case, card)
        result = score(bound, dose)
    except ValueError as error:
        notes.append(f"no scorecard: {error}")
    against = comparison.compare(case, case.dose, dose) if case.dose is not None else None
    data = report_data(
        Report(case, dose, bound=bound, result=result, comparison=against, warnings=notes, record=record)
    )
    with whole(folder / REPORT) as scratch:
        write_data(scratch, data, case, dose)
    grid = shown_grid(case, VOXELS)
    data["volumes"] = _geometry(case, grid)
    data["have"] = write_volumes(case, dose, grid, prediction, folder)
    data["patient"] = _patient(prediction) or case.name
    with whole(folder / WHO) as scratch:
        scratch.write_text(data["patient"], encoding="utf-8")
    data["isodoses"] = [percent for percent, _ in ISODOSES]
    plain: dict[str, Any] = _finite(data)
    write_json(plain, folder / VIEW)
    return plain


def _patient(prediction: Path) -> str:
    """Name and number as the RTDOSE has them; '' without one."""
    if not (prediction / "dose.dcm").is_file():
        return ""
    head = dcmread(prediction / "dose.dcm", specific_tags=["PatientName", "PatientID"])
    name, number = str(head.get("PatientName", "")).replace("^", " ").strip(), head.get("PatientID", "")
    return f"{name or 'no name'} ({number or 'no number'})"


def write_volumes(case: Case, dose: Volume, grid: Grid, prediction: Path, folder: Path) -> list[str]:
    """Write what the planes are drawn from as NIfTI on `grid`; returns the names of what there is.

    ct (int16, HU), dose and reference (float32, Gy, not a number where unknown), masks (uint32, a bit a
    structure), uncertainty (half-width of the 80 % interval, Gy), spread (standard deviation, Gy)."""
    there = {"dose": _gy(dose, grid), "masks": _bits(case, grid)}
    if case.ct is not None:
        hu = case.ct.resample(grid, outside=OUTSIDE_HU).in_unit("HU")
        there["ct"] = np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
    if case.dose is not None:
        there["reference"] = _gy(case.dose, grid)
    for name, file in EXTRA.items():
        if (prediction / file).is_file():
            there[name] = _gy(nifti.read_volume(prediction / file, "Gy"), grid)
    for name, array in there.items():
        with whole(folder / f"{name}.nii.gz") as scratch:
            scratch.write_bytes(nifti.as_bytes(array, grid))
    return sorted(there)


def _gy(volume: Volume, grid: Grid) -> NDArray[np.float32]:
    return volume.resample(grid, outside=float("nan")).in_unit("Gy").astype(np.float32)


def _bits(case: Case, grid: Grid) -> NDArray[np.uint32]:
    bits = np.zeros(grid.shape, dtype=np.uint32)
    for number, name in enumerate(_drawn(case)):
        part = Volume(case.structures[name].astype(np.float32), case.grid, "1").resample(grid).array
        bits |= (part >= 0.5).astype(np.uint32) << np.uint32(number)
    return bits


def _drawn(case: Case) -> list[str]:
    """The structures of `masks`, a bit each from the lowest up."""
    return [name for name in palette.shades(case) if case.structures[name].any()][:MASKS]


def _geometry(case: Case, grid: Grid) -> dict[str, Any]:
    shades, own = palette.shades(case), np.asarray(case.grid.spacing_mm)
    structures = []
    for name in _drawn(case):
        colour, dash = shades[name]
        is_target, is_body = name in case.targets, name in case.of_role("body")
        row = {"name": shown(name), "colour": colour, "dash": dash, "target": is_target, "body": is_body}
        structures.append(row)
    return {
        "shape": grid.shape,
        "spacing_mm": grid.spacing_mm,
        "origin_mm": grid.origin_mm,
        "coarser": bool(np.prod(grid.spacing_mm) > 1.01 * np.prod(own)),
        "structures": structures,
        "start": start_voxel(case, grid),
    }


def _finite(value: Any) -> Any:
    """Plain JSON: what is no finite number is None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
