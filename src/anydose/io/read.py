"""One way in: what lies at a path decides which reader opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io import plan_options
from anydose.io.kinds import kind_of


def read_case(
    path: Path,
    *,
    series: Sequence[str] = (),
    beams: str | None = None,
    rx: Sequence[str] = (),
    fill_gaps: bool = False,
) -> Case:
    """The case at `path`, whatever its format. series: SeriesInstanceUIDs to use where a DICOM folder holds
    several; beams: '9' or '0,40,80'; rx: 'NAME=GY' texts, replacing what the source states; fill_gaps:
    interpolate one or two missing CT slices. What was inferred stands in Case.inferred. ValueError with one
    sentence (file, found, accepted) for anything that is not exactly one case."""
    kind = kind_of(path)
    if kind == "openkbp":
        from anydose.io.openkbp import read_case as read_openkbp

        case = read_openkbp(path)
    elif kind == "nifti":
        from anydose.io.nifti import read_case as read_nifti

        case = read_nifti(path)
    elif kind == "gdphmm":
        from anydose.io.gdphmm import read_case as read_gdphmm

        case = read_gdphmm(path)
    elif kind == "store":
        from anydose.io.store import read_stored

        case = read_stored(path)
    else:
        from anydose.io.dicom.read import read_case as read_dicom

        case = read_dicom(path, series=series, fill_gaps=fill_gaps)
    case = plan_options.with_prescription(case, rx) if rx else plan_options.from_names(case)
    return plan_options.with_beams(case, beams) if beams else case


def read_dose(path: Path, case: Case) -> Volume:
    """The dose at `path` in Gy on the grid of `case`: an OpenKBP .csv, a NIfTI file, an RTDOSE file, a
    GDP-HMM prediction (.npy), or the dose of the case in a folder. ValueError if it is none of these or, for
    a format that states it, lies in another frame of reference."""
    if path.is_dir() or path.suffix == ".npz":
        dose = read_case(path).dose
        if dose is None:
            raise ValueError(f"{path}: no dose found in this case; a dose file is accepted too")
    elif path.suffix == ".csv":
        from anydose.io.openkbp import read_dose as read_csv

        dose = read_csv(path, case.grid)
    elif path.name.endswith((".nii", ".nii.gz")):
        from anydose.io.nifti import read_volume

        dose = read_volume(path, "Gy")
    elif path.suffix == ".npy":
        from anydose.io.gdphmm import read_prediction

        dose = read_prediction(path, case)
    else:
        from anydose.io.dicom.dose import read_rtdose

        dose = read_rtdose(path, case.meta.get("frame_of_reference_uid"))
    return dose.resample(case.grid)
