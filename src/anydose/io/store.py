"""The cohort store: one Zarr v3 group a case, cropped to the patient, compressed without loss, read in one
piece.

    COHORT/zarr.json                  kind, schema version
    COHORT/<case>/zarr.json           words of the case (describe.py), grid, structures, source and its hash
    COHORT/<case>/ct                  int16 or float32, (d, h, w)
    COHORT/<case>/dose                float32, (d, h, w)
    COHORT/<case>/structures          masks packed eight to a byte, (ceil(n / 8), d, h, w)

Cases are written beside their place and renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from anydose.case.case import Case, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume, bounding_box
from anydose.io.describe import describe, words
from anydose.io.files import file_name

SCHEMA = 1
KIND = "anydose cohort"
MAX_CHUNK = 2**26  # voxels: up to there an array is one chunk, which is what a reader wants of a case


def cropped(case: Case) -> Case:
    """The case on the smallest block that holds its body and structures; itself if it has none."""
    masks = list(case.structures.values())
    return case.block(*bounding_box(np.logical_or.reduce(masks))) if masks else case


def write_stored(case: Case, cohort: Path, name: str, **about: Any) -> Path:
    """Write a case, cropped, as group `name` of a local cohort, by atomic rename; replaces one of that name.
    about: further attributes. Returns its folder."""
    case = cropped(case)
    open_cohort(cohort)
    place, scratch = cohort / file_name(name), cohort / f".{os.getpid()}.{file_name(name)}"
    shutil.rmtree(scratch, ignore_errors=True)
    group = zarr.open_group(scratch, mode="w", zarr_format=3)
    if case.ct is not None:
        _put(group, "ct", _small(case.ct.in_unit("HU")))
    if case.dose is not None:
        _put(group, "dose", case.dose.in_unit("Gy").astype(np.float32))
    if case.structures:
        _put(group, "structures", np.packbits(np.stack(list(case.structures.values())), axis=0))
    group.attrs.update(
        {
            **about,
            "schema": SCHEMA,
            "case": describe(case),
            "grid": {
                key: getattr(case.grid, key) for key in ("shape", "spacing_mm", "origin_mm", "direction")
            },
            "structures": list(case.structures),
        }
    )
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)
    return place


def open_cohort(cohort: Path) -> None:
    """Make `cohort` a cohort store if it is nothing yet; ValueError if it is something else."""
    if not cohort.exists() or not any(cohort.iterdir()):
        group = zarr.open_group(cohort, mode="a", zarr_format=3)
        group.attrs.update({"kind": KIND, "schema": SCHEMA})
    elif not (cohort / "zarr.json").is_file():
        raise ValueError(f"{cohort}: holds other files; a cohort store or an empty folder is accepted")


def clear_scraps(cohort: Path) -> None:
    """Remove what killed runs left half written; what a living process writes stays."""
    for scrap in cohort.glob(".*.*"):
        match = re.match(r"\.(\d+)\.", scrap.name)
        if match and not _alive(int(match.group(1))):
            shutil.rmtree(scrap, ignore_errors=True)


def attributes(path: Path | str) -> dict[str, Any]:
    """What is stored of a case beside its arrays. ValueError if there is no stored case at COHORT/name."""
    return dict(_open(path).attrs)


def names(cohort: Path | str) -> list[str]:
    """The names of the stored cases, pt_2 before pt_10. cohort: a folder or an fsspec URL (s3://...)."""
    group = _open(cohort)
    if group.attrs.get("kind") != KIND:
        raise ValueError(f"{cohort}: no cohort store; one made by `anydose data convert` is accepted")
    found = [name for name in group.group_keys() if not name.startswith(".")]
    return sorted(found, key=lambda name: (len(name), name))


def read_stored(path: Path | str) -> Case:
    """The stored case at COHORT/name: a folder or an fsspec URL. ValueError if there is none, or of another
    schema."""
    group = _open(path)
    about = dict(group.attrs)
    if "case" not in about or about.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: schema {about.get('schema')}, kind {about.get('kind', 'unknown')}; one case of a "
            f"cohort store of schema {SCHEMA} (COHORT/name) is accepted"
        )
    grid = Grid(**{key: _tuples(value) for key, value in about["grid"].items()})
    arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
    packed = arrays.get("structures")
    labels = about["structures"]
    masks = {} if packed is None else {label: _bit(packed, k) for k, label in enumerate(labels)}
    return Case(
        name=about["case"]["name"],
        grid=grid,
        structures=masks,
        ct=_volume(arrays.get("ct"), grid, "HU"),
        dose=_volume(arrays.get("dose"), grid, "Gy"),
        **words(about["case"], str(path)),
        source=Source("store"),
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _open(path: Path | str) -> zarr.Group:
    try:
        return zarr.open_group(path, mode="r")
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: no Zarr group; a cohort store's case is accepted") from error


def _put(group: zarr.Group, name: str, array: np.ndarray) -> None:
    whole = array.size <= MAX_CHUNK
    chunks = array.shape if whole else (*array.shape[:-3], *(min(n, 128) for n in array.shape[-3:]))
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=array.dtype.itemsize)
    group.create_array(name, data=array, chunks=chunks, compressors=codec)


def _small(hu: np.ndarray) -> np.ndarray:
    """int16 where that loses nothing."""
    rounded = np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
    return rounded if np.array_equal(rounded, hu) else hu.astype(np.float32)


def _bit(packed: np.ndarray, k: int) -> np.ndarray:
    return (packed[k // 8] & (128 >> (k % 8))) != 0


def _volume(array: np.ndarray | None, grid: Grid, unit: str) -> Volume | None:
    return None if array is None else Volume(array.astype(np.float32, copy=False), grid, unit)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
