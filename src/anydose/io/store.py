"""The cohort store: one Zarr v3 group a case, cropped to the patient, compressed without loss, read in one
piece.

    COHORT/zarr.json                  kind, schema version
    COHORT/<case>/zarr.json           words of the case (describe.py), grid, structures, source and its hash
    COHORT/<case>/ct                  int16 or float32, (d, h, w)
    COHORT/<case>/dose                float32, (d, h, w)
    COHORT/<case>/structures          masks packed eight to a byte, (ceil(n / 8), d, h, w)

Cases are written beside their place and renamed, so that a reader never sees half of one. From schema 2 on
the attributes hold a SHA-256 of the words and of each array (`sha256`), and a reader refuses what differs;
stores of schema 1 are read without.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from anydose.atomic.files import is_alive
from anydose.case.case import Case, Source
from anydose.case.grid import Grid
from anydose.case.naming import evidence
from anydose.case.naming.meaning import Meaning
from anydose.case.volume import Volume, bounding_box
from anydose.io.describe import describe, words
from anydose.io.files import file_name

SCHEMA = 2
READABLE = (1, 2)
LONGEST_NAME = 100  # characters of a folder
KIND = "anydose cohort"
WORDS = "words"  # beside the arrays among the hashes
MAX_CHUNK = 2**26  # voxels: up to there an array is one chunk, which is what a reader wants of a case


def cropped(case: Case) -> Case:
    """The case on the smallest block that holds its body and structures; itself if it has none."""
    masks = list(case.structures.values())
    return case.block(*bounding_box(np.logical_or.reduce(masks))) if masks else case


def write_stored(case: Case, cohort: Path, name: str, **about: Any) -> Path:
    """Write a case, cropped, as group `name` of a local cohort, by atomic rename; replaces one of that name.
    about: further attributes. Returns its folder."""
    case = cropped(case)
    place = cohort / stored_name(name)
    scratch = cohort / f".{os.getpid()}.{place.name}"
    try:
        open_cohort(cohort)
        shutil.rmtree(scratch, ignore_errors=True)
        _write(case, scratch, about)
        shutil.rmtree(place, ignore_errors=True)
        scratch.rename(place)
    except OSError as error:  # zarr does not name the file that a full disk took
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(place)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def _write(case: Case, folder: Path, about: Mapping[str, Any]) -> None:
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    arrays: dict[str, np.ndarray] = {}
    if case.ct is not None:
        arrays["ct"] = _small(case.ct.in_unit("HU"))
    if case.dose is not None:
        arrays["dose"] = case.dose.in_unit("Gy").astype(np.float32)
    if case.structures:
        arrays["structures"] = np.packbits(np.stack(list(case.structures.values())), axis=0)
    for label, array in arrays.items():
        _put(group, label, array)
    content: dict[str, Any] = {
        "case": describe(case),
        "grid": {key: getattr(case.grid, key) for key in ("shape", "spacing_mm", "origin_mm", "direction")},
        "structures": list(case.structures),
    }
    hashes = {label: _hash(array) for label, array in arrays.items()} | {WORDS: _words_hash(content)}
    group.attrs.update({**about, "schema": SCHEMA, **content, "sha256": hashes})


def stored_name(name: str) -> str:
    """The folder of a case in a store: its name, or, where that is no safe folder or a long one, what is
    safe of it and a hash, so that two cases never share a folder."""
    try:
        safe = file_name(name)
    except ValueError:
        safe = "case"
    if safe == name and len(name) <= LONGEST_NAME:
        return name
    return f"{safe[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


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
        if match and not is_alive(int(match.group(1))):
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


def is_store(path: Path) -> bool:
    """Whether a folder is a cohort store, and not a case of one."""
    return (path / "zarr.json").is_file() and _open(path).attrs.get("kind") == KIND


def organs(cohort: Path) -> tuple[str, ...] | None:
    """The vocabulary that a store records; None if it records none."""
    found: Any = _open(cohort).attrs.get("organs")
    return tuple(found) if found else None


def record_organs(cohort: Path, organs: tuple[str, ...]) -> None:
    """Record the vocabulary that a local store is drawn with."""
    if _open(cohort).attrs.get("organs") != list(organs):
        zarr.open_group(cohort, mode="a").attrs["organs"] = list(organs)


def stored_naming(path: Path) -> tuple[tuple[Meaning, ...], Mapping[str, float]]:
    """(what the structures of a stored case are, its prescription in Gy), without its arrays."""
    about = attributes(path)
    said = words(about["case"], str(path))
    given = {meaning.roi: meaning for meaning in said["naming"]}
    naming = tuple(given.get(roi) or evidence.read(roi) for roi in about["structures"])
    return naming, said["prescription"].levels_gy


def read_stored(path: Path | str) -> Case:
    """The stored case at COHORT/name: a folder or an fsspec URL. ValueError if there is none, or of another
    schema, or if a part of it is missing or is not what was written."""
    group = _open(path)
    about: dict[str, Any] = dict(group.attrs)
    if "case" not in about or about.get("schema") not in READABLE:
        raise ValueError(
            f"{path}: schema {about.get('schema')}, kind {about.get('kind', 'unknown')}; one case of a "
            f"cohort store of schema {' or '.join(map(str, READABLE))} (COHORT/name) is accepted"
        )
    try:
        arrays = _verified(group, about, path)
        grid = Grid(**{key: _tuples(value) for key, value in about["grid"].items()})
        return _case(about, grid, arrays, path)
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path}: no stored case ({type(error).__name__}: {error}); convert it again"
        ) from error


def _case(about: dict[str, Any], grid: Grid, arrays: dict[str, np.ndarray], path: Path | str) -> Case:
    packed = arrays.get("structures")
    masks = {}
    if packed is not None:
        masks = {label: _bit(packed, k) for k, label in enumerate(about["structures"])}
    return Case(
        name=about["case"]["name"],
        grid=grid,
        structures=masks,
        ct=_volume(arrays.get("ct"), grid, "HU"),
        dose=_volume(arrays.get("dose"), grid, "Gy"),
        **words(about["case"], str(path)),
        source=Source(
            "store",
            structure_types=about["case"].get("structure_types", {}),
            structure_codes=about["case"].get("structure_codes", {}),
        ),
    )


def _verified(group: zarr.Group, about: dict[str, Any], path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a stored case. ValueError names the one that is missing, damaged or altered."""
    arrays: dict[str, np.ndarray] = {}
    try:
        found = dict(group.arrays())
    except Exception as error:  # noqa: BLE001 - zarr raises anything on damaged metadata
        raise ValueError(f"{path}: damaged ({error}); convert it again") from error
    for label, array in found.items():
        try:
            if array.nchunks and not array.nchunks_initialized and label != "dose":
                raise ValueError("its chunks are missing")
            arrays[label] = np.asarray(array[...])
        except Exception as error:  # noqa: BLE001 - codecs raise anything on damaged bytes
            raise ValueError(f"{path}/{label}: damaged ({error}); convert it again") from error
    if about["structures"] and "structures" not in arrays:
        raise ValueError(f"{path}/structures: missing; convert it again")
    hashes: dict[str, str] = about.get("sha256") or {}
    if about["schema"] == 1 and not hashes:
        return arrays
    stated = {label: _hash(array) for label, array in arrays.items()} | {WORDS: _words_hash(about)}
    for label in sorted(hashes.keys() | stated.keys()):
        if hashes.get(label) != stated.get(label):
            what = "missing" if label not in stated else "altered since it was written (sha256 differs)"
            raise ValueError(f"{path}/{label}: {what}; convert it again")
    return arrays


def _hash(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _words_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of the words, grid and structure names of a case, as JSON."""
    kept = {key: content[key] for key in ("case", "grid", "structures")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _open(path: Path | str) -> zarr.Group:
    try:
        return zarr.open_group(path, mode="r")
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # zarr raises anything on damaged metadata
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
    return np.asarray((packed[k // 8] & (128 >> (k % 8))) != 0)


def _volume(array: np.ndarray | None, grid: Grid, unit: str) -> Volume | None:
    return None if array is None else Volume(array.astype(np.float32, copy=False), grid, unit)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
