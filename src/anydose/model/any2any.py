"""The Any2Any model: a codec and a backbone. Given modalities are clean (t = 0), the wanted one starts as
noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anydose.case import modality
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary
from anydose.diffusion import flow
from anydose.model.codec.codec import lead, on_latent_grid, strides
from anydose.model.codec.make import make_codec
from anydose.model.former_names import present_config
from anydose.model.network.backbone import Backbone, BackboneConfig
from anydose.model.network.backbones import config_class
from anydose.model.network.tokens import edges
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options, filled_in
from anydose.model.organ_levels import FORMS, channels_of, levels_of

SLACK = 0.01  # so far beyond the spacings of training a case is still as usual
PLATES = ("all", "plain", "attenuated")  # all ten, the plain mean alone, the mean of the attenuated alone


@dataclass(frozen=True)
class ModelConfig:
    """What a checkpoint says of its model: how to build it, and what it was trained on."""

    backbone: BackboneConfig = field(default_factory=UNetConfig)
    """The network's settings."""
    codec: str = "identity:2"
    """The codec, as for `make_codec`."""
    modalities: tuple[str, ...] = modality.NAMES
    """The slots, in order."""
    predicts: str = "v"
    """What the backbone gives (flow.CONVENTIONS): 'v', or a flow prior's 'noise - data' or 'data - noise'."""
    trained_mm: tuple[tuple[float, float], ...] = ((2.7, 5.5), (2.7, 5.5), (1.4, 3.4))
    """The spacings (x, y, z) seen in training, lowest and highest. Training records those of its cohort; the
    default is OpenKBP's, which checkpoints without a record were trained on."""
    working_mm: tuple[float, float, float] = (4.2, 4.2, 2.5)
    """The spacing (x, y, z) that a case outside `trained_mm` is brought to."""
    plates: str = "all"
    """Which beam's-eye-view plates are shown (PLATES)."""
    keep_laterality: bool = False
    """Whether the organs that are given keep their names in a mirror image, so that the left parotid is told
    from the right one: the clinic's plans have a side."""
    organs: tuple[str, ...] = HEAD_NECK.organs
    """The organs that the model knows, a channel each (naming/vocabulary.py). Checkpoints without a record
    know those of head and neck."""
    organs_as: str = "channels"
    """How it sees the organs: 'channels', one for each, or 'levels', all in one volume (organ_levels.py)."""
    sampling_steps: int = 1
    """Network evaluations a sample that it was trained for: what `predict` takes unless it is told another
    number."""
    mimic: bool = True
    """Whether `predict` moves its doses towards what the beams can deliver, unless it is told."""


class Any2Any(nn.Module):
    """Any subset of modalities in, any one out. Volumes are (n, c, d, h, w) in the model's range."""

    file: Path | None = None
    """The checkpoint that it was loaded from; None for a model made in memory."""

    @property
    def named(self) -> str:
        """What a message calls it."""
        return f"the model {self.file.name if self.file else 'in memory'}"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.table = modality.table(Vocabulary(config.organs))
        """The modalities as this model draws them, by name."""
        self.trained_for = config.modalities
        """The modalities that it was trained to give; a loaded one has those of its training."""
        self.was_trained = False
        """Whether it has been trained on patients."""
        self.codec = make_codec(config.codec)
        if config.organs_as not in FORMS:
            raise ValueError(f"organs_as {config.organs_as!r}: one of {', '.join(FORMS)} is accepted")
        per_channel = self.codec.latent_channels
        channels = {name: self.channels(name) * per_channel for name in config.modalities}
        if config.predicts not in flow.CONVENTIONS:
            known = ", ".join(flow.CONVENTIONS)
            raise ValueError(f"predicts {config.predicts!r}: one of {known} is accepted")
        if config.plates not in PLATES:
            raise ValueError(f"plates {config.plates!r}: one of {', '.join(PLATES)} is accepted")
        self.backbone: Backbone = config.backbone.build(channels, self.codec)

    def as_trained(self, options: Options) -> Options:
        """The options with what they leave open as this model was trained for."""
        return filled_in(options, self.config.sampling_steps, self.config.mimic)

    def must_give(self, target: str) -> None:
        """Raises ValueError for a modality that the model does not know or was not trained to give."""
        if target not in self.config.modalities:
            raise ValueError(f"modality {target!r}: one of {', '.join(self.config.modalities)} is accepted")
        if target not in self.trained_for:
            known = ", ".join(self.trained_for) or "nothing yet"
            raise ValueError(f"{self.named} was trained to give {known}; not {target}")

    def must_know(self, organs: tuple[str, ...]) -> None:
        """Raises ValueError for organs, of a drawn case, that are not the model's own."""
        if organs != self.config.organs:
            raise ValueError(
                f"{self.named} knows {Vocabulary(self.config.organs)}, the case was drawn with "
                f"{Vocabulary(organs)}; one vocabulary for both is accepted"
            )

    def on(self, device: torch.device) -> Any2Any:
        """The model itself, moved to `device`, with the weights of 3D convolutions in the format that is
        fastest there (those in a plane have no such format)."""
        for layer in self.to(device).modules():
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return self

    def adopt(self, config: ModelConfig) -> None:
        """Go on with the settings of `config` that any weights fit: those of the backbone (`Backbone.adopt`),
        and `keep_laterality`, which stays once it is there."""
        self.backbone.adopt(config.backbone)
        keep = self.config.keep_laterality or config.keep_laterality
        self.config = replace(self.config, keep_laterality=keep, backbone=self.backbone.config)

    def saw(self, cohort_mm: Sequence[Sequence[float]], zoom: float = 0.0) -> None:
        """Record the spacings of the cases that training begins with, in mm along (x, y, z), and what a zoom
        of that share makes of them. They stand beside those of an earlier training, and in the place of the
        default of a model that had none."""
        spacings = np.asarray(cohort_mm, dtype=float)
        lowest = spacings.min(axis=0) / (1 + zoom) * (1 - SLACK)
        highest = spacings.max(axis=0) / (1 - zoom) * (1 + SLACK)
        ends = zip(lowest.tolist(), highest.tolist(), strict=True)
        seen = [(round(low, 3), round(high, 3)) for low, high in ends]
        if self.was_trained:
            seen = [_both(now, before) for now, before in zip(seen, self.config.trained_mm, strict=True)]
        x, y, z = (round(float(v), 3) for v in np.median(spacings, axis=0))
        self.config = replace(self.config, trained_mm=tuple(seen), working_mm=(x, y, z))

    def sampled(self, steps: int, mimic: bool) -> None:
        """Record how doses of the model in training are to be made."""
        self.config = replace(self.config, sampling_steps=steps, mimic=mimic)

    def unswapped_when_mirrored(self, target: str) -> tuple[str, ...]:
        """The conditions whose channels stay what they are in a mirror image (`augment.flipped`)."""
        return ("oar",) if self.config.keep_laterality and target != "oar" else ()

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Volume sizes must be multiples of this, along (z, y, x)."""
        steps = zip(strides(self.codec), edges(self.backbone.config.multiple), strict=True)
        d, h, w = (stride * patch for stride, patch in steps)
        return d, h, w

    def latent_shape(self, name: str, space: Sequence[int]) -> tuple[int, ...]:
        """Shape (1, c, d, h, w) of the latent of one modality over a volume of `space` voxels."""
        d, h, w = (n // s for n, s in zip(space, strides(self.codec), strict=True))
        return (1, self.channels(name) * self.codec.latent_channels, d + lead(self.codec), h, w)

    def channels(self, name: str) -> int:
        """How many volumes of one modality pass the codec."""
        return 1 if self._as_levels(name) else self.table[name].channels

    def _as_levels(self, name: str) -> bool:
        return name == "oar" and self.config.organs_as == "levels"

    def seen(self, name: str, volume: Tensor) -> Tensor:
        """A modality as it is drawn (..., c, d, h, w) in the form that passes the codec."""
        return levels_of(volume) if self._as_levels(name) else volume

    def encode(self, name: str, volume: Tensor) -> Tensor:
        """The latent of one modality as it is drawn, (n, c, d, h, w)."""
        return self.codec.encode(self.seen(name, volume))

    def decode(self, name: str, latent: Tensor) -> Tensor:
        """The modality (n, c, d, h, w), as it would be drawn, that a latent stands for."""
        volume = self.codec.decode(latent)
        return channels_of(volume, len(self.config.organs)) if self._as_levels(name) else volume

    def latent_body(self, body: Tensor) -> Tensor:
        """The body mask (n, d, h, w) on the latent grid (n, 1, ...): a block counts if any of its voxels
        does."""
        return on_latent_grid(self.codec, body)

    def region(self, body: Tensor, target: str) -> Tensor:
        """The part of the latent grid (n, 1, d, h, w) that the network predicts."""
        return self.backbone.region(body, target)

    @property
    def blind_at_one(self) -> bool:
        """Whether v at t = 1 does not depend on the noise, so that one evaluation serves any number of
        samples."""
        return self.backbone.blind_at_one

    def background(self, target: str, space: Sequence[int], rx_max_gy: float) -> Tensor:
        """The latent (1, c, d, h, w) of a target where there is no patient, over a volume of `space`
        voxels."""
        value = self.table[target].background(rx_max_gy)
        device = next(self.parameters()).device
        return self.codec.encode(torch.full((1, self.channels(target), *space), value, device=device))

    def velocity(
        self,
        noisy: Tensor,
        t: Tensor,
        target: str,
        given: Mapping[str, Tensor],
        spacing_mm: Tensor,
        body: Tensor,
    ) -> Tensor:
        """v of the target's latent `noisy` at times t (n,), given the clean latents of the visible
        modalities; spacing_mm (n, 3) of the voxels, body (n, 1, d, h, w) on the latent grid."""
        for name in (target, *given):
            if name not in self.config.modalities:
                raise ValueError(f"modality {name!r}: this model knows {', '.join(self.config.modalities)}")
        if self.config.plates != "all" and "beam" in given:
            given = {**given, "beam": _seen_plates(given["beam"], self.config.plates)}
        clean, sign = torch.zeros_like(t), flow.CONVENTIONS[self.config.predicts]
        seen, when = (flow.into_flow(noisy, t), flow.flow_time(t)) if sign else (noisy, t)
        times = {name: clean for name in given if name != target} | {target: when}
        out = self.backbone({**given, target: seen}, times, target, spacing_mm, body)
        return flow.velocity_from_flow(sign * out.float(), noisy, t) if sign else out


def _both(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The range (low, high) that holds two."""
    return min(a[0], b[0]), max(a[1], b[1])


def _seen_plates(beam: Tensor, plates: str) -> Tensor:
    """The latent (n, channels * c, d, h, w) of the beam modality with one plate in its first channel (of
    PLATES; the mean is exact for voxel patches) and zeros, as of an absent modality, in the others."""
    each = beam.unflatten(1, (modality.TABLE["beam"].channels, -1))
    out = torch.zeros_like(each)
    out[:, 0] = each[:, 0] if plates == "plain" else each[:, 1:].mean(dim=1)
    return out.flatten(1, 2)


def pick_device(name: str) -> torch.device:
    """'auto' (CUDA if there is one), 'cpu', 'cuda' or 'cuda:N'; ValueError if it is not there."""
    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{k}" for k in range(count))]
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name not in known:
        raise ValueError(f"device {name!r}: auto, {', '.join(known)} are accepted on this machine")
    return torch.device(name)


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """A ModelConfig from its `asdict` form, also one of an earlier version; ValueError for a key this version
    does not know."""
    values = present_config(values)
    settings = dict(values["backbone"])
    kind = config_class(settings.get("kind", ""))
    unknown = set(settings) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"backbone setting {sorted(unknown)[0]!r} is not known to this version")
    if kind is UNetConfig:
        settings.setdefault("sparse", False)
    backbone = kind(**{k: tuples(v) for k, v in settings.items()})
    others = {k: tuples(v) for k, v in values.items() if k != "backbone"}
    unknown = set(others) - {f.name for f in fields(ModelConfig)}
    if unknown:
        raise ValueError(f"model setting {sorted(unknown)[0]!r} is not known to this version")
    return ModelConfig(backbone, **others)


def tuples(value: Any) -> Any:
    """JSON's lists back as the tuples that configs hold."""
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value
