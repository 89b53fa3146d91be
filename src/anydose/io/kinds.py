"""What lies at a path: which format a file or folder is in."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

ACCEPTED = (
    "a DICOM folder (CT with RTSTRUCT), an OpenKBP patient (pt_N), a NIfTI folder (ct.nii.gz and masks), "
    "a GDP-HMM .npz or a stored case (.zarr)"
)
DICOM_MARK = (128, b"DICM")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
SCANNED = 1000  # files looked into before a folder counts as holding no DICOM


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
