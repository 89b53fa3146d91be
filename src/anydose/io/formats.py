"""The table of formats: what lies at a path, who reads it, and who writes a result in the same form.

A format is one `Format` (format.py). A package outside this one adds its own in either of two ways:

    anydose.io.formats.register(MyFormat())      for this process
    [project.entry-points."anydose.formats"]     for every command, and for the processes of `data convert`
    mine = "my_package:MyFormat"

Methods import what they need themselves: pydicom and nibabel cost half a second that other formats need not
wait for.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io.format import DoseOptions, Format, Generated, ReadOptions
from anydose.io.run_folder import is_result

ENTRY_POINTS = "anydose.formats"


class OpenKBP(Format):
    """Sparse CSV files over 128 x 128 x 128 voxels, one folder a patient."""

    name = "openkbp"
    accepts = "an OpenKBP patient (pt_N)"
    dose_suffixes = (".csv",)
    submission = "{name}.csv"
    organ_names = (
        "Brainstem",
        "SpinalCord",
        "RightParotid",
        "LeftParotid",
        "Esophagus",
        "Larynx",
        "Mandible",
    )

    def recognises(self, path: Path) -> bool:
        return any(path.glob("*.csv"))

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        from anydose.io import openkbp

        return openkbp.read_case(path)

    def read_dose(self, path: Path, case: Case) -> Volume:
        from anydose.io import openkbp

        return openkbp.read_dose(path, case.grid)

    def write_dose(self, dose: Volume, case: Case, folder: Path, options: DoseOptions) -> list[str]:
        from anydose.io import openkbp
        from anydose.io.files import file_name

        path = folder / f"{file_name(case.name)}.csv"
        openkbp.write_dose(dose, case, path)
        return [path.name]

    def holds(self, case: Case) -> bool:
        from anydose.io import openkbp

        return case.grid.shape == openkbp.SHAPE and set(case.structures) <= set(openkbp.ACCEPTED)

    def write_case(self, case: Case, path: Path, made: Generated | None = None) -> None:
        from anydose.io import openkbp

        openkbp.write_case(case, path)


class Nifti(Format):
    """ct.nii.gz, dose.nii.gz, a mask a structure, case.json."""

    name = "nifti"
    accepts = "a NIfTI folder (ct.nii.gz and masks)"
    dose_suffixes = (".nii.gz", ".nii")

    def recognises(self, path: Path) -> bool:
        patterns = ("*.nii", "*.nii.gz", "segmentations/*.nii*")
        return any(any(path.glob(pattern)) for pattern in patterns)

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        from anydose.io import nifti

        return nifti.read_case(path)

    def read_dose(self, path: Path, case: Case) -> Volume:
        from anydose.io import nifti

        return nifti.read_volume(path, "Gy")

    def holds(self, case: Case) -> bool:
        return True

    def write_case(self, case: Case, path: Path, made: Generated | None = None) -> None:
        from anydose.io import nifti

        nifti.write_case(case, path)


class GdpHmm(Format):
    """One plan an .npz, as the GDP-HMM challenge of 2025 gives them."""

    name = "gdphmm"
    accepts = "a GDP-HMM .npz"
    dose_suffixes = ("_pred.npy", ".npy")
    submission = "{name}_pred.npy"

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".npz" if path.is_file() else any(path.glob("*.npz"))

    def is_one_case(self, path: Path) -> bool:
        return path.is_file()

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        from anydose.io import gdphmm

        if path.is_dir():
            raise ValueError(f"{path}: a folder of .npz files; give one of them")
        return gdphmm.read_case(path)

    def side_files(self, path: Path) -> list[Path]:
        from anydose.io import gdphmm_meta

        return gdphmm_meta.side_files(path)

    def holds(self, case: Case) -> bool:
        return case.ct is not None and bool(case.beams)

    def write_case(self, case: Case, path: Path, made: Generated | None = None) -> None:
        from anydose.io import gdphmm

        gdphmm.write_case(case, path)

    def read_dose(self, path: Path, case: Case) -> Volume:
        from anydose.io import gdphmm

        return gdphmm.read_prediction(path, case)

    def write_dose(self, dose: Volume, case: Case, folder: Path, options: DoseOptions) -> list[str]:
        from anydose.io import gdphmm

        return [gdphmm.write_prediction(dose, case, folder).name]


class Store(Format):
    """One case of a cohort store."""

    name = "store"
    accepts = "a stored case (.zarr)"
    states_dose_unit = True

    def recognises(self, path: Path) -> bool:
        return (path / "zarr.json").is_file()

    def is_one_case(self, path: Path) -> bool:
        inside = (p for p in path.iterdir() if not p.name.startswith("."))
        return not any((p / "zarr.json").is_file() and (p / "structures").is_dir() for p in inside)

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        from anydose.io import store

        return store.read_stored(path)


class Dicom(Format):
    """The folder of a study: CT series, RTSTRUCT, RTPLAN and RTDOSE, told apart by what they state."""

    name = "dicom"
    accepts = "a DICOM folder (CT with RTSTRUCT)"
    dose_suffixes = (".dcm", ".dicom", ".ima", "")
    states_dose_unit = True

    def recognises(self, path: Path) -> bool:
        from anydose.io.dicom import folder

        return folder.holds_dicom(path)

    def is_one_case(self, path: Path) -> bool:
        from anydose.io.dicom import folder

        return folder.is_one_patient(path)

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        from anydose.io.dicom import read

        return read.read_case(path, series=options.series, fill_gaps=options.fill_gaps)

    def read_dose(self, path: Path, case: Case) -> Volume:
        from anydose.io.dicom import dose

        return dose.read_rtdose(path, case.source.frame_of_reference_uid)

    def write_dose(self, dose: Volume, case: Case, folder: Path, options: DoseOptions) -> list[str]:
        from anydose.io.dicom import write

        on_grid = dose.resample(write.dose_grid(case, options.grid))
        write.write_rtdose(
            on_grid,
            case,
            folder / "dose.dcm",
            bits=options.bits,
            beside=options.beside,
            anonymize=options.anonymize,
            placeholder_plan=options.placeholder_plan,
        )
        return ["dose.dcm"]

    def holds(self, case: Case) -> bool:
        return case.ct is not None and bool(case.structures)

    def write_case(self, case: Case, path: Path, made: Generated | None = None) -> None:
        from anydose.io.dicom import write

        write.write_study(case, path, made)


class Zip(Format):
    """A zip file of one case in any other format."""

    name = "zip"
    accepts = "a .zip of one of these"

    def recognises(self, path: Path) -> bool:
        from anydose.io import archive

        return archive.is_archive(path)

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        from anydose.io import archive

        with archive.unpacked(path) as inside:
            try:
                case = format_of(inside).read_case(inside, options)
            except ValueError as error:
                raise ValueError(str(error).replace(str(inside), f"{path} (inside)")) from error
        return replace(case, name=path.stem)


_TABLE: dict[str, Format] = {row.name: row for row in (OpenKBP(), Nifti(), GdpHmm(), Store(), Dicom(), Zip())}


def register(row: Format) -> None:
    """Add a format to this process, before the first case is read. ValueError for a name that is taken."""
    if row.name in _TABLE:
        raise ValueError(f"format {row.name!r}: the name is taken; have {', '.join(_TABLE)}")
    _TABLE[row.name] = row


@cache
def _installed() -> tuple[Format, ...]:
    """The formats of installed packages; one that cannot be loaded is left out with a warning."""
    found: list[Format] = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
            found.append(loaded() if isinstance(loaded, type) else loaded)
        except Exception as error:  # noqa: BLE001 - a broken package must not stop the formats that work
            logging.getLogger(__name__).warning("format %s of %s: %s", point.name, point.value, error)
    return tuple(found)


def table() -> dict[str, Format]:
    """Every format by name: ours, registered ones, those of installed packages. ValueError if two packages
    give one name."""
    rows = dict(_TABLE)
    for row in _installed():
        if row.name in rows:
            raise ValueError(f"format {row.name!r}: given by two packages; one is accepted")
        rows[row.name] = row
    return rows


def named(name: str) -> Format:
    """The format of this name; ValueError if there is none."""
    rows = table()
    if name not in rows:
        raise ValueError(f"format {name!r}: one of {', '.join(rows)} is accepted")
    return rows[name]


def accepted() -> str:
    """What a case may look like, in words."""
    first, *rest = (row.accepts for row in sorted(table().values(), key=lambda row: row.name))
    return f"{', '.join((first, *rest[:-1]))} or {rest[-1]}"


def format_of(path: Path) -> Format:
    """The format of the case at `path`. ValueError for none and for several."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; {accepted()} is accepted")
    if is_result(path):
        raise ValueError(f"{path}: a result of anydose, no patient; {accepted()} is accepted")
    found = [row for row in table().values() if row.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        several = " and ".join(row.name for row in found)
        raise ValueError(f"{path}: {several} found together; one format a folder is accepted")
    if path.is_file():
        raise ValueError(f"{path}: one file; {accepted()} is accepted")
    from anydose.io.dicom.folder import not_searched

    some = ", ".join(sorted(p.name for p in path.iterdir())[:3]) or "nothing"
    raise ValueError(f"{path}: {some} found{not_searched(path)}; {accepted()} is accepted")


def format_of_dose(path: Path) -> Format:
    """The format that reads the dose file at `path`, by its ending; DICOM for a file with none that is
    known."""
    rows = table()
    for row in rows.values():
        if path.name.lower().endswith(tuple(s for s in row.dose_suffixes if s)):
            return row
    return rows["dicom"]


def dose_suffixes() -> tuple[str, ...]:
    """The endings of dose files, of every format."""
    return tuple(suffix for row in table().values() for suffix in row.dose_suffixes)


def format_for(case: Case) -> Format:
    """The format to write a changed `case` in: its own where that can hold it, else NIfTI."""
    rows = table()
    own = rows.get(case.source.format)
    return own if own is not None and own.holds(case) else rows["nifti"]


def write_dose(dose: Volume, case: Case, folder: Path, options: DoseOptions) -> list[str]:
    """Write a dose in the form that its case came in; returns the files' names, none for a case whose format
    has no dose file."""
    own = table().get(case.source.format)
    return own.write_dose(dose, case, folder, options) if own is not None else []
