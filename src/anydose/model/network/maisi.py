"""MAISI's latent U-Net (MONAI's DiffusionModelUNetMaisi) as an Any2Any backbone.

The noised target enters where MAISI's latent did; every other input starts at zero: the clean latents of the
visible modalities and their presence flags through a second input convolution, the roles through a linear
layer beside the class embedding. So before training the network is MAISI, to the bit. Channel position is the
slot. The same interface as dit.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.diffusion.path import alpha_sigma
from anydose.model.codec.codec import Codec
from anydose.model.codec.maisi import read
from anydose.model.network.backbone import Place, VoxelNetwork, in_turn
from anydose.model.network.layers import with_conv3
from anydose.model.shards import account

CLASSES, CT = 128, 1  # rows of the class embedding, and the one of CT images
DDPM_WARNING = (
    "MAISI ddpm predicts noise on a schedule that ends at alpha 0.012: turned into v its error would grow up "
    "to 84-fold, so its read-out starts anew and only the trunk is transferred; prefer the rflow checkpoint"
)


@dataclass(frozen=True)
class MaisiConfig:
    """The released U-Net. variant: 'rflow' or 'ddpm'; latent: channels of its VAE; region: ddpm's first and
    last body region (0 head and neck, 1 chest, 2 abdomen, 3 pelvis)."""

    variant: str = "rflow"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    attention: tuple[bool, ...] = (False, False, True, True)
    latent: int = 4
    region: tuple[int, int] = (0, 1)
    kind: str = "maisi"

    @property
    def multiple(self) -> int:
        """Latent sizes must be multiples of this (voxels: of 32)."""
        return int(2 ** (len(self.widths) - 1))

    def build(self, channels: Mapping[str, int], codec: Codec) -> MaisiUNet:
        """The network, weights at random."""
        return MaisiUNet(self, channels)


def network(c: MaisiConfig) -> nn.Module:
    """MONAI's network with MAISI's settings, weights at random. ValueError without MONAI."""
    try:
        from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
    except ImportError as error:
        raise ValueError("the MAISI U-Net needs MONAI: pip install 'anydose[priors]'") from error
    rflow = c.variant == "rflow"
    net: nn.Module = DiffusionModelUNetMaisi(
        spatial_dims=3,
        in_channels=c.latent,
        out_channels=c.latent,
        num_channels=c.widths,
        attention_levels=c.attention,
        num_head_channels=[32 * on for on in c.attention],
        num_res_blocks=2,
        include_spacing_input=True,
        resblock_updown=rflow,
        include_fc=rflow,
        num_class_embeds=CLASSES if rflow else None,
        include_top_region_index_input=not rflow,
        include_bottom_region_index_input=not rflow,
    )
    return net


class Inflated(nn.Module):
    """The pretrained input convolution on the first channels, and one from zero on the rest, added."""

    def __init__(self, first: nn.Module, latent: int, more: int, width: int) -> None:
        super().__init__()
        self.first, self.latent = first, latent
        self.more = nn.Conv3d(more, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.more.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, latent + more, d, h, w)."""
        out: Tensor = self.first(x[:, : self.latent]) + self.more(x[:, self.latent :])
        return out


class TargetAndRoles(nn.Module):
    """In the place of MAISI's class embedding: a row for the target, and the roles from zero. Input (n, 1 +
    3 m): the row, and for each modality whether it is absent, a condition or the target."""

    def __init__(self, table: nn.Module | None, modalities: int, size: int) -> None:
        super().__init__()
        self.table = table
        self.roles = nn.Linear(3 * modalities, size, bias=False)
        nn.init.zeros_(self.roles.weight)

    def forward(self, labels: Tensor) -> Tensor:
        """The embedding (n, size)."""
        roles: Tensor = self.roles(labels[:, 1:])
        return roles if self.table is None else roles + self.table(labels[:, 0].long())


class MaisiUNet(VoxelNetwork):
    """channels: {modality: latent channels}, each a multiple of config.latent."""

    adapted = r"backbone\.net\.(down_blocks|middle_block|up_blocks)\..*(conv[12]\.conv|to_[qkv]|out_proj)"

    def __init__(self, config: MaisiConfig, channels: Mapping[str, int]) -> None:
        super().__init__()
        c, self.channels, self.names = config, dict(channels), tuple(channels)
        if c.variant not in ("rflow", "ddpm"):
            raise ValueError(f"MAISI variant {c.variant!r}: rflow or ddpm is accepted")
        self.config, self.widest = c, max(channels.values())
        net: Any = with_conv3(network(c))
        extra = self.widest - c.latent + sum(channels.values()) + len(channels)
        net.conv_in = Inflated(net.conv_in, c.latent, extra, c.widths[0])
        table = net.class_embedding if c.variant == "rflow" else None
        net.class_embedding = TargetAndRoles(table, len(channels), 4 * c.widths[0])
        net.num_class_embeds = CLASSES  # ddpm has none, and would skip the roles
        net.out[2] = nn.Identity()
        self.net: Any = net
        self.heads = nn.ModuleDict(
            {name: nn.Conv3d(c.widths[0], n, 3, padding=1) for name, n in channels.items()}
        )

    def places(self) -> Sequence[Place]:
        """The inflated input convolution and the read-outs."""
        beyond = self.widest - self.config.latent  # channels of the noised target that MAISI does not have
        rest = {"": beyond, **self.channels, "present": len(self.names)}
        found = [Place("net.conv_in.more.weight", 1, in_turn(rest))]
        for name, count in self.channels.items():
            alone = in_turn({name: count})
            found += [Place(f"heads.{name}.{leaf}", 0, alone) for leaf in ("weight", "bias")]
        return found

    def forward(
        self,
        latents: Mapping[str, Tensor],
        times: Mapping[str, Tensor],
        target: str,
        spacing_mm: Tensor,
        body: Tensor | None = None,
    ) -> Tensor:
        """latents: {modality: (n, c, d, h, w)}, the target's noised; times: their t (n,), the target's as
        this network counts it; spacing_mm: (n, 3). Returns the network's own prediction for the target."""
        noisy, t = latents[target], times[target]
        clean = [latents[m] if m in latents and m != target else self._nothing(m, noisy) for m in self.names]
        present = [torch.full_like(noisy[:, :1], m in latents and m != target) for m in self.names]
        y = F.pad(noisy, (0,) * 7 + (self.widest - noisy.shape[1],))
        features = self._trunk(
            torch.cat([y, *clean, *present], dim=1), self._embedding(latents, t, target, spacing_mm)
        )
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would quantise the dose
            out: Tensor = self.heads[target](features.float())
        return out

    def _trunk(self, x: Tensor, embedding: Tensor) -> Tensor:
        """MONAI's forward pass (DiffusionModelUNetMaisi.forward), level by level, so that training can
        compute each again in the backward pass: x (n, inputs, d, h, w) -> (n, widths[0], d, h, w)."""
        net, nothing = self.net, None  # no text
        h = net.conv_in(x)
        skips = [h]
        for level in net.down_blocks:
            h, kept = self.run(level, h, embedding, nothing)
            skips.extend(kept)
        h = self.run(net.middle_block, h, embedding, nothing)
        for level in net.up_blocks:
            count = len(level.resnets)
            h = self.run(level, h, skips[-count:], embedding, nothing)
            del skips[-count:]
        out: Tensor = net.out(h)
        return out

    def _embedding(self, latents: Mapping[str, Tensor], t: Tensor, target: str, spacing_mm: Tensor) -> Tensor:
        """The code (n, e) of time, target, roles, body region and voxel spacing, as MONAI makes it."""
        noisy = latents[target]
        steps = 1000 * t if self.config.variant == "rflow" else ddpm_step(t)
        labels = self._labels(latents, target).to(noisy).expand(len(noisy), -1)
        regions = self._regions(noisy)
        code = self.net._get_time_and_class_embedding(noisy, steps, labels)
        out: Tensor = self.net._get_input_embeddings(code, *regions, 100 * spacing_mm)
        return out

    def _nothing(self, name: str, like: Tensor) -> Tensor:
        return like.new_zeros(len(like), self.channels[name], *like.shape[2:])

    def _labels(self, latents: Mapping[str, Tensor], target: str) -> Tensor:
        roles = torch.tensor([2 if m == target else int(m in latents) for m in self.names])
        row = torch.tensor([float(target_row(self.names, target))])
        return torch.cat([row, F.one_hot(roles, 3).flatten().float()])

    def _regions(self, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """First and last body region, one-hot (n, 4) times 100; ddpm alone is told them."""
        if self.config.variant == "rflow":
            return None, None
        first, last = 100 * F.one_hot(torch.tensor(self.config.region), 4).to(like)
        return first.expand(len(like), -1), last.expand(len(like), -1)


def target_row(names: tuple[str, ...], target: str) -> int:
    """The row of the class embedding that stands for a target: the last ones, which no image class uses."""
    return CLASSES - len(names) + names.index(target)


def ddpm_step(t: Tensor) -> Tensor:
    """The (fractional) step of MAISI's ddpm schedule, betas from 0.0015 to 0.0195 linear in their roots, at
    which its signal share is the path's a(t)."""
    betas = torch.linspace(math.sqrt(0.0015), math.sqrt(0.0195), 1000, dtype=torch.float64) ** 2
    falling = torch.cumprod(1 - betas, 0).sqrt().to(t.device)
    a = alpha_sigma(t.double())[0].clamp(falling[-1].item(), falling[0].item())
    after = torch.searchsorted(-falling, -a).clamp(1, 999)
    share = (falling[after - 1] - a) / (falling[after - 1] - falling[after])
    return (after - 1 + share).to(t.dtype)


@dataclass(frozen=True)
class MaisiFile:
    """A U-Net checkpoint: its config, weights under MONAI's names, and the VAE's scale factor."""

    config: MaisiConfig
    weights: dict[str, Tensor]
    scale: float


def load(path: Path) -> MaisiFile:
    """Read `diff_unet_3d_rflow-ct.pt`, `..._ddpm-ct.pt` or their safetensors. ValueError for another network,
    a missing or strange tensor, or a file without its scale factor."""
    found = read(path)
    weights = {k: v.float() for k, v in found.items() if isinstance(v, Tensor) and "." in k}
    first = weights.get("conv_in.conv.weight")
    if first is None or "spacing_layer.0.weight" not in weights:
        raise ValueError(f"{path}: no MAISI U-Net; diff_unet_3d_rflow-ct.pt of NV-Generate-CT is needed")
    if "scale_factor" not in found:
        raise ValueError(f"{path}: no scale_factor in it; the released checkpoint, which holds it, is needed")
    levels = range(1 + max(int(k.split(".")[1]) for k in weights if k.startswith("down_blocks.")))
    config = MaisiConfig(
        variant="rflow" if "class_embedding.weight" in weights else "ddpm",
        widths=tuple(len(weights[f"down_blocks.{i}.resnets.0.conv1.conv.weight"]) for i in levels),
        attention=tuple(any(k.startswith(f"down_blocks.{i}.attentions.") for k in weights) for i in levels),
        latent=first.shape[1],
    )
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in network(config).state_dict().items()}
    account(wanted, {name: tuple(value.shape) for name, value in weights.items()}, str(path))
    return MaisiFile(config, weights, float(found["scale_factor"]))


DROPPED_DDPM = ("out.2.conv.weight", "out.2.conv.bias")


@torch.no_grad()
def load_into(model: MaisiUNet, file: MaisiFile) -> dict[str, tuple[str, ...]]:
    """Put a checkpoint's weights into the backbone: {'used', 'dropped': source names, 'new': ours that start
    at zero or as copies}. Targets' rows of the class embedding start as CT's; read-outs as MAISI's, repeated
    for every channel of a modality, but for ddpm at zero."""
    source, state = file.weights, model.state_dict()
    renamed = {"conv_in.": "net.conv_in.first.", "class_embedding.": "net.class_embedding.table."}
    kept = [name for name in source if name not in DROPPED_DDPM]
    for name in kept:
        prefix = next((p for p in renamed if name.startswith(p)), "")
        state[renamed.get(prefix, "net.") + name.removeprefix(prefix)].copy_(source[name])
    rflow = file.config.variant == "rflow"
    for name, head in model.heads.items():
        for parameter, key in zip(head.parameters(), DROPPED_DDPM, strict=True):
            copies = model.channels[name] // file.config.latent
            parameter.copy_(torch.cat([source[key] * rflow] * copies))
        if rflow:
            row = target_row(model.names, name)
            state["net.class_embedding.table.weight"][row] = source["class_embedding.weight"][CT]
    ours = ("conv_in.more.weight", "roles.weight")
    new = tuple(k for k in state if k.startswith("heads.") or k.endswith(ours))
    used = tuple(source) if rflow else tuple(kept)
    return {"used": used, "dropped": tuple(sorted(set(source) - set(used))), "new": new}
