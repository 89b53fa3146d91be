"""The convolutional backbone: every modality is a slot of input channels, any slot can be the target. Its
activations are rows, one for each latent voxel that holds body (rows.py).

The same interface as dit.py: {modality: latent}, {modality: t} and the target's name in, v of the target out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.diffusion.path import alpha_sigma, velocity_of_estimate
from anydose.model.codec.codec import Codec, is_voxelwise, strides
from anydose.model.network.backbone import VoxelNetwork
from anydose.model.network.beams_eye_view import Rays, open_beams, ray_numbers
from anydose.model.network.body_voxels import Level, double, halve, pointwise, put, pyramid, take
from anydose.model.network.layers import ConditionCode, Conv3, ModulatedNorm


@dataclass(frozen=True)
class UNetConfig:
    """widths: channels at each level, each half the resolution of the one before; blocks: residual blocks on
    the way down and up at each level; code: size of the condition code; spread: how far, in model range, a
    target is known from its conditions (0: the read-out is v itself); sparse: compute where there is body and
    nowhere else (as weights without this setting, which are older, were not trained to); rays: channels of an
    exchange along the rays of the beams at the finest level, on the way down and up (rays.py; 0: none)."""

    widths: tuple[int, ...] = (48, 96, 160, 224)
    down_blocks: tuple[int, ...] = (1, 1, 2, 2)
    up_blocks: tuple[int, ...] = (1, 2, 2)
    code: int = 256
    kind: str = "unet"
    spread: float = 0.1
    role_code: bool = True
    visible_code: bool = True
    sparse: bool = True
    rays: int = 0

    @property
    def multiple(self) -> int:
        """Latent sizes must be multiples of this."""
        return 2 ** (len(self.widths) - 1)

    def build(self, channels: Mapping[str, int], codec: Codec) -> UNet:
        """The network. Raises ValueError for `rays` with a codec whose latents are no voxels."""
        if self.rays and not is_voxelwise(codec):
            raise ValueError(f"rays: codec {codec.spec} does not show plates; identity:N does")
        return UNet(self, channels, strides(codec)[0])


class Block(nn.Module):
    """norm-modulate, SiLU, conv, twice, added to the input; starts as the identity."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ModulatedNorm(channels, code) for _ in range(2))
        self.convs = nn.ModuleList(Conv3(channels) for _ in range(2))
        nn.init.zeros_(self.convs[1].weight)

    def forward(self, x: Tensor, code: Tensor, level: Level) -> Tensor:
        """x: rows (l, c) of `level`."""
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(F.silu(norm(h, code, level.counts)), level.near)
        return x + h


class UNet(VoxelNetwork):
    """channels: {modality: latent channels}; stride: voxels along the edge of a latent voxel. Absent slots
    are zero; the code says which are visible and how noisy."""

    adapted = r"backbone\.(down|up)\.\d+\.\d+\.convs\.\d+"

    def __init__(self, config: UNetConfig, channels: Mapping[str, int], stride: int = 1) -> None:
        super().__init__()
        self.config, self.channels, self.stride = config, dict(channels), stride
        widths, levels = config.widths, len(config.widths)
        self.code = ConditionCode(tuple(channels), config.code, config.visible_code, config.role_code)
        self.stem = nn.Conv3d(sum(channels.values()), widths[0], 1)
        self.down = nn.ModuleList(
            _blocks(w, k, config.code) for w, k in zip(widths, config.down_blocks, strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Conv3d(widths[i], widths[i + 1], 2, stride=2) for i in range(levels - 1)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose3d(widths[i + 1], widths[i], 2, stride=2) for i in range(levels - 1)
        )
        self.merge = nn.ModuleList(nn.Conv3d(2 * widths[i], widths[i], 1) for i in range(levels - 1))
        self.up = nn.ModuleList(
            _blocks(widths[i], config.up_blocks[i], config.code) for i in range(levels - 1)
        )
        self.rays = nn.ModuleList()
        self.exchange(config.rays)
        self.last_norm = ModulatedNorm(widths[0], config.code)
        self.read_out = nn.ModuleDict({name: nn.Conv3d(widths[0], c, 1) for name, c in channels.items()})
        for head in self.read_out.values():
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def blind_at_one(self) -> bool:
        """Whether pure noise is weighed with zero (`spread`)."""
        return self.config.spread > 0

    def adopt(self, config: Any) -> None:
        """Take over `sparse`, and `rays` unless they are there."""
        if isinstance(config, UNetConfig):
            self.config = replace(self.config, sparse=config.sparse)
            self.exchange(config.rays)

    def exchange(self, size: int) -> None:
        """Have exchanges along the rays of `size` channels, which start as nothing, unless they are there."""
        if size and not self.rays:
            self.rays = nn.ModuleList(Rays(self.config.widths[0], size) for _ in range(2))
            self.config = replace(self.config, rays=size)

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
        noisy, t = latents[target], times[target]
        if self.config.spread:  # pure noise says nothing: at t = 1 none enters
            latents = {**latents, target: noisy * alpha_sigma(t)[0][:, None, None, None, None]}
        code = self.code(times, target, spacing_mm)
        anywhere = body is None or not self.config.sparse or target == "body"
        where = torch.ones_like(noisy[:, 0]) if anywhere or body is None else body[:, 0]
        levels = pyramid(where > 0, len(self.config.widths))
        x = pointwise(self._slots(latents, levels[0]), self.stem.weight, self.stem.bias)
        beams: tuple[Any, ...] = ()
        if self.rays and "beam" in latents and target != "beam":
            plates = open_beams(latents["beam"], levels[0])
            beams = (plates[:, 1:], *ray_numbers(levels[0], spacing_mm * self.stride, plates[:, 0]))
        skips = []
        for i, blocks in enumerate(self.down):
            for block in blocks:
                x = self.run(block, x, code, levels[i])
            if beams and i == 0:
                x = self.rays[0](x, *beams)
            if i < len(self.shrink):
                skips.append(x)
                x = halve(x, *levels[i : i + 2], self.shrink[i].weight, self.shrink[i].bias)
        for i in reversed(range(len(self.grow))):
            x = double(x, levels[i], self.grow[i].weight, self.grow[i].bias)
            x = pointwise(torch.cat([x, skips[i]], dim=1), self.merge[i].weight, self.merge[i].bias)
            for block in self.up[i]:
                x = self.run(block, x, code, levels[i])
        if beams:
            x = self.rays[1](x, *beams)
        x = F.silu(self.last_norm(x, code, levels[0].counts))
        # in bfloat16 the dose would come in steps of 0.16 Gy
        with torch.autocast(x.device.type, enabled=False):
            head = self.read_out[target]
            out = put(pointwise(x.float(), head.weight, head.bias), levels[0])
        return velocity_of_estimate(out, noisy, t, self.config.spread) if self.config.spread else out

    def _slots(self, latents: Mapping[str, Tensor], level: Level) -> Tensor:
        like = next(iter(latents.values()))
        slots = [
            take(latents[name], level) if name in latents else like.new_zeros(sum(level.counts), c)
            for name, c in self.channels.items()
        ]
        return torch.cat(slots, dim=1)


def _blocks(width: int, count: int, code: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width, code) for _ in range(count))
