"""One way in: what lies at a path decides which reader opens it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io import plan_options

ACCEPTED = (
    "a DICOM folder (CT with RTSTRUCT), an OpenKBP patient (pt_N), a NIfTI folder (ct.nii.gz and masks), "
    "a GDP-HMM .npz or a stored case (.zarr)"
)
DICOM_MARK = (128, b"DICM")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
SCANNED = 1000  # files looked into before a folder counts as holding no DICOM


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
        from anydose.io.dicom_read import read_case as read_dicom

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
        from anydose.io.dicom_dose import read_rtdose

        dose = read_rtdose(path, case.meta.get("frame_of_reference_uid"))
    return dose.resample(case.grid)


def kind_of(path: Path) -> str:
    """'dicom', 'openkbp', 'nifti', 'gdphmm' or 'store'. ValueError for none of these and for several."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; {ACCEPTED} is accepted")
    if path.is_file():
        if path.suffix == ".npz":
            return "gdphmm"
        raise ValueError(f"{path}: one file; {ACCEPTED} is accepted")
    if (path / "zarr.json").is_file():
        return "store"
    found = {
        "openkbp": any(path.glob("*.csv")),
        "nifti": any(any(path.glob(p)) for p in ("*.nii", "*.nii.gz", "segmentations/*.nii*")),
        "gdphmm": any(path.glob("*.npz")),
        "dicom": _holds_dicom(path),
    }
    kinds = [kind for kind, here in found.items() if here]
    if not kinds:
        some = ", ".join(sorted(p.name for p in path.iterdir())[:3]) or "nothing"
        raise ValueError(f"{path}: {some} found; {ACCEPTED} is accepted")
    if len(kinds) > 1:
        raise ValueError(f"{path}: {' and '.join(kinds)} found together; one format a folder is accepted")
    if kinds == ["gdphmm"]:
        raise ValueError(f"{path}: a folder of .npz files; give one of them")
    return kinds[0]


def _holds_dicom(folder: Path) -> bool:
    for path in islice((p for p in folder.rglob("*") if p.is_file()), SCANNED):
        if path.suffix.lower() in DICOM_SUFFIXES:
            return True
        with path.open("rb") as file:
            head = file.read(DICOM_MARK[0] + 4)
        if head[DICOM_MARK[0] :] == DICOM_MARK[1]:
            return True
    return False
