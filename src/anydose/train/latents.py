"""Latents written once, so that training never runs a codec.

    COHORT.latents/CODEC-HASH[-levels][-ORGANS]/CASE.safetensors    beside a cohort store or rendered cases
        VIEW.MODALITY    latent (1, c, d, h, w) in bfloat16
        VIEW.mask        the body on the latent grid
        metadata         spacing, the views, and the precision that the codec ran in

A view is a crop and a mirroring, drawn from (seed, case, view): no codec of a prior commutes with either, so
volumes are changed before they are encoded. What is there already is kept; files appear by atomic rename.
Older caches, COHORT/.latents with a file a view, are still read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from anydose.case import modality
from anydose.case.naming.vocabulary import HEAD_NECK
from anydose.model.codec.codec import Codec
from anydose.model.tensors import save_tensors


@dataclass(frozen=True)
class View:
    """How a case is changed before it is encoded."""

    number: int
    """0 is the case as it is."""
    left_right: bool
    """Mirrored left to right."""
    cranio_caudal: bool
    """Mirrored head to feet."""
    offset: tuple[float, float, float]
    """Place of crop and padding along (z, y, x), each in [0, 1]."""


@dataclass(frozen=True)
class Latents:
    """One encoded view."""

    name: str
    """Of the case."""
    values: dict[str, Tensor]
    """{modality: latent (1, c, d, h, w) in float32}."""
    body: Tensor
    """The body on the latent grid, (1, 1, d, h, w)."""
    spacing_mm: tuple[float, float, float]
    """Of the voxels, (x, y, z)."""

    def pin_memory(self) -> Latents:
        """The same in page-locked memory, from where a GPU fetches it while it computes."""
        values = {name: value.pin_memory() for name, value in self.values.items()}
        return replace(self, values=values, body=self.body.pin_memory())


def codec_hash(codec: Codec) -> str:
    """SHA-256 over a codec's spec and weights: latents of equal hashes are interchangeable."""
    digest = hashlib.sha256(codec.spec.encode())
    for name, value in sorted(codec.state_dict().items()) if isinstance(codec, nn.Module) else ():
        digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def folder_of(
    cohort: Path, codec: Codec, organs: tuple[str, ...] = HEAD_NECK.organs, organs_as: str = "channels"
) -> Path:
    """Where the latents of a cohort in one codec and with these organs, in one form, lie."""
    form = "" if organs_as == "channels" else f"-{organs_as}"
    place = cohort.with_name(f"{cohort.name}.latents") / f"{_folder_name(codec)}{form}"
    if organs == HEAD_NECK.organs:
        return place
    return place.with_name(f"{place.name}-{hashlib.sha256(' '.join(organs).encode()).hexdigest()[:8]}")


def draw_view(seed: int, case: str, number: int) -> View:
    """View `number` of a case; number 0 is the case as it is."""
    if number == 0:
        return View(0, False, False, (0.5, 0.5, 0.5))
    word = int.from_bytes(hashlib.sha256(case.encode()).digest()[:4])
    rng = np.random.default_rng([seed, word, number])
    flips, offset = rng.random(2) < 0.5, rng.random(3)
    return View(
        number, bool(flips[0]), bool(flips[1]), (float(offset[0]), float(offset[1]), float(offset[2]))
    )


def save_latents(views: list[tuple[View, Latents]], path: Path, precision: str) -> None:
    """Write all views of one case."""
    tensors = {}
    for view, latents in views:
        for name, value in latents.values.items():
            tensors[f"{view.number}.{name}"] = value.to(torch.bfloat16)
        tensors[f"{view.number}.mask"] = latents.body.to(torch.uint8)
    about = {
        "spacing_mm": views[0][1].spacing_mm,
        "views": [asdict(view) for view, _ in views],
        "precision": precision,
    }
    save_tensors(tensors, path, {"case": json.dumps(about)})


def stored_views(path: Path) -> int:
    """How many views of a case a file holds; 0 where there is none."""
    return len(_about(path)["views"]) if path.is_file() else 0


class LatentCohort:
    """The encoded cases of a cohort in one codec, in name order. ValueError if there are none of this very
    codec and of these organs, or if a case lacks views that another has."""

    def __init__(
        self,
        cohort: Path,
        codec: Codec,
        organs: tuple[str, ...] = HEAD_NECK.organs,
        organs_as: str = "channels",
    ) -> None:
        self.organs = organs
        self.folder = folder_of(cohort, codec, organs, organs_as)
        former = cohort / ".latents" / _folder_name(codec)
        if former.is_dir() and not self.folder.is_dir() and organs == HEAD_NECK.organs:
            self.folder = former
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise ValueError(
                f"{self.folder}: no latents of this codec and these {len(organs)} organs; "
                f"`anydose prior encode {cohort} MODEL` writes them"
            )
        self.is_former = self.folder == former
        self.names, counts = _former_views(files) if self.is_former else _views(files)
        self.views = max(counts)
        for name, count in zip(self.names, counts, strict=True):
            if count < self.views:
                raise ValueError(f"{self.folder}: view {count} of {name} is missing; encode it again")
        self.modalities = [self._modalities(name) for name in self.names]
        self.spacings_mm = [self._spacing_mm(name) for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int, view: int = 0) -> Latents:
        """A view of the case at `index` of `names`; of any number, modulo how many there are."""
        path, prefix = self._place(self.names[index], view % self.views)
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["case"])
            values = {name: file.get_tensor(prefix + name).float() for name in self.modalities[index]}
            body = file.get_tensor(f"{prefix}mask").bool()
        spacing = about["spacing_mm"]
        return Latents(self.names[index], values, body, (spacing[0], spacing[1], spacing[2]))

    def _place(self, name: str, number: int) -> tuple[Path, str]:
        """The file of a view, and what its tensors' names begin with."""
        if self.is_former:
            return self.folder / f"{name}.{number}.safetensors", ""
        return self.folder / f"{name}.safetensors", f"{number}."

    def _spacing_mm(self, name: str) -> tuple[float, ...]:
        with safe_open(self._place(name, 0)[0], "pt") as file:
            return tuple(json.loads(file.metadata()["case"])["spacing_mm"])

    def _modalities(self, name: str) -> tuple[str, ...]:
        path, prefix = self._place(name, 0)
        with safe_open(path, "pt") as file:
            there = set(file.keys())
        return tuple(m for m in modality.NAMES if prefix + m in there)


def _views(files: list[Path]) -> tuple[list[str], list[int]]:
    return [path.stem for path in files], [stored_views(path) for path in files]


def _former_views(files: list[Path]) -> tuple[list[str], list[int]]:
    """(names, views of each) of a cache with a file CASE.VIEW.safetensors a view: up to the first missing
    one."""
    there = {(path.name.rsplit(".", 2)[0], int(path.name.rsplit(".", 2)[1])) for path in files}
    names = sorted({name for name, _ in there})
    most = 1 + max(number for _, number in there)
    counts = []
    for name in names:
        missing = [number for number in range(most) if (name, number) not in there]
        counts.append(missing[0] if missing else most)
    return names, counts


def _about(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        about: dict[str, Any] = json.loads(file.metadata()["case"])
    return about


def _folder_name(codec: Codec) -> str:
    return f"{codec.spec.replace(':', '-')}-{codec_hash(codec)[:12]}"
