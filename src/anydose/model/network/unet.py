"""The convolutional backbone: every modality is a slot of input channels, any slot can be the target. Its
activations are a matrix with a row for each latent voxel that holds body (body_voxels.py).

The same interface as dit.py: {modality: latent}, {modality: t} and the target's name in, v of the target out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.diffusion.path import alpha_sigma, velocity_of_estimate
from anydose.model.codec.codec import Codec, is_voxelwise, strides
from anydose.model.network.backbone import Place, VoxelNetwork, in_turn
from anydose.model.network.beams_eye_view import Exchange, Rays, rays_of
from anydose.model.network.body_voxels import Level, gather, pyramid, scatter
from anydose.model.network.layers import (
    ConditionCode,
    Conv3,
    Down,
    ModulatedNorm,
    Pointwise,
    Up,
    zero_read_outs,
)


@dataclass(frozen=True)
class UNetConfig:
    """The U-Net's size, and what its conditions are told and where it computes."""

    widths: tuple[int, ...] = (48, 96, 160, 224)
    """Channels at each level, each half the resolution of the one before."""
    down_blocks: tuple[int, ...] = (1, 1, 2, 2)
    """Residual blocks at each level on the way down."""
    up_blocks: tuple[int, ...] = (1, 2, 2)
    """Residual blocks at each level but the coarsest on the way up."""
    code: int = 256
    """Size of the condition code."""
    kind: str = "unet"
    sigma_data: float = 0.1
    """How far, in model range, a target is known from its conditions (sigma_data of Karras et al., arXiv
    2206.00364): the network then estimates the data and noise is weighed in (`path.velocity_of_estimate`); 0:
    the read-out is v itself."""
    role_code: bool = True
    """Ablation: the code says which modality is the target."""
    visible_code: bool = True
    """Ablation: the code says which modalities are visible."""
    sparse: bool = True
    """Compute where there is body and nowhere else. Weights older than this setting were not trained to."""
    bev_exchange: int = 0
    """Channels of the beam's-eye-view exchange at the finest level, on the way down and up
    (beams_eye_view.py); 0: none."""

    @property
    def multiple(self) -> int:
        """Latent sizes must be multiples of this."""
        return int(2 ** (len(self.widths) - 1))

    def build(self, channels: Mapping[str, int], codec: Codec) -> UNet:
        """The network. Raises ValueError for `bev_exchange` with a codec whose latents are no voxels."""
        if self.bev_exchange and not is_voxelwise(codec):
            raise ValueError(f"bev_exchange: codec {codec.spec} does not show plates; identity:N does")
        return UNet(self, channels, strides(codec)[0])


class Block(nn.Module):
    """norm-modulate, SiLU, conv, twice, added to the input; starts as the identity."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ModulatedNorm(channels, code) for _ in range(2))
        first, second = Conv3(channels), Conv3(channels)
        nn.init.zeros_(second.weight)
        self.convs = nn.ModuleList((first, second))

    def forward(self, x: Tensor, code: Tensor, level: Level) -> Tensor:
        """x: body voxels (l, c) of `level`."""
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(F.silu(norm(h, code, level.counts)), level.neighbours)
        return x + h


class UNet(VoxelNetwork):
    """channels: {modality: latent channels}; stride: voxels along the edge of a latent voxel. Absent slots
    are zero; the code says which are visible and how noisy."""

    adapted = r"backbone\.(down|up)\.\d+\.\d+\.convs\.\d+"

    def __init__(self, config: UNetConfig, channels: Mapping[str, int], stride: int = 1) -> None:
        super().__init__()
        self.config, self.channels, self.stride = config, dict(channels), stride
        widths, halvings = config.widths, range(len(config.widths) - 1)
        self.code = ConditionCode(tuple(channels), config.code, config.visible_code, config.role_code)
        self.stem = Pointwise(sum(channels.values()), widths[0])
        self.down = nn.ModuleList(
            _blocks(w, k, config.code) for w, k in zip(widths, config.down_blocks, strict=True)
        )
        self.shrink = nn.ModuleList(Down(widths[i], widths[i + 1]) for i in halvings)
        self.grow = nn.ModuleList(Up(widths[i + 1], widths[i]) for i in halvings)
        self.merge = nn.ModuleList(Pointwise(2 * widths[i], widths[i]) for i in halvings)
        self.up = nn.ModuleList(_blocks(widths[i], config.up_blocks[i], config.code) for i in halvings)
        self.bev_exchange = nn.ModuleList()
        self.add_exchange(config.bev_exchange)
        self.last_norm = ModulatedNorm(widths[0], config.code)
        self.read_out = zero_read_outs(widths[0], channels)

    @property
    def blind_at_one(self) -> bool:
        """Whether pure noise is weighed with zero (`sigma_data`)."""
        return self.config.sigma_data > 0

    def adopt(self, config: Any) -> None:
        """Take over `sparse`, and `bev_exchange` unless it is there."""
        if isinstance(config, UNetConfig):
            self.config = replace(self.config, sparse=config.sparse)
            self.add_exchange(config.bev_exchange)

    def add_exchange(self, size: int) -> None:
        """Have beam's-eye-view exchanges of `size` channels, which start as nothing, unless they are
        there."""
        if size and not self.bev_exchange:
            self.bev_exchange = nn.ModuleList(Exchange(self.config.widths[0], size) for _ in range(2))
            self.config = replace(self.config, bev_exchange=size)

    def forward(
        self,
        latents: Mapping[str, Tensor],
        times: Mapping[str, Tensor],
        target: str,
        spacing_mm: Tensor,
        body: Tensor | None = None,
    ) -> Tensor:
        """latents: {modality: (n, c, d, h, w)}, the target's among them, noised; times: their t (n,), 0 for
        conditions; spacing_mm: (n, 3) of the voxels; body (n, 1, d, h, w): where to compute, everywhere
        without it or where the body is wanted. Returns v of the target (n, c, d, h, w)."""
        code = self.code(times, target, spacing_mm)
        levels = pyramid(self._where(latents[target], target, body), len(self.config.widths))
        rays = self._rays(latents, target, levels[0], spacing_mm)
        x = self.stem(self._slots(latents, target, times[target], levels[0]))
        skips = []
        for i, level in enumerate(levels):
            x = self._residual(self.down[i], x, code, level)
            if i == 0 and rays:
                x = self.bev_exchange[0](x, rays)
            if i < len(self.shrink):
                skips.append(x)
                x = self.shrink[i](x, level, levels[i + 1])
        for i in reversed(range(len(self.grow))):
            x = self.grow[i](x, levels[i])
            x = self.merge[i](torch.cat([x, skips[i]], dim=1))
            x = self._residual(self.up[i], x, code, levels[i])
        if rays:
            x = self.bev_exchange[1](x, rays)
        x = F.silu(self.last_norm(x, code, levels[0].counts))
        return self._velocity(x, latents[target], times[target], target, levels[0])

    def places(self) -> Sequence[Place]:
        """The stem and the read-outs."""
        return (Place("stem.weight", 1, in_turn(self.channels)), *self._read_outs())

    def _read_outs(self) -> Iterator[Place]:
        for name, count in self.channels.items():
            for leaf in ("weight", "bias"):
                yield Place(f"read_out.{name}.{leaf}", 0, in_turn({name: count}))

    def _where(self, noisy: Tensor, target: str, body: Tensor | None) -> Tensor:
        """Which voxels (n, d, h, w) to compute."""
        if body is None or not self.config.sparse or target == "body":
            return torch.ones_like(noisy[:, 0]) > 0
        return body[:, 0] > 0

    def _rays(
        self, latents: Mapping[str, Tensor], target: str, level: Level, spacing_mm: Tensor
    ) -> Rays | None:
        """The rays of the beams that are given; None without an exchange along them."""
        if not self.bev_exchange or target == "beam" or "beam" not in latents:
            return None
        return rays_of(latents["beam"], level, spacing_mm * self.stride)

    def _slots(self, latents: Mapping[str, Tensor], target: str, t: Tensor, level: Level) -> Tensor:
        """All slots side by side (l, channels). With `sigma_data`, pure noise says nothing: at t = 1 none of
        it enters."""
        if self.config.sigma_data:
            share = alpha_sigma(t)[0][:, None, None, None, None]
            latents = {**latents, target: latents[target] * share}
        like = latents[target]
        slots = [
            gather(latents[name], level) if name in latents else like.new_zeros(sum(level.counts), c)
            for name, c in self.channels.items()
        ]
        return torch.cat(slots, dim=1)

    def _residual(self, blocks: Any, x: Tensor, code: Tensor, level: Level) -> Tensor:
        for block in blocks:
            x = self.run(block, x, code, level)
        return x

    def _velocity(self, x: Tensor, noisy: Tensor, t: Tensor, target: str, level: Level) -> Tensor:
        """v (n, c, d, h, w) from the last features."""
        # in bfloat16 the dose would come in steps of 0.16 Gy
        with torch.autocast(x.device.type, enabled=False):
            out = scatter(self.read_out[target](x.float()), level)
        sigma_data = self.config.sigma_data
        return velocity_of_estimate(out, noisy, t, sigma_data) if sigma_data else out


def _blocks(width: int, count: int, code: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width, code) for _ in range(count))
