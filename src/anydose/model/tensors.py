"""Safetensors files: written by atomic rename and with their hashes, read with the file's name in every
error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anydose.atomic.files import whole
from anydose.model.weights import check_rest, check_seal, sealed


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file by atomic rename, with the SHA-256 of every tensor in its metadata."""
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with whole(path) as scratch:
        try:
            save_file(copies, scratch, sealed(copies, metadata))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file. Raises ValueError with the file's name if it is not one, or
    if it is damaged (weights.check_seal)."""
    metadata = load_metadata(path)
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    check_seal(path, tensors, metadata)
    return tensors, metadata


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises ValueError with the file's name if it is not one, or if its
    metadata are damaged."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; a .safetensors checkpoint is needed") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    check_rest(path, metadata)
    return metadata


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError, naming the first, if a number of any tensor is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: tensor {name} holds numbers that are not finite; weights are needed")
