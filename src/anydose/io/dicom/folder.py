"""Whether a folder holds DICOM, and of one patient or of several."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from anydose.io.dicom.files import CT, RTSTRUCT, SUFFIXES, is_dicom, naming
from anydose.io.files import is_litter

SCANNED = 1000  # files looked into before a folder counts as holding no DICOM


def holds_dicom(folder: Path) -> bool:
    """True if a file below `folder` has one of DICOM's suffixes, or if DICOM's mark is on one of the first
    1,000 files without suffix or of the first 1,000 with another one."""
    left = {True: SCANNED, False: SCANNED}
    for path in _files(folder):
        if path.suffix.lower() in SUFFIXES:
            return True
        is_named = path.suffix[1:].isalpha()  # as notes.txt; CT.1.2.840 has no suffix
        left[is_named] -= 1
        if left[is_named] >= 0 and is_dicom(path):
            return True
        if not any(n > 0 for n in left.values()):
            return False
    return False


def not_searched(folder: Path) -> str:
    """A clause for the refusal of a folder with more files than were looked into; '' for a smaller one."""
    if next(islice(_files(folder), SCANNED, None), None) is None:
        return ""
    return f" (of more than {SCANNED:,} files; DICOM was looked for in the first ones)"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not is_litter(path))


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
