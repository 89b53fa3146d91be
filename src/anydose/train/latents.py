"""Latents written once, so that training never runs a codec.

COHORT/.latents/CODEC-HASH/CASE.VIEW.safetensors beside a cohort store or a folder of drawn cases: the latents
of every modality in bfloat16, the body on their grid, and the view in the metadata. A view is a crop and a
mirroring, drawn from (seed, case, view): no codec of a prior commutes with either, so volumes are changed
before they are encoded. What is there already is kept, files appear by atomic rename."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from anydose.case import modality
from anydose.io import store
from anydose.model.any2any import Any2Any
from anydose.model.augment import cropped, flipped
from anydose.model.checkpoint import load_model
from anydose.model.codec.codec import Codec
from anydose.model.sample import Sample, draw_sample, padded
from anydose.model.tensors import save_tensors
from anydose.train.data import Cohort


@dataclass(frozen=True)
class View:
    """How a case is changed before it is encoded; offset: of crop and padding."""

    number: int
    left_right: bool
    cranio_caudal: bool
    offset: tuple[float, float, float]


@dataclass(frozen=True)
class Latents:
    """One encoded view: latents {modality: (1, c, d, h, w)} in float32, body (1, 1, d, h, w), spacing in mm
    (x, y, z)."""

    name: str
    values: dict[str, Tensor]
    body: Tensor
    spacing_mm: tuple[float, float, float]


def codec_hash(codec: Codec) -> str:
    """SHA-256 over a codec's spec and weights: latents of equal hashes are interchangeable."""
    digest = hashlib.sha256(codec.spec.encode())
    for name, value in sorted(codec.state_dict().items()) if isinstance(codec, nn.Module) else ():
        digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def folder_of(cohort: Path, codec: Codec) -> Path:
    """Where the latents of a cohort in one codec lie."""
    return cohort / ".latents" / f"{codec.spec.replace(':', '-')}-{codec_hash(codec)[:12]}"


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


def encode(
    cohort: Path, model: Path, views: int = 1, crop: tuple[int, ...] = (), workers: int = 1, seed: int = 0
) -> Iterator[Path]:
    """Write `views` views of every case of a cohort in the codec of a model's checkpoint, with `workers`
    processes; yields each file once it is there. crop: at most so many voxels along (z, y, x), () for all.
    ValueError if the folder is no cohort."""
    names = case_names(cohort)
    place = folder_of(cohort, load_model(model).codec)
    place.mkdir(parents=True, exist_ok=True)
    jobs = [(name, draw_view(seed, name, k)) for name in names for k in range(views)]
    jobs = [(name, view) for name, view in jobs if not _path(place, name, view.number).is_file()]
    if workers == 1:
        _start(str(model))
        for name, view in jobs:
            yield _encode_one(cohort, place, name, view, crop)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (str(model),)) as pool:
        pending = [pool.submit(_encode_one, cohort, place, name, view, crop) for name, view in jobs]
        for job in as_completed(pending):
            yield job.result()


def case_names(cohort: Path) -> list[str]:
    """The cases of a cohort store, or of a folder of drawn cases."""
    return store.names(cohort) if _is_store(cohort) else [path.stem for path in Cohort(cohort).paths]


def read_sample(cohort: Path, name: str) -> Sample:
    """One case of either kind of cohort, drawn."""
    if _is_store(cohort):
        return draw_sample(store.read_stored(cohort / name))[0]
    drawn = Cohort(cohort)
    return drawn.load([path.stem for path in drawn.paths].index(name))


@torch.inference_mode()
def encode_view(model: Any2Any, sample: Sample, view: View, crop: tuple[int, ...] = ()) -> Latents:
    """Crop, pad, mirror and encode one case."""
    if crop:
        sample = cropped(sample, (crop[0], crop[1], crop[2]), view.offset)
    sample = flipped(padded(sample, model.multiple, view.offset), view.left_right, view.cranio_caudal)
    values = {name: model.codec.encode(volume[None]) for name, volume in sample.volumes.items()}
    return Latents(sample.name, values, model.latent_body(sample.body[None]), sample.spacing_mm)


class LatentCohort:
    """The encoded cases of a cohort in one codec, in name order. ValueError if there are none of this very
    codec, or if a case lacks views that another has."""

    def __init__(self, cohort: Path, codec: Codec) -> None:
        self.folder = folder_of(cohort, codec)
        found = sorted(self.folder.glob("*.safetensors"))
        if not found:
            raise ValueError(
                f"{self.folder}: no latents of this codec; `anydose prior encode {cohort} MODEL` writes them"
            )
        self.names = sorted({path.name.rsplit(".", 2)[0] for path in found})
        self.views = 1 + max(int(path.name.rsplit(".", 2)[1]) for path in found)
        self.modalities = []
        for name in self.names:
            for number in range(self.views):
                if not _path(self.folder, name, number).is_file():
                    raise ValueError(f"{self.folder}: view {number} of {name} is missing; encode it again")
            with safe_open(_path(self.folder, name, 0), "pt") as file:
                self.modalities.append(tuple(m for m in modality.NAMES if m in set(file.keys())))

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int, view: int = 0) -> Latents:
        """A view of the case at `index` of `names`."""
        with safe_open(_path(self.folder, self.names[index], view % self.views), "pt") as file:
            about = json.loads(file.metadata()["case"])
            values = {name: file.get_tensor(name).float() for name in self.modalities[index]}
            body = file.get_tensor("mask").bool()
        spacing = about["spacing_mm"]
        return Latents(self.names[index], values, body, (spacing[0], spacing[1], spacing[2]))


_model: Any2Any | None = None  # of a worker process


def _start(path: str) -> None:
    global _model
    _model = load_model(Path(path))


def _encode_one(cohort: Path, place: Path, name: str, view: View, crop: tuple[int, ...]) -> Path:
    assert _model is not None
    path = _path(place, name, view.number)
    save_latents(encode_view(_model, read_sample(cohort, name), view, crop), view, path)
    return path


def save_latents(latents: Latents, view: View, path: Path) -> None:
    """Write one view."""
    tensors = {name: value.to(torch.bfloat16) for name, value in latents.values.items()}
    about = {"spacing_mm": latents.spacing_mm, "view": asdict(view), "process": os.getpid()}
    save_tensors(tensors | {"mask": latents.body.to(torch.uint8)}, path, {"case": json.dumps(about)})


def _path(place: Path, name: str, number: int) -> Path:
    return place / f"{name}.{number}.safetensors"


def _is_store(cohort: Path) -> bool:
    return (cohort / "zarr.json").is_file()
