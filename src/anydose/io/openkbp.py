"""OpenKBP patients: a folder of sparse CSV files over 128^3 voxels, read as a Case and written back.

Their arrays run (anterior to posterior, right to left, superior to inferior); ours (z, y, x) towards
superior, posterior and left, so reading moves the last axis to the front and reverses it, and writing does
the opposite. Format: ababier/open-kbp (A. Babier et al., Medical Physics 48, 2021); facts measured on its
patients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.beams import equispaced
from anydose.case.case import Case, Prescription, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.files import is_litter, whole

SHAPE = (128, 128, 128)
BLANK_LINE = re.compile(rb"\n[ \t\v\f]*\n")
HU_SHIFT = 1024.0
CT_MAX = 65535.0  # 16 bits; real patients reach 19798 in metal
LEVELS_GY = {"PTV56": 56.0, "PTV63": 63.0, "PTV70": 70.0}
ORGANS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
ACCEPTED = ("ct", "dose", "possible_dose_mask", "voxel_dimensions", *ORGANS, *LEVELS_GY)
BEAMS = 9
FEW_WITHOUT_CT = 0.0025  # of the dose mask: the dataset's patients have up to 0.002 at -1024 HU


def is_patient(folder: Path) -> bool:
    """True if the folder looks like one OpenKBP patient."""
    return folder.is_dir() and (folder / "voxel_dimensions.csv").is_file()


def read_case(folder: Path) -> Case:
    """Read pt_N. ct and dose may be missing. Raises ValueError with one sentence (file, found, accepted) on a
    file that is not OpenKBP's, an index outside the grid or twice, a value that is no number, a mask with no
    voxel, no target or no dose mask."""
    said: list[str] = []
    unknown = sorted(p.name for p in folder.iterdir() if not is_litter(p) and _is_strange(p))
    if unknown:
        raise ValueError(
            f"{folder}: {unknown[0]} is no OpenKBP file; {', '.join(ACCEPTED)} (.csv) are accepted"
        )
    spacing = _spacing(folder / "voxel_dimensions.csv")
    grid = Grid((SHAPE[2], SHAPE[0], SHAPE[1]), (spacing[1], spacing[0], spacing[2]))
    structures = {}
    for name in ("possible_dose_mask", *ORGANS, *LEVELS_GY):
        if (folder / f"{name}.csv").is_file():
            structures[name] = to_zyx(_dense(folder / f"{name}.csv", mask=True)).astype(bool)
    levels = {name: dose for name, dose in LEVELS_GY.items() if name in structures}
    if not levels:
        raise ValueError(
            f"{folder}: no target found; at least one of {', '.join(LEVELS_GY)} (.csv) is needed"
        )
    if "possible_dose_mask" not in structures:
        raise ValueError(f"{folder}: possible_dose_mask.csv not found; it is needed as the body")
    ct = dose = None
    if (folder / "ct.csv").is_file():
        stored = to_zyx(_dense(folder / "ct.csv"))
        if stored.min() < 0 or stored.max() > CT_MAX:
            found = f"{stored.min():g} to {stored.max():g}"
            raise ValueError(
                f"{folder / 'ct.csv'}: values from {found}; 0 to {CT_MAX:g} (HU + 1024) is accepted"
            )
        ct = Volume(stored - np.float32(HU_SHIFT), grid, "HU")
        said += _incomplete("ct", stored[structures["possible_dose_mask"]], "air", FEW_WITHOUT_CT)
    if (folder / "dose.csv").is_file():
        dose = Volume(to_zyx(_dense(folder / "dose.csv")), grid, "Gy")
        said += _incomplete("dose", dose.array[structures["possible_dose_mask"]], "0 Gy", 0.0)
    target = np.logical_or.reduce([structures[name] for name in levels])
    return Case(
        name=folder.name,
        grid=grid,
        structures=structures,
        prescription=Prescription(levels, fractions=35),
        beams=equispaced(BEAMS, grid.centroid_mm(target)),
        ct=ct,
        dose=dose,
        inferred=(
            "beams: nine equispaced coplanar fields from 0 degrees (the OpenKBP protocol)",
            "isocentre: centroid of the targets (OpenKBP does not state it)",
            "body: possible_dose_mask (OpenKBP has no external contour)",
            *said,
        ),
        source=Source("openkbp"),
    )


def write_dose(dose: Volume, case: Case, path: Path) -> None:
    """Write a dose in Gy as OpenKBP's sparse `index,value` CSV (pt_N.csv): every voxel of the case's dose
    mask and every other that has dose."""
    if dose.grid.shape != case.grid.shape:
        raise ValueError(f"{path.name}: dose of shape {dose.grid.shape}, {case.grid.shape} is needed")
    if np.isnan(dose.array).any():
        raise ValueError(
            f"{path.name}: a dose unknown in places, which OpenKBP cannot say; a whole one is needed"
        )
    listed = dose.in_unit("Gy") != 0
    if case.body is not None:
        listed = listed | case.body
    _write_rows(path, dose.array, np.flatnonzero(from_zyx(listed)))


def read_dose(path: Path, grid: Grid) -> Volume:
    """A dose CSV (dose.csv or a prediction pt_N.csv) on the grid of its patient, in Gy."""
    return Volume(to_zyx(_dense(path)), grid, "Gy")


def write_case(case: Case, folder: Path) -> None:
    """Write a case on a 128^3 grid as an OpenKBP patient folder; masks and voxel values are kept, geometry
    beyond the spacing is not part of the format. ValueError for another shape or a structure OpenKBP does not
    know."""
    if case.grid.shape != SHAPE:
        raise ValueError(f"{case.name}: shape {case.grid.shape}, OpenKBP has {SHAPE}")
    folder.mkdir(parents=True, exist_ok=True)
    x, y, z = case.grid.spacing_mm
    np.savetxt(folder / "voxel_dimensions.csv", np.array([y, x, z]))
    for name, mask in case.structures.items():
        if name not in ACCEPTED:
            raise ValueError(f"{case.name}: structure {name}; OpenKBP has {', '.join((*ORGANS, *LEVELS_GY))}")
        index = np.flatnonzero(from_zyx(mask))
        (folder / f"{name}.csv").write_text(",data\n" + "".join(f"{i},\n" for i in index))
    if case.ct is not None:
        stored = np.clip(np.rint(case.ct.in_unit("HU") + HU_SHIFT), 0, CT_MAX)
        _write_rows(folder / "ct.csv", stored, np.flatnonzero(from_zyx(stored)))
    if case.dose is not None:
        write_dose(case.dose, case, folder / "dose.csv")


def patients(root: Path, split: str) -> list[Path]:
    """The patient folders of one split ('train', 'validation', 'test') below `root`, by number; `root` is the
    dataset's folder or its provided-data. ValueError if there are none."""
    for base in (root, root / "provided-data"):
        found = [p for p in (base / f"{split}-pats").glob("pt_*") if is_patient(p)]
        if found:
            return sorted(found, key=_number)
    raise ValueError(f"{root}: no OpenKBP patients found; provided-data/{split}-pats/pt_N is accepted")


def is_dataset(root: Path) -> bool:
    """True for the dataset's folder or its provided-data, False for a patient and anything else."""
    places = [root / f"{split}-pats" for split in ("train", "validation", "test")]
    places += [root / "provided-data" / place.name for place in places]
    return any(place.is_dir() for place in places)


def read_split(root: Path, split: str) -> Iterator[Case]:
    """The cases of one split, one at a time."""
    for folder in patients(root, split):
        yield read_case(folder)


def to_zyx(array: NDArray[Any]) -> NDArray[Any]:
    """OpenKBP's axes (y, x, inferior) -> (z, y, x)."""
    return np.ascontiguousarray(np.moveaxis(array, 2, 0)[::-1])


def from_zyx(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The inverse of `to_zyx`."""
    return np.ascontiguousarray(np.moveaxis(array[::-1], 0, 2))


def _incomplete(what: str, in_mask: NDArray[np.float32], taken: str, usual: float) -> list[str]:
    """A sentence on the voxels of the dose mask that a file gives no value for, as one that was cut off at
    the end of a line; [] for no more than usual."""
    part = float(np.mean(in_mask == 0))
    if part <= usual:
        return []
    return [f"{what}: no value for {part:.2%} of possible_dose_mask, taken as {taken}"]


def _is_strange(path: Path) -> bool:
    return path.suffix != ".csv" or path.stem not in ACCEPTED or not path.is_file()


def _number(folder: Path) -> int:
    digits = re.sub(r"\D", "", folder.name)
    return int(digits) if digits else 0


def _spacing(path: Path) -> tuple[float, float, float]:
    try:
        a, b, c = (float(line) for line in path.read_text().split())
    except ValueError as error:
        raise ValueError(f"{path}: three numbers in mm are needed") from error
    if not all(0 < value < np.inf for value in (a, b, c)):
        raise ValueError(f"{path}: {a}, {b}, {c} found; three positive numbers in mm are needed")
    return a, b, c


def _dense(path: Path, mask: bool = False) -> NDArray[np.float32]:
    """One sparse CSV as a dense array of SHAPE; a mask is 1 at every index."""
    index, values = _rows(path, mask)
    size = int(np.prod(SHAPE))
    if not len(index):
        what = "mask" if mask else "volume"
        raise ValueError(f"{path}: a {what} with no voxel; leave the file out if it is absent")
    if index.min() < 0 or index.max() >= size:
        bad = index[(index < 0) | (index >= size)][0]
        raise ValueError(f"{path}: index {bad} is outside the grid; 0 to {size - 1} is accepted")
    if len(np.unique(index)) != len(index):
        raise ValueError(f"{path}: an index stands in the file twice")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: a value that is not a number")
    dense = np.zeros(size, dtype=np.float32)
    dense[index] = values
    return dense.reshape(SHAPE)


def _rows(path: Path, mask: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(indices, values) as they stand in the file: `,data`, then `index,value` lines with a decimal point; a
    mask has no values, or 1. ValueError for any other line."""
    text = path.read_bytes().replace(b"\r\n", b"\n")
    if b"\r" in text:
        raise ValueError(f"{path}: lines that end in a carriage return alone; a line feed is accepted")
    head, _, body = text.partition(b"\n")
    if head != b",data":
        raise ValueError(f"{path}: first line {head[:40]!r}; ',data' is accepted")
    if not body.strip():
        return np.empty(0, np.int64), np.empty(0, np.float32)
    if not body.endswith(b"\n"):
        raise ValueError(f"{path}: ends in the middle of a line; a whole file is accepted")
    if BLANK_LINE.search(text):
        raise ValueError(f"{path}: an empty line; 'index,value' is accepted")
    if mask:
        body = f"{body.decode(errors='replace').rstrip()}\n".replace(",\n", ",1\n").encode()
    try:
        rows = np.loadtxt(body.decode().splitlines(), np.float64, delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise ValueError(f"{path}: a line that is not 'index,value' ({error})") from error
    if rows.shape[1] != 2:
        raise ValueError(f"{path}: lines of {rows.shape[1]} columns; 'index,value' is accepted")
    index = rows[:, 0].astype(np.int64)
    if (index != rows[:, 0]).any():
        raise ValueError(f"{path}: a line that is not 'index,value' (an index that is no whole number)")
    if mask and (rows[:, 1] != 1).any():
        raise ValueError(f"{path}: a mask with values; 'index,' is accepted")
    return index, rows[:, 1].astype(np.float32)


def _write_rows(path: Path, array: NDArray[np.floating], index: NDArray[np.int64]) -> None:
    """`array` (z, y, x) at OpenKBP's flat indices, three decimals at most, by atomic rename."""
    values = np.round(from_zyx(array).ravel()[index].astype(np.float64), 3)
    lines = [f"{i},{v!r}\n" for i, v in zip(index.tolist(), values.tolist(), strict=True)]
    with whole(path) as scratch:
        scratch.write_text(",data\n" + "".join(lines))
