"""Safetensors as model hubs store them: one file, or several with an index. Nothing is read before every name
is accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

Shape = tuple[int, ...]


class Shards:
    """The tensors of a folder's weights. ValueError names the file if there is none, several without an
    index, one that the index lists and the folder lacks, or one that is cut short."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file_of, self.shapes = folder, dict[str, Path](), dict[str, Shape]()
        self.files = _files(folder)
        for path in self.files:
            for name, shape in _shapes(path).items():
                self.file_of[name], self.shapes[name] = path, shape
        index = _index(folder)
        for name, file in (index or {}).items():
            if self.file_of.get(name) != folder / file:
                raise ValueError(f"{folder / file}: tensor {name} of the index is not in it")
        if index is not None and (extra := sorted(set(self.shapes) - set(index))):
            raise ValueError(f"{self.file_of[extra[0]]}: tensor {extra[0]} is not in the index")

    def __getitem__(self, name: str) -> Tensor:
        """One tensor, as stored."""
        with safe_open(self.file_of[name], "pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    @property
    def parameters(self) -> int:
        """Numbers stored, over all tensors."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    def load_into(self, module: nn.Module) -> None:
        """Copy every tensor into a module of the same names and shapes; ValueError for any other."""
        wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        account(wanted, self.shapes, str(self.folder))
        module.load_state_dict({name: self[name].float() for name in wanted}, strict=True)


def account(wanted: Mapping[str, Shape], found: Mapping[str, Shape], where: str) -> None:
    """ValueError unless `found` holds exactly the wanted names, in the wanted shapes."""
    for names, what in ((set(wanted) - set(found), "missing"), (set(found) - set(wanted), "unknown")):
        if names:
            raise ValueError(
                f"{where}: {len(names)} tensors {what}, the first is {min(names)}; {len(wanted)} are needed"
            )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ValueError(f"{where}: tensor {name} of shape {found[name]} found, {shape} is needed")


def _files(folder: Path) -> Iterable[Path]:
    found = sorted(folder.glob("*.safetensors"))
    index = _index(folder)
    if index is not None:
        found = [folder / name for name in sorted(set(index.values()))]
        for path in found:
            if not path.is_file():
                raise ValueError(f"{path}: shard of the index is missing; {len(found)} files are needed")
    if not found:
        raise ValueError(f"{folder}: no .safetensors file; the weights of a prior are needed")
    if index is None and len(found) > 1:
        raise ValueError(f"{folder}: {len(found)} .safetensors files and no index; its .index.json is needed")
    return found


def _index(folder: Path) -> dict[str, str] | None:
    path = next(iter(sorted(folder.glob("*.safetensors.index.json"))), None)
    if path is None:
        return None
    try:
        return dict(json.loads(path.read_text())["weight_map"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no index of shards; a JSON object with weight_map is needed") from error


def _shapes(path: Path) -> dict[str, Shape]:
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path}: cut short or no safetensors file ({error})") from error
