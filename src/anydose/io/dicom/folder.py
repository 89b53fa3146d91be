"""Whether a folder holds DICOM, and of one patient or of several."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from anydose.io.dicom.files import CT, RTSTRUCT, SUFFIXES, is_dicom, naming
from anydose.io.files import is_litter

SCANNED = 1000  # files looked into before a folder counts as holding no DICOM


def holds_dicom(folder: Path) -> bool:
    """True if one of the first 1,000 files below `folder` has DICOM's mark or one of its suffixes."""
    files = (p for p in folder.rglob("*") if p.is_file() and not is_litter(p))
    return any(p.suffix.lower() in SUFFIXES or is_dicom(p) for p in islice(files, SCANNED))


def is_one_patient(folder: Path) -> bool:
    """True if a folder that holds DICOM is one patient's; each folder in a folder of patients has a CT and a
    structure set."""
    inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
    if any(p.is_file() and p.name != "DICOMDIR" and sop_class(p) for p in inside):
        return True
    folders = [p for p in inside if p.is_dir()]
    return len(folders) == 1 or not any(_holds_patient(p) for p in folders)


def _holds_patient(folder: Path) -> bool:
    """True if there is a CT and a structure set below the folder."""
    missing = {CT, RTSTRUCT}
    for path in folder.rglob("*"):
        if path.is_file():
            missing.discard(sop_class(path))
            if not missing:
                return True
    return False


def sop_class(path: Path) -> str:
    """The SOP class a DICOM file states in its head; '' for any other file."""
    if not is_dicom(path):
        return ""
    with naming(path):
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
