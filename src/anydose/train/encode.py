"""Writing a cohort's latents: what `anydose prior encode` does. Only the codec of a model is loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from anydose.case.naming.vocabulary import Vocabulary
from anydose.engine.engine import Engine, each
from anydose.io import store
from anydose.model.any2any import Any2Any, config_from_dict, pick_device
from anydose.model.augment import cropped, flipped
from anydose.model.checkpoint import ADAPTER, base_of, describe
from anydose.model.codec.make import make_codec
from anydose.model.sample import Sample, draw_sample, padded
from anydose.train.data import Cohort
from anydose.train.latents import (
    Latents,
    View,
    draw_view,
    folder_of,
    save_latents,
    stored_views,
)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STORED_BYTES = 2  # a number: bfloat16
KEPT = 256  # latents of channels that may come again; 0.5 MB each at the paper's size


@dataclass(frozen=True)
class EncodeConfig:
    """How a cohort is encoded."""

    views: int = 1
    """Crops and mirror images of each case."""
    crop: tuple[int, ...] = ()
    """At most so many voxels along (z, y, x); () for all."""
    seed: int = 0
    """Of crops and mirror images."""
    precision: str = "fp32"
    """What the codec runs in: fp32, bf16 or fp16. Latents are stored in bfloat16 in any case."""
    device: str = "cpu"
    """'auto', 'cpu', 'cuda' or 'cuda:N'; each process of torchrun takes a GPU of its own."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision}: {', '.join(PRECISIONS)} are accepted")


@dataclass(frozen=True)
class Expected:
    """What an encoding will cost, measured on its first case."""

    cases: int
    """Cases still to encode, by all processes."""
    disk_gb: float
    """What their files will take."""
    hours: float
    """At the pace of one volume, for one process; volumes of a case that are equal pass the codec once."""
    error: float
    """Root mean square of the latent's change by the precision, as a share of the latent's own."""


def load_encoder(path: Path) -> Any2Any:
    """A model of which the codec alone has its weights; the rest is on the meta device and takes no memory.
    Of an adapter's file: of its base. ValueError if a tensor of the codec is missing or left over."""
    about = describe(path)
    if about["format"] == ADAPTER:
        path = base_of(path, about["base"])
    config = config_from_dict(about["config"])
    with torch.device("meta"):
        model = Any2Any(config)
    model.codec = make_codec(config.codec)
    if isinstance(model.codec, nn.Module):
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith("codec.")]  # noqa: SIM118
            weights = {name.removeprefix("codec."): file.get_tensor(name).float() for name in names}
        try:
            model.codec.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise ValueError(f"{path}: {error}") from error
    return model.eval()


def expected(cohort: Path, model: Path, config: EncodeConfig) -> Expected:
    """Measure the first case that is left: its size, the time of one volume and the error of the precision.
    ValueError if the disk cannot hold the files."""
    encoder = _Encoder(model, config)
    left = _left(cohort, encoder, config)
    if not left:
        return Expected(0, 0.0, 0.0, 0.0)
    sample = _changed(
        encoder.model, read_sample(cohort, left[0], encoder.organs), draw_view(0, left[0], 0), config.crop
    )
    name = "dose" if "dose" in sample.volumes else next(iter(sample.volumes))
    volume = sample.volumes[name][:1]
    exact = encoder.in_precision(volume, "fp32")
    begin = time.monotonic()
    found = encoder.in_precision(volume, config.precision)
    seconds = time.monotonic() - begin
    seen = [encoder.model.seen(name, volume) for name, volume in sample.volumes.items()]
    each = [channel for volume in seen for channel in volume.split(1)]
    channels, passing = len(each), len({_content(channel) for channel in each})
    views = len(left) * config.views
    disk = views * channels * exact.numel() * STORED_BYTES
    free = shutil.disk_usage(cohort.parent).free
    if disk > free:
        raise ValueError(f"{cohort}: latents of {disk / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    error = (found - exact).square().mean().sqrt() / exact.square().mean().sqrt().clamp(min=1e-12)
    return Expected(len(left), disk / 1e9, views * passing * seconds / 3600, float(error))


def encode(cohort: Path, model: Path, config: EncodeConfig, engine: Engine | None = None) -> Iterator[Path]:
    """Write the views of every case that has not all of them; yields each file once it is there. Under
    torchrun every process takes its share. engine: where it is done, by default in this process. ValueError
    if the folder is no cohort; at the end, if cases could not be encoded."""
    _encoder.cache_clear()  # the file may hold another model than the last time
    encoder = _encoder(model, config)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    names = _left(cohort, encoder, config)[rank::world]
    encoder.place(cohort).mkdir(parents=True, exist_ok=True)
    engine = (engine or Engine()).on_device(encoder.device.type)
    failed = []
    for done in each(partial(_write, cohort=cohort, model=model, config=config), names, engine):
        if done.why:
            failed.append(f"{done.job}: {done.why}")
        else:
            yield done.result
    if failed:
        raise ValueError(
            f"{cohort}: {len(failed)} of {len(names)} cases not encoded; {'; '.join(failed[:3])}"
        )


class _Encoder:
    """The codec of a model on its device."""

    def __init__(self, model: Path, config: EncodeConfig) -> None:
        self.config, self.model = config, load_encoder(model)
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and torch.cuda.is_available()
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if several else config.device
        self.device = pick_device(own if config.device != "cpu" else "cpu")
        self.codec = self.model.codec
        self.kept: OrderedDict[bytes, Tensor] = OrderedDict()
        if isinstance(self.codec, nn.Module):
            self.codec.to(self.device)

    def place(self, cohort: Path) -> Path:
        return folder_of(cohort, self.codec, self.organs, self.model.config.organs_as)

    @property
    def organs(self) -> tuple[str, ...]:
        """The organs that the model knows, a channel each."""
        return self.model.config.organs

    @torch.inference_mode()
    def in_precision(self, volume: Tensor, precision: str) -> Tensor:
        """The latent (1, c z, d, h, w) of a volume (c, d, h, w), a channel at a time, which bounds the memory
        and changes nothing: a codec knows no other channel."""
        kind = PRECISIONS[precision]
        found = []
        for channel in volume.split(1):
            with torch.autocast(self.device.type, kind, enabled=kind != torch.float32):
                found.append(self.codec.encode(channel[None].to(self.device)).float().cpu())
        return torch.cat(found, dim=1)

    def latent(self, volume: Tensor) -> Tensor:
        """As `in_precision`, but of channels that are equal (organs that a patient lacks, the CT and organs
        of two plans of one patient) only the first passes the codec: exact."""
        found = []
        for channel in volume.split(1):
            key = _content(channel)
            if key not in self.kept:
                self.kept[key] = self.in_precision(channel, self.config.precision)
            self.kept.move_to_end(key)
            found.append(self.kept[key])
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        return torch.cat(found, dim=1)

    def view(self, sample: Sample, view: View) -> Latents:
        sample = _changed(self.model, sample, view, self.config.crop)
        values = {name: self.latent(self.model.seen(name, volume)) for name, volume in sample.volumes.items()}
        return Latents(sample.name, values, self.model.latent_body(sample.body[None]), sample.spacing_mm)

    def write(self, cohort: Path, name: str) -> Path:
        path, sample = self.place(cohort) / f"{name}.safetensors", read_sample(cohort, name, self.organs)
        views = [draw_view(self.config.seed, name, number) for number in range(self.config.views)]
        save_latents([(view, self.view(sample, view)) for view in views], path, self.config.precision)
        return path


def encode_view(model: Any2Any, sample: Sample, view: View, crop: tuple[int, ...] = ()) -> Latents:
    """Crop, pad, mirror and encode one case on the CPU, in float32."""
    sample = _changed(model, sample, view, crop)
    with torch.inference_mode():
        values = {name: model.encode(name, volume[None]) for name, volume in sample.volumes.items()}
    return Latents(sample.name, values, model.latent_body(sample.body[None]), sample.spacing_mm)


def case_names(cohort: Path) -> list[str]:
    """The cases of a cohort store, or of a folder of rendered cases."""
    return store.names(cohort) if _is_store(cohort) else [path.stem for path in Cohort(cohort).paths]


def read_sample(cohort: Path, name: str, organs: tuple[str, ...]) -> Sample:
    """One case of either kind of cohort, rendered with a channel for each of `organs`. ValueError if it was
    rendered with others."""
    if _is_store(cohort):
        recorded = store.organs(cohort)
        if recorded is not None and recorded != organs:
            raise ValueError(
                f"{cohort}: records {Vocabulary(recorded)}, and the model knows {Vocabulary(organs)}; "
                "import the prior with --vocabulary, or convert with another"
            )
        return draw_sample(store.read_stored(cohort / name), organs=organs)[0]
    rendered = Cohort(cohort)
    if rendered.organs != organs:
        raise ValueError(
            f"{cohort}: rendered with {Vocabulary(rendered.organs)}, and the model knows "
            f"{Vocabulary(organs)}; give both the same --vocabulary"
        )
    return rendered.load([path.stem for path in rendered.paths].index(name))


def _changed(model: Any2Any, sample: Sample, view: View, crop: tuple[int, ...]) -> Sample:
    if crop:
        sample = cropped(sample, (crop[0], crop[1], crop[2]), view.offset)
    return flipped(padded(sample, model.multiple, view.offset), view.left_right, view.cranio_caudal)


def _left(cohort: Path, encoder: _Encoder, config: EncodeConfig) -> list[str]:
    """The cases that lack views."""
    place = encoder.place(cohort)
    return [n for n in case_names(cohort) if stored_views(place / f"{n}.safetensors") < config.views]


@lru_cache(maxsize=1)
def _encoder(model: Path, config: EncodeConfig) -> _Encoder:
    """The codec, once a process."""
    return _Encoder(model, config)


def _write(name: str, cohort: Path, model: Path, config: EncodeConfig) -> Path:
    return _encoder(model, config).write(cohort, name)


def _is_store(cohort: Path) -> bool:
    return (cohort / "zarr.json").is_file()


def _content(channel: Tensor) -> bytes:
    """What tells the values and the shape of a channel (1, d, h, w) from another's."""
    values = channel.contiguous().numpy()
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).digest()
