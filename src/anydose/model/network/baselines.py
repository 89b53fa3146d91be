"""MONAI's networks as backbones, to compare with at the same inputs and budget: DynUNet (nnU-Net's network;
F. Isensee et al., Nature Methods 18, 2021), MedNeXt (S. Roy et al., MICCAI 2023) and a cascade of two U-Nets
after C3D (S. Liu et al., Medical Physics 48, 2021). They see the same slots as unet.py and give one target;
noise level, role and visible set are not told to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.diffusion.path import alpha_sigma
from anydose.model.codec.codec import Codec
from anydose.model.network.backbone import VoxelNetwork
from anydose.model.network.layers import with_conv3

KINDS = ("dynunet", "mednext", "c3d")
CASCADE = (64, 128, 208, 288)  # widths of C3D's second U-Net; the first has half of them


@dataclass(frozen=True)
class BaselineConfig:
    """kind: one of KINDS; widths: channels a level of DynUNet and of C3D's second U-Net, MedNeXt's first is
    doubled at each of its four steps down; target: the only modality that it gives."""

    widths: tuple[int, ...] = (48, 96, 160, 224)
    target: str = "dose"
    kind: str = "dynunet"

    @property
    def multiple(self) -> int:
        """Latent sizes must be multiples of this."""
        return 16 if self.kind == "mednext" else 2 ** (len(self.widths) - 1)

    def build(self, channels: Mapping[str, int], codec: Codec) -> Baseline:
        """The network."""
        return Baseline(self, channels)


class Baseline(VoxelNetwork):
    """channels: {modality: latent channels}; the target's own slot is empty at t = 1, as in unet.py."""

    def __init__(self, config: BaselineConfig, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.config, self.channels = config, dict(channels)
        self.net = with_conv3(_network(config, sum(channels.values()), channels[config.target]))

    def forward(
        self,
        latents: Mapping[str, Tensor],
        times: Mapping[str, Tensor],
        target: str,
        spacing_mm: Tensor,
        body: Tensor | None = None,
    ) -> Tensor:
        """The interface of unet.py; ValueError for another target than the configured one."""
        if target != self.config.target:
            raise ValueError(f"target {target!r}: this {self.config.kind} gives {self.config.target} alone")
        like = latents[target]
        n, _, *space = like.shape
        known = alpha_sigma(times[target])[0][:, None, None, None, None]
        latents = {**latents, target: like * known}  # pure noise says nothing: at t = 1 none enters
        slots = [latents.get(name, like.new_zeros(n, c, *space)) for name, c in self.channels.items()]
        x = torch.cat(slots, dim=1)
        if max(space) == self.config.multiple:  # the lowest level would be one voxel, which has no norm
            x = F.pad(x, (0, space[-1]))
        out: Tensor = self.net(x)
        return out[..., : space[-1]].float()


class Cascade(nn.Module):
    """C3D's idea: a small U-Net, and one twice as wide that sees the same inputs and what the first gave. The
    original puts a loss on each of the two outputs (0.5 and 1) and hands over features, at full resolution on
    five levels; here there is one loss, on their sum, so the second corrects the first and both are
    supervised through it, and the dose itself is handed over."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, d, h, w) -> (n, outputs, d, h, w)."""
        coarse = self.first(x)
        out: Tensor = coarse + self.second(torch.cat([x, coarse], dim=1))
        return out


def _network(c: BaselineConfig, inputs: int, outputs: int) -> nn.Module:
    try:
        from monai.networks.nets.dynunet import DynUNet
        from monai.networks.nets.mednext import MedNeXt
    except ImportError as error:
        raise ValueError(f"backbone {c.kind}: needs monai, pip install 'anydose[priors]'") from error

    def unet(widths: tuple[int, ...], inputs: int, residual: bool) -> nn.Module:
        strides = [1] + [2] * (len(widths) - 1)
        kernels = [3] * len(widths)
        net: nn.Module = DynUNet(
            spatial_dims=3,
            in_channels=inputs,
            out_channels=outputs,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=widths,
            res_block=residual,
        )
        return net

    if c.kind == "dynunet":
        return unet(c.widths, inputs, residual=True)
    if c.kind == "c3d":  # plain blocks of convolution, instance norm, activation, as the original's
        half = tuple(w // 2 for w in c.widths)
        return Cascade(unet(half, inputs, residual=False), unet(c.widths, inputs + outputs, residual=False))
    shape: dict[str, Any] = {"blocks_down": (1, 1, 2, 2), "blocks_bottleneck": 1, "blocks_up": (2, 2, 1, 1)}
    mednext: nn.Module = MedNeXt(
        spatial_dims=3,
        init_filters=c.widths[0],
        in_channels=inputs,
        out_channels=outputs,
        kernel_size=3,
        use_residual_connection=True,
        **shape,
    )
    return mednext
