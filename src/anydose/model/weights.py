"""The weights that the package ships, and whether a file of weights is whole.

Every file that this version writes holds, in its metadata, the SHA-256 of each tensor and of the rest of the
metadata. The shipped files are older: `weights/hashes.json` holds the size and the SHA-256 of each. A file of
one of those sizes is taken for a copy, wherever it lies and whatever it is called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

WEIGHTS = Path(__file__).parent.parent / "weights"
HASHES = "hashes.json"
SEAL = "sha256"
"""Key of the hashes in a file's metadata."""
REST = ""
"""Key, among the hashes, of that over the rest of the metadata."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 over a tensor's type, shape and values."""
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)} ".encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the hashes in it."""
    hashes = {name: tensor_hash(tensor) for name, tensor in tensors.items()}
    return {**metadata, SEAL: json.dumps({**hashes, REST: _hash_of_rest(metadata)})}


def check_seal(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Compare a file's tensors and metadata with their hashes. Raises ValueError, naming the first that
    differs, for a damaged file; a file without hashes is checked if it has the size of a shipped one."""
    if SEAL not in metadata:
        _check_copy(path)
        return
    hashes = _hashes(path, metadata)
    if set(hashes) - {REST} != set(tensors):
        raise ValueError(f"{path}: damaged, its hashes are of other tensors")
    for name, tensor in tensors.items():
        if tensor_hash(tensor) != hashes[name]:
            raise ValueError(f"{path}: damaged, tensor {name} differs from its SHA-256")


def check_rest(path: Path, metadata: Mapping[str, str]) -> None:
    """Compare a file's metadata with their hash, where it has one. Raises ValueError for a damaged file."""
    if SEAL in metadata and _hashes(path, metadata).get(REST) != _hash_of_rest(metadata):
        raise ValueError(f"{path}: damaged, its metadata differ from their SHA-256")


def _hash_of_rest(metadata: Mapping[str, str]) -> str:
    rest = {key: metadata[key] for key in sorted(metadata) if key != SEAL}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()


def _hashes(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    try:
        found = json.loads(metadata[SEAL])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, its hashes are no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: damaged, its hashes are {type(found).__name__}, an object is needed")
    return found


def _check_copy(path: Path) -> None:
    known = json.loads((WEIGHTS / HASHES).read_text())
    for name, row in known.items():
        if row["bytes"] == path.stat().st_size and file_hash(path) != row[SEAL]:
            raise ValueError(f"{path}: damaged, it has the size of the shipped {name} and another SHA-256")
