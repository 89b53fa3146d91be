"""MONAI's networks as backbones, to compare with at the same inputs and budget: DynUNet (nnU-Net's network;
F. Isensee et al., Nature Methods 18, 2021) and MedNeXt (S. Roy et al., MICCAI 2023). They see the same slots
as unet.py and give one target; noise level, role and visible set are not told to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anydose.diffusion.path import alpha_sigma

KINDS = ("dynunet", "mednext")


@dataclass(frozen=True)
class BaselineConfig:
    """kind: one of KINDS; widths: DynUNet's channels a level, MedNeXt's first is doubled at each of its four
    steps down; target: the only modality that it gives."""

    widths: tuple[int, ...] = (48, 96, 160, 224)
    target: str = "dose"
    kind: str = "dynunet"

    @property
    def multiple(self) -> int:
        """Latent sizes must be multiples of this."""
        return 2 ** (len(self.widths) - 1) if self.kind == "dynunet" else 16


class Baseline(nn.Module):
    """channels: {modality: latent channels}; the target's own slot is empty at t = 1, as in unet.py."""

    def __init__(self, config: BaselineConfig, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.config, self.channels = config, dict(channels)
        self.net = _network(config, sum(channels.values()), channels[config.target])

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
        out: Tensor = self.net(torch.cat(slots, dim=1))
        return out.float()


def _network(c: BaselineConfig, inputs: int, outputs: int) -> nn.Module:
    try:
        from monai.networks.nets import DynUNet, MedNeXt
    except ImportError as error:
        raise ValueError(f"backbone {c.kind}: needs monai, pip install 'anydose[priors]'") from error
    if c.kind == "dynunet":
        levels = len(c.widths)
        strides = [1] + [2] * (levels - 1)
        return DynUNet(
            3, inputs, outputs, [3] * levels, strides, strides[1:], filters=c.widths, res_block=True
        )
    shape = {"blocks_down": (1, 1, 2, 2), "blocks_bottleneck": 1, "blocks_up": (2, 2, 1, 1)}
    return MedNeXt(3, c.widths[0], inputs, outputs, kernel_size=3, use_residual_connection=True, **shape)
