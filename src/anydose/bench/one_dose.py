"""One dose, one number: every file that one prediction leaves, read and scored by every command."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anydose.bench.patients import Patients
from anydose.bench.registry import Row, benchmark
from anydose.case.grid import Grid
from anydose.io import openkbp
from anydose.io.dicom.write import write_study
from anydose.io.phantom import make_phantom
from anydose.io.read import read_case, read_dose
from anydose.score.dvh import structure_dvh

PERCENTS = (95, 99)  # D95 and D99 of each target
Doses = dict[str, float]  # 'PTV70 D95' -> Gy


@dataclass(frozen=True)
class Settings(Patients):
    """Whose patients are written as DICOM, beside a phantom and the same phantom with a fine CT."""

    limit: int = 3
    """Only the first N validation patients."""
    fine_mm: float = 1.25
    """Pixels of the fine CT."""


@benchmark(
    "one-dose",
    settings=Settings,
    says="Every file of one prediction (NIfTI, RTDOSE with its own histograms, dvh.csv, the folder), scored "
    "by every command: points, D95 and D99 of the targets, and how far they are apart. DICOM studies: a "
    "phantom, the same with a fine CT, and OpenKBP patients.",
    has_page=True,
)
def measure(settings: Settings) -> Iterator[Row]:
    """A row for each study, file and way to read it; then how far those of each study are apart."""
    apart: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        for name in _write_studies(settings, Path(place)):
            rows = list(_ways(Path(place) / name))
            for row in rows:
                yield {"bench": "one-dose", "study": name, **row}
            apart.append({"bench": "one-dose", "compared": name, "ways": len(rows), **_apart(rows)})
    yield from apart


def _write_studies(settings: Settings, place: Path) -> list[str]:
    """Write every study as a folder of `place`; their names."""
    phantom = make_phantom(0)
    d, h, w = phantom.grid.shape
    x_mm, y_mm, z_mm = phantom.grid.spacing_mm
    fine = settings.fine_mm
    pixels = Grid(
        (d, round(h * y_mm / fine), round(w * x_mm / fine)), (fine, fine, z_mm), phantom.grid.origin_mm
    )
    cases = {"phantom": phantom, f"phantom, CT of {fine:g} mm": phantom.on(pixels)}
    for folder in settings.folders():
        cases[folder.name] = openkbp.read_case(folder)
    for name, case in cases.items():
        write_study(replace(case, dose=None), place / name)
    return list(cases)


def _ways(study: Path) -> Iterator[Row]:
    """Predict a study and read the dose in every way there is."""
    out = study.with_name(f"{study.name} predicted")
    _anydose("predict", study, "--out", out)
    levels = read_case(study).prescription.levels_gy
    targets = sorted(levels, key=lambda name: -levels[name])
    first = out / "dose.nii.gz"
    for file in (first, out / "dose.dcm", out):
        read = partial(_way, file.name if file != out else "the folder", targets)
        found = json.loads(_anydose("score", file, "--case", study, "--json"))
        doses = {f"{row['structure']} D95": row["d95_gy"] for row in found["targets"]}
        yield read("score", doses, found["percent"])

        found = json.loads(_anydose("compare", file, "--case", study, "--reference", first, "--json"))
        yield read("compare", {}, found["score_percent"]["mean"])

        said = _anydose("report", file, "--case", study, "--out", out.with_suffix(".html"))
        points = re.search(r"\(([\d.]+) %\)", said)
        yield read("report", {}, float(points[1]) if points else None)

        yield read("Python", _by_python(file, study, targets))
    yield _way("dvh.csv", targets, "its own columns", _by_table(out / "dvh.csv", targets))
    yield _way("dose.dcm", targets, "its DVHSequence", _by_sequence(out / "dose.dcm", study, targets))


def _way(
    file: str, targets: list[str], read_by: str, doses: Doses, points_percent: float | None = None
) -> Row:
    """A row: points and doses as one way of reading gives them, an empty list where it gives none. Targets
    from the highest prescription down."""
    row: Row = {"file": file, "read_by": read_by}
    row["points_percent"] = [] if points_percent is None else points_percent
    for percent in PERCENTS:
        names = (f"{name} D{percent}" for name in targets)
        row[f"d{percent}_gy"] = [round(doses[name], 3) for name in names if name in doses]
    return row


def _anydose(*words: Any) -> str:
    """What a command prints. RuntimeError for one that fails."""
    line = [sys.executable, "-m", "anydose.cli", *map(str, words)]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(line[2:])}: {run.stderr.strip()}")
    return run.stdout


def _by_python(file: Path, study: Path, targets: list[str]) -> Doses:
    """By the functions that every command stands on."""
    case = read_case(study)
    dose = read_dose(file, case)
    found = {}
    for name in targets:
        curve = structure_dvh(case, dose, name)
        for percent in PERCENTS:
            found[f"{name} D{percent}"] = curve.dose_at_cc(percent / 100 * curve.volume_cc)
    return found


def _by_table(table: Path, targets: list[str]) -> Doses:
    """From the curves of dvh.csv."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    at_gy = np.array([float(row["dose_gy"]) for row in rows])
    curves = {name: np.array([float(row[f"{name}_percent"]) for row in rows]) for name in targets}
    return _from_curves(at_gy, curves)


def _by_sequence(file: Path, study: Path, targets: list[str]) -> Doses:
    """From the histograms inside of the RTDOSE: pairs of bin width and volume, cumulative."""
    import pydicom

    struct = pydicom.dcmread(study / "RTSTRUCT.dcm")
    names = {roi.ROINumber: str(roi.ROIName) for roi in struct.StructureSetROISequence}
    found: Doses = {}
    for item in pydicom.dcmread(file).DVHSequence:
        name = names[item.DVHReferencedROISequence[0].ReferencedROINumber]
        if name not in targets:
            continue
        pairs = np.array(item.DVHData, dtype=np.float64).reshape(-1, 2)
        at_gy = np.concatenate([[0.0], np.cumsum(pairs[:-1, 0])])
        found |= _from_curves(at_gy, {name: 100 * pairs[:, 1] / pairs[0, 1]})
    return found


def _from_curves(at_gy: Any, curves: Mapping[str, Any]) -> Doses:
    """Doses read off cumulative curves in percent, linear between bins."""
    return {
        f"{name} D{percent}": float(np.interp(-percent, -curve, at_gy))
        for name, curve in curves.items()
        for percent in PERCENTS
    }


def _apart(rows: list[Row]) -> Row:
    """The largest difference of points and of target doses between any two ways."""
    points = [row["points_percent"] for row in rows if row["points_percent"] != []]
    worst: Row = {"points_apart_percent": max(points) - min(points)}
    for percent in PERCENTS:
        doses = np.array([row[f"d{percent}_gy"] for row in rows if row[f"d{percent}_gy"]])
        worst[f"d{percent}_apart_gy"] = float(np.ptp(doses, axis=0).max())
    return worst
