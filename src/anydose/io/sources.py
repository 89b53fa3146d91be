"""The cases below a folder: a dataset, a clinic's export of many patients, or one case; and doses that belong
to cases by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anydose.io.kinds import ACCEPTED, kind_of

DOSES = (".csv", ".nii.gz", ".nii", ".npy", ".npz", ".dcm", "")
CT_AND_STRUCT = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.3"}


def sources(root: Path) -> list[tuple[str, Path]]:
    """(name, path) of every case at or below `root`, pt_2 before pt_10: an OpenKBP dataset, a folder of cases
    in any form (one folder or .npz a patient), or one case. Names are made unique by their folders.
    ValueError if there is none."""
    found = list(_cases(root))
    if not found:
        raise ValueError(f"{root}: no case found; {ACCEPTED}, or a folder of these, is accepted")
    stems = [_stem(path) for path in found]
    if len(set(stems)) < len(stems):
        stems = ["_".join([*path.relative_to(root).parts[:-1], _stem(path)]) for path in found]
    return sorted(zip(stems, found, strict=True), key=lambda pair: (len(pair[0]), pair[0]))


def dose_of(doses: Path, case_name: str, single: bool) -> Path:
    """The dose of one case: `doses` itself for a single case, else the file or folder in it that is named
    after the case. ValueError if there is none."""
    if single:
        return doses
    for suffix in DOSES:
        if (found := doses / f"{case_name}{suffix}").exists():
            return found
    raise ValueError(f"{doses}: no dose named {case_name} ({', '.join(s for s in DOSES if s)})")


def _stem(path: Path) -> str:
    return path.stem if path.suffix == ".npz" else path.name


def _cases(path: Path) -> Iterator[Path]:
    if path.is_file():
        if path.suffix == ".npz":
            yield path
        return
    inside = sorted(p for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else []
    if _is_case(path, inside):
        yield path
        return
    for below in inside:
        yield from _cases(below)


def _is_case(folder: Path, inside: list[Path]) -> bool:
    """True if the folder itself is one case: kind_of looks below it too, where DICOM is concerned, so a
    folder of patients with DICOM in each is told apart by the CT and the structure set that each of them
    has."""
    try:
        kind = kind_of(folder)
    except ValueError:
        return False
    if kind == "store":
        return not any((p / "zarr.json").is_file() and (p / "structures").is_dir() for p in inside)
    if kind != "dicom" or any(p.is_file() and p.name != "DICOMDIR" and _class(p) for p in inside):
        return True
    folders = [p for p in inside if p.is_dir()]
    return len(folders) == 1 or not any(_holds_patient(p) for p in folders)


def _holds_patient(folder: Path) -> bool:
    """True if there is a CT and a structure set below the folder."""
    missing = set(CT_AND_STRUCT)
    for path in folder.rglob("*"):
        if path.is_file():
            missing.discard(_class(path))
            if not missing:
                return True
    return False


def _class(path: Path) -> str:
    """The SOP class a DICOM file states in its head; '' for any other file."""
    from pydicom.filereader import read_file_meta_info

    from anydose.io.dicom.files import is_dicom, naming

    if not is_dicom(path):
        return ""
    with naming(path):
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
