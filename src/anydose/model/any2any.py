"""The Any2Any model: a codec and a backbone. Given modalities are clean (t = 0), the wanted one starts as
noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.case import modality
from anydose.diffusion import flow
from anydose.model.codec.codec import Codec, IdentityCodec, lead, on_latent_grid, strides
from anydose.model.codec.compact import CompactCodec
from anydose.model.codec.maisi import MaisiCodec
from anydose.model.codec.wan import WanCodec
from anydose.model.network.baselines import KINDS, Baseline, BaselineConfig
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.maisi import MaisiConfig, MaisiUNet
from anydose.model.network.tokens import edges, kept_blocks
from anydose.model.network.unet import UNet, UNetConfig

BACKBONES: dict[str, Any] = {
    "unet": UNetConfig,
    "dit": DiTConfig,
    "maisi": MaisiConfig,
    **dict.fromkeys(KINDS, BaselineConfig),
}
CODECS = {"identity": IdentityCodec, "compact": CompactCodec, "wan": WanCodec, "maisi": MaisiCodec}
PLATES = ("all", "plain", "attenuated")  # all ten, the plain mean alone, the mean of the attenuated alone


@dataclass(frozen=True)
class ModelConfig:
    """backbone: its config; codec: as for `make_codec`; modalities: the slots, in order; predicts: what the
    backbone's own convention is (flow.CONVENTIONS): 'v', or a flow prior's 'noise - data' or 'data - noise';
    trained_mm: the spacings (x, y, z) seen in training, lowest and highest; working_mm: the spacing that any
    other case is brought to; sided: in a mirror image the organs that are given keep their names, so that the
    left parotid is told from the right one (the clinic's plans have a side)."""

    backbone: UNetConfig | DiTConfig | MaisiConfig | BaselineConfig = field(default_factory=UNetConfig)
    codec: str = "identity:2"
    modalities: tuple[str, ...] = modality.NAMES
    predicts: str = "v"
    trained_mm: tuple[tuple[float, float], ...] = ((2.7, 5.5), (2.7, 5.5), (1.4, 3.4))
    working_mm: tuple[float, float, float] = (4.2, 4.2, 2.5)
    plates: str = "all"
    sided: bool = False


def make_codec(spec: str) -> Codec:
    """The codec of a spec, a learned one still without its weights: 'identity:N' (N^3 voxel patches),
    'compact:N' (N latent channels), 'wan:Z' or 'wan:Z:BASE' (Z latent channels, BASE the width of its first
    level, 96 in Wan 2.1), 'maisi:Z' or 'maisi:Z:BASE'. ValueError for an unknown one."""
    kind, *numbers = spec.split(":")
    usable = kind in CODECS and numbers and all(n.isdigit() and int(n) > 0 for n in numbers)
    if not usable or len(numbers) > (2 if kind in ("wan", "maisi") else 1):
        raise ValueError(f"codec {spec!r}: identity:N, compact:N, wan:Z[:BASE] or maisi:Z[:BASE] is accepted")
    codec = CODECS[kind](*(int(n) for n in numbers))
    return codec.requires_grad_(False) if isinstance(codec, nn.Module) else codec


class Any2Any(nn.Module):
    """Any subset of modalities in, any one out. Volumes are (n, c, d, h, w) in the model's range."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = make_codec(config.codec)
        per_channel = self.codec.latent_channels
        channels = {name: modality.TABLE[name].channels * per_channel for name in config.modalities}
        self.backbone: UNet | DiT | MaisiUNet | Baseline
        if config.predicts not in flow.CONVENTIONS:
            known = ", ".join(flow.CONVENTIONS)
            raise ValueError(f"predicts {config.predicts!r}: one of {known} is accepted")
        if config.plates not in PLATES:
            raise ValueError(f"plates {config.plates!r}: one of {', '.join(PLATES)} is accepted")
        if isinstance(config.backbone, DiTConfig):
            if lead(self.codec) and config.backbone.multiple[0] > 1:
                raise ValueError(f"codec {config.codec} repeats a slice: patches of depth 1 are needed")
            self.backbone = DiT(config.backbone, channels, self.codec.stride)
        elif isinstance(config.backbone, MaisiConfig):
            self.backbone = MaisiUNet(config.backbone, channels)
        elif isinstance(config.backbone, BaselineConfig):
            self.backbone = Baseline(config.backbone, channels)
        else:
            if config.backbone.rays and not isinstance(self.codec, IdentityCodec):
                raise ValueError(f"rays: codec {config.codec} does not show plates; identity:N does")
            self.backbone = UNet(config.backbone, channels, strides(self.codec)[0])

    def on(self, device: torch.device) -> Any2Any:
        """The model itself, moved to `device`, with the weights of 3D convolutions in the format that is
        fastest there (those in a plane have no such format)."""
        for layer in self.to(device).modules():
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                layer.to(memory_format=torch.channels_last_3d)
        return self

    def adopt(self, config: ModelConfig) -> None:
        """Go on with the settings of `config` that any weights fit: a U-Net's `sparse`, and `sided` and
        `rays`, which stay once they are there."""
        self.config = replace(self.config, sided=self.config.sided or config.sided)
        if isinstance(self.backbone, UNet) and isinstance(config.backbone, UNetConfig):
            self.backbone.config = replace(self.backbone.config, sparse=config.backbone.sparse)
            self.backbone.exchange(config.backbone.rays)
            self.config = replace(self.config, backbone=self.backbone.config)

    def named_in_mirror(self, target: str) -> tuple[str, ...]:
        """The conditions whose channels stay what they are in a mirror image (`sample.flipped`)."""
        return ("oar",) if self.config.sided and target != "oar" else ()

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Volume sizes must be multiples of this, along (z, y, x)."""
        steps = zip(strides(self.codec), edges(self.backbone.config.multiple), strict=True)
        d, h, w = (stride * patch for stride, patch in steps)
        return d, h, w

    def latent_shape(self, name: str, space: Sequence[int]) -> tuple[int, ...]:
        """Shape (1, c, d, h, w) of the latent of one modality over a volume of `space` voxels."""
        d, h, w = (n // s for n, s in zip(space, strides(self.codec), strict=True))
        return (1, modality.TABLE[name].channels * self.codec.latent_channels, d + lead(self.codec), h, w)

    def latent_body(self, body: Tensor) -> Tensor:
        """The body mask (n, d, h, w) on the latent grid (n, 1, ...): a block counts if any of its voxels
        does."""
        return on_latent_grid(self.codec, body)

    def region(self, body: Tensor, target: str) -> Tensor:
        """The part of the latent grid (n, 1, d, h, w) that the network predicts: the body for a convolutional
        backbone, every token that touches it for the transformer, everything where the body itself is
        wanted."""
        if not isinstance(self.backbone, DiT):
            return torch.ones_like(body) if target == "body" else body
        p = self.backbone.patch[target]
        blocks = kept_blocks(body, p).float()
        return F.interpolate(blocks, size=body.shape[2:], mode="nearest") > 0

    @property
    def blind_at_one(self) -> bool:
        """Whether v at t = 1 does not depend on the noise, so that one evaluation serves any number of
        samples."""
        return isinstance(self.backbone, UNet) and self.backbone.config.spread > 0

    def air(self, target: str, space: Sequence[int], rx_max_gy: float) -> Tensor:
        """The latent (1, c, d, h, w) of a target where there is no patient, over a volume of `space`
        voxels."""
        row = modality.TABLE[target]
        value = row.background(rx_max_gy if row.by_reference else 1.0)
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
        if self.config.plates != "all" and "beam" in given:
            given = {**given, "beam": _seen_plates(given["beam"], self.config.plates)}
        clean, sign = torch.zeros_like(t), flow.CONVENTIONS[self.config.predicts]
        seen, when = (flow.into_flow(noisy, t), flow.flow_time(t)) if sign else (noisy, t)
        times = {name: clean for name in given if name != target} | {target: when}
        out = self.backbone({**given, target: seen}, times, target, spacing_mm, body)
        return flow.velocity_from_flow(sign * out.float(), noisy, t) if sign else out


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
    """A ModelConfig from its `asdict` form; ValueError for a key this version does not know."""
    settings = dict(values["backbone"])
    kind = BACKBONES.get(settings.get("kind", ""))
    if kind is None:
        raise ValueError(f"backbone {settings.get('kind')!r}: one of {', '.join(BACKBONES)} is accepted")
    unknown = set(settings) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"backbone setting {sorted(unknown)[0]!r} is not known to this version")
    if kind is UNetConfig:
        settings.setdefault("sparse", False)
    backbone = kind(**{k: _tuples(v) for k, v in settings.items()})
    others = {k: _tuples(v) for k, v in values.items() if k != "backbone"}
    unknown = set(others) - {f.name for f in fields(ModelConfig)}
    if unknown:
        raise ValueError(f"model setting {sorted(unknown)[0]!r} is not known to this version")
    return ModelConfig(backbone, **others)


def _tuples(value: Any) -> Any:
    """JSON's lists back as the tuples that configs hold."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
