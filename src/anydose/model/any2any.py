"""The Any2Any model: a codec and a backbone. Given modalities are clean (t = 0), the wanted one starts as
noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.case import modality
from anydose.model.codec import Codec, IdentityCodec
from anydose.model.compact import CompactCodec
from anydose.model.dit import DiT, DiTConfig
from anydose.model.tokens import kept_blocks
from anydose.model.unet import UNet, UNetConfig

BACKBONES = {"unet": UNetConfig, "dit": DiTConfig}


@dataclass(frozen=True)
class ModelConfig:
    """backbone: its config; codec: 'identity:N' or 'compact:N'; modalities: the slots, in order."""

    backbone: UNetConfig | DiTConfig = field(default_factory=UNetConfig)
    codec: str = "identity:2"
    modalities: tuple[str, ...] = modality.NAMES


def make_codec(spec: str) -> Codec:
    """The codec of a spec, a learned one still without its weights: 'identity:N' (N^3 voxel patches) or
    'compact:N' (N latent channels). ValueError for an unknown one."""
    kind, _, number = spec.partition(":")
    if number.isdigit() and int(number) > 0:
        if kind == "identity":
            return IdentityCodec(int(number))
        if kind == "compact":
            return CompactCodec(int(number)).requires_grad_(False)
    raise ValueError(f"codec {spec!r}: identity:N or compact:N is accepted")


class Any2Any(nn.Module):
    """Any subset of modalities in, any one out. Volumes are (n, c, d, h, w) in the model's range."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = make_codec(config.codec)
        per_channel = self.codec.latent_channels
        channels = {name: modality.TABLE[name].channels * per_channel for name in config.modalities}
        self.backbone: UNet | DiT
        if isinstance(config.backbone, DiTConfig):
            self.backbone = DiT(config.backbone, channels, self.codec.stride)
        else:
            self.backbone = UNet(config.backbone, channels)

    @property
    def multiple(self) -> int:
        """Volume sizes must be multiples of this."""
        return self.codec.stride * self.backbone.config.multiple

    def latent_shape(self, name: str, space: Sequence[int]) -> tuple[int, ...]:
        """Shape (1, c, d, h, w) of the latent of one modality over a volume of `space` voxels."""
        d, h, w = (n // self.codec.stride for n in space)
        return (1, modality.TABLE[name].channels * self.codec.latent_channels, d, h, w)

    def latent_body(self, body: Tensor) -> Tensor:
        """The body mask (n, d, h, w) on the latent grid (n, 1, ...): a block counts if any of its voxels
        does."""
        return F.max_pool3d(body[:, None].float(), self.codec.stride) > 0

    def region(self, body: Tensor, target: str) -> Tensor:
        """The part of the latent grid (n, 1, d, h, w) that the network predicts: the body for a convolutional
        backbone, every token that touches it for the transformer, everything where the body itself is
        wanted."""
        if isinstance(self.backbone, UNet):
            return torch.ones_like(body) if target == "body" else body
        p = self.backbone.patch[target]
        blocks = kept_blocks(body, p).float()
        return F.interpolate(blocks, scale_factor=p, mode="nearest") > 0

    def air(self, target: str, space: Sequence[int], reference_gy: float) -> Tensor:
        """The latent (1, c, d, h, w) of a target where there is no patient, over a volume of `space`
        voxels."""
        row = modality.TABLE[target]
        value = row.background(reference_gy if row.by_reference else 1.0)
        device = next(self.backbone.parameters()).device
        return self.codec.encode(torch.full((1, row.channels, *space), value, device=device))

    def velocity(
        self,
        noisy: Tensor,
        t: Tensor,
        target: str,
        given: Mapping[str, Tensor],
        spacing_mm: Tensor,
        body: Tensor,
    ) -> Tensor:
        """V of the target's latent `noisy` at times t (n,), given the clean latents of the visible
        modalities; spacing_mm (n, 3) of the voxels, body (n, 1, d, h, w) on the latent grid."""
        for name in (target, *given):
            if name not in self.config.modalities:
                raise ValueError(f"modality {name!r}: this model knows {', '.join(self.config.modalities)}")
        clean = torch.zeros_like(t)
        times = {name: clean for name in given if name != target} | {target: t}
        return self.backbone({**given, target: noisy}, times, target, spacing_mm, body)


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
    """A ModelConfig from its `asdict` form; ValueError for a key this version does not know."""
    settings = dict(values["backbone"])
    kind = BACKBONES.get(settings.get("kind", ""))
    if kind is None:
        raise ValueError(f"backbone {settings.get('kind')!r}: one of {', '.join(BACKBONES)} is accepted")
    unknown = set(settings) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"backbone setting {sorted(unknown)[0]!r} is not known to this version")
    backbone = kind(**{k: _tuples(v) for k, v in settings.items()})
    return ModelConfig(backbone, values["codec"], tuple(values["modalities"]))


def _tuples(value: Any) -> Any:
    """JSON's lists back as the tuples that configs hold."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
