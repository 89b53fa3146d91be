"""NIfTI folders: ct.nii.gz, dose.nii.gz, one mask per structure, case.json for prescription and beams.

NIfTI counts millimetres in RAS+ and arrays (x, y, z); ours are LPS and (z, y, x). An affine without a code
(no qform, no sform) states no orientation and is refused. Units: NIfTI-1.1 xyzt_units, millimetres only.
"""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.describe import describe, words
from anydose.io.files import file_name, whole
from anydose.io.plausible import known_part, on_case

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SUFFIXES = (".nii.gz", ".nii")
SEGMENTATIONS = "segmentations"
MAX_BYTES = 2**31
QUICK = 1  # gzip level
PADDING_BYTES = 16  # some writers fill up to a multiple of it
GZIP_LIMIT = 1032  # gzip packs no better than this


def files(folder: Path) -> list[Path]:
    """The NIfTI files of a folder and of its `segmentations`, sorted."""
    found = [*folder.glob("*.nii*"), *(folder / SEGMENTATIONS).glob("*.nii*")]
    return sorted(p for p in found if p.name.endswith(SUFFIXES) and not p.name.startswith("."))


def read_volume(path: Path, unit: str) -> Volume:
    """One 3D NIfTI file as a float32 volume in `unit` ('HU', 'Gy' or '1'; NIfTI does not state it).
    ValueError if it is no 3D NIfTI in millimetres with an orientation."""
    try:
        _check_size(path)
        image: Any = nib.load(path)
        shape, header = image.shape, image.header
        units = header.get_xyzt_units()[0]
        codes = int(header["qform_code"]), int(header["sform_code"])
        if len(shape) != 3 or np.prod([float(n) for n in shape]) * _bytes(header) > MAX_BYTES:
            raise ValueError(f"shape {shape}; three axes and at most 2 GB are accepted")
        if units not in ("mm", "unknown"):
            raise ValueError(f"lengths in {units}; mm is accepted")
        if not any(codes):
            raise ValueError("neither qform nor sform states an orientation; one of them is needed")
        _check_surplus(path, image)
        grid = grid_from_affine(image.affine, shape)
        if all(codes) and not grid.matches(grid_from_affine(image.get_qform(), shape), 1.0):
            raise ValueError("qform and sform differ by more than 1 mm; one orientation is needed")
        values = np.asarray(image.dataobj, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("values that are not a finite number; finite ones are accepted")
    except Exception as error:  # a foreign parser on foreign bytes: whatever it raises is a bad file
        raise ValueError(f"{path}: {error}") from error
    return Volume(np.ascontiguousarray(values.transpose(2, 1, 0)), grid, unit)


def _check_size(path: Path) -> None:
    """ValueError for a .gz that unpacks to more than MAX_BYTES; nothing of it is kept."""
    if not path.name.endswith(".gz") or path.stat().st_size * GZIP_LIMIT < MAX_BYTES:
        return
    size = 0
    with gzip.open(path) as file:
        while chunk := file.read(2**24):
            size += len(chunk)
            if size > MAX_BYTES:
                raise ValueError("more than 2 GB unpacked; at most 2 GB are accepted")


def _check_surplus(path: Path, image: Any) -> None:
    """ValueError for a file that holds more than its header states: the shape or the type there is wrong, and
    the numbers would be taken for those of other voxels."""
    if path.name.endswith(".gz"):
        with path.open("rb") as file:  # a gzip file ends in its size once unpacked, modulo 2^32
            file.seek(-4, os.SEEK_END)
            held = int.from_bytes(file.read(4), "little")
    else:
        held = path.stat().st_size
    stated = int(image.dataobj.offset) + int(np.prod(image.shape)) * int(image.get_data_dtype().itemsize)
    if held - stated >= PADDING_BYTES:
        raise ValueError(f"{held} bytes, the header states {stated}; as many as it states are accepted")


def grid_from_affine(affine_ras: np.ndarray, shape_xyz: tuple[int, int, int]) -> Grid:
    """The grid of a NIfTI affine (index (x, y, z) to RAS+ mm). ValueError if it is sheared."""
    affine = LPS_FROM_RAS @ _as_meant(affine_ras)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and spacing.all()):
        raise ValueError("the affine is singular or not finite")
    x, y, z = spacing
    ox, oy, oz = affine[:3, 3]
    return Grid((shape_xyz[2], shape_xyz[1], shape_xyz[0]), (x, y, z), (ox, oy, oz), affine[:3, :3] / spacing)


def _as_meant(affine: np.ndarray) -> np.ndarray:
    """The file keeps 32-bit numbers: 5.422 comes back as 5.421999931. What was meant is the shortest decimal
    that rounds to the number there."""
    short = np.array([float(str(np.float32(value))) for value in affine.flat]).reshape(affine.shape)
    return np.where(affine == affine.astype(np.float32), short, affine)


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI (float32, masks as uint8) with qform and sform, by atomic rename. ValueError
    unless the name ends in .nii or .nii.gz."""
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path.name}: a name ending in .nii.gz or .nii is accepted")
    kind = np.uint8 if volume.array.dtype == np.bool_ else np.float32
    with whole(path) as scratch:
        nib.save(_image(volume.array.astype(kind), volume.grid), scratch)


def as_bytes(array: NDArray[Any], grid: Grid) -> bytes:
    """An array (z, y, x) of any type that NIfTI has, on a grid, as the bytes of a .nii.gz: quickly packed, as
    it is read on this machine."""
    return gzip.compress(_image(array, grid).to_bytes(), QUICK, mtime=0)


def _image(array: NDArray[Any], grid: Grid) -> Any:
    affine = LPS_FROM_RAS @ grid.affine
    make: Any = nib.Nifti1Image  # nibabel states no types
    image = make(array.transpose(2, 1, 0), affine, dtype=array.dtype)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    return image


def read_case(folder: Path) -> Case:
    """A NIfTI folder as a case on the grid of ct.nii.gz (else dose.nii.gz, else the first mask). ValueError
    (file, found, accepted) where a file lies on another grid, a mask is not 0/1 or empty, or case.json is not
    its schema."""
    volumes = {p.name.removesuffix(".gz").removesuffix(".nii"): p for p in files(folder)}
    if len(volumes) < len(files(folder)):
        raise ValueError(
            f"{folder}: a structure stands there twice (.nii and .nii.gz, or in {SEGMENTATIONS} too)"
        )
    ct = read_volume(volumes.pop("ct"), "HU") if "ct" in volumes else None
    dose = read_volume(volumes.pop("dose"), "Gy") if "dose" in volumes else None
    given = ct or dose
    structures = {}
    for name, path in volumes.items():
        mask = read_volume(path, "1")
        given = given or mask
        if not mask.grid.matches(given.grid, 0.05):
            raise ValueError(
                f"{path}: lies on another grid than the case ({mask.grid}); {given.grid} is accepted"
            )
        structures[name] = _mask(mask, path)
    if given is None:
        raise ValueError(f"{folder}: no NIfTI file found; ct.nii.gz and one mask per structure are accepted")
    text = words(_json(folder / "case.json"), str(folder / "case.json"))
    case = Case(folder.name, given.grid, structures, ct=ct, **text, source=Source("nifti"))
    if dose is None:
        return case
    return replace(case, dose=on_case(dose, case, str(folder / "dose.nii.gz")))


def write_case(case: Case, folder: Path) -> None:
    """Write a case as a NIfTI folder. ValueError if two structure names are the same file name."""
    stems = {name: file_name(name) for name in case.structures}
    if len({stem.lower() for stem in stems.values()} | {"ct", "dose"}) < len(stems) + 2:
        raise ValueError(
            f"{case.name}: two structures have the same file name among {', '.join(sorted(stems.values()))}"
        )
    for name, mask in case.structures.items():
        write_volume(Volume(mask, case.grid, "1"), folder / SEGMENTATIONS / f"{stems[name]}.nii.gz")
    for stem, volume in (("ct", case.ct), ("dose", case.dose and known_part(case.dose))):
        if volume is not None:
            write_volume(volume, folder / f"{stem}.nii.gz")
    text = describe(case)
    text["prescription_gy"] = {stems[name]: dose for name, dose in case.prescription.levels_gy.items()}
    with whole(folder / "case.json") as scratch:
        scratch.write_text(json.dumps(text, indent=2) + "\n")


def _bytes(header: Any) -> int:
    """Of one voxel, in the file or as float32, whichever is more."""
    return max(4, int(header.get_data_dtype().itemsize))


def _mask(volume: Volume, path: Path) -> np.ndarray:
    values = np.unique(volume.array)
    if not np.isin(values, (0, 1)).all():
        found = ", ".join(f"{value:g}" for value in values[:4])
        raise ValueError(
            f"{path}: a mask with the values {found}; 0 and 1 are accepted, a CT as ct.nii.gz and a dose as "
            "dose.nii.gz"
        )
    if not volume.array.any():
        raise ValueError(f"{path}: a mask with no voxel; leave the file out if the structure is absent")
    return volume.array.astype(bool)


def _json(path: Path) -> dict[str, Any]:
    if not (path.exists() or path.is_symlink()):
        return {}
    if not path.is_file():
        raise ValueError(f"{path}: no file; a JSON file is accepted, or none")
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON {type(value).__name__}; an object is accepted")
    return value
