"""Layers that both backbones use. Axes: n batch, c channels, d h w space, m modality, e embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anydose.model.network import body_voxels
from anydose.model.network.body_voxels import Level


def sinusoid(t: Tensor, size: int) -> Tensor:
    """[cos, sin] features (..., size) of times t in [0, 1] (scaled by 1000), frequencies 10000^(-i / (size /
    2))."""
    frequency = torch.exp(-math.log(1e4) * torch.arange(size // 2, device=t.device) / (size // 2))
    angle = 1000.0 * t.float().unsqueeze(-1) * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class ConditionCode(nn.Module):
    """The embedding e_t + e_C (n, e): the noise level of every slot, which modalities are visible, which one
    is the target, and the voxel spacing. Switches: `visible_code` (e_C) and `role_code` for the ablations."""

    def __init__(
        self, names: Sequence[str], size: int, visible_code: bool = True, role_code: bool = True
    ) -> None:
        super().__init__()
        self.names, self.features = tuple(names), 64
        self.visible_code, self.role_code = visible_code, role_code
        self.time = nn.Linear(len(self.names) * self.features, size)
        self.state = nn.Linear(2 * len(self.names), size)
        self.spacing = nn.Linear(3, size)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(size, size), nn.SiLU())

    def forward(self, times: Mapping[str, Tensor], target: str, spacing_mm: Tensor) -> Tensor:
        """times: {present modality: (n,)}; spacing_mm: (n, 3)."""
        n, device = len(spacing_mm), spacing_mm.device
        levels = torch.zeros(n, len(self.names), self.features, device=device)
        visible, is_target = torch.zeros(2, n, len(self.names), device=device).unbind()
        for k, name in enumerate(self.names):
            if name in times:
                levels[:, k] = sinusoid(times[name], self.features)
                visible[:, k] = float(self.visible_code)
                is_target[:, k] = float(self.role_code and name == target)
        code = self.time(levels.flatten(1)) + self.state(torch.cat([visible, is_target], dim=1))
        embedding: Tensor = self.out(code + self.spacing(torch.log(spacing_mm / 3.0)))
        return embedding


class Conv3(nn.Conv3d):
    """A 3 x 3 x 3 convolution that keeps the size. On CPUs with AVX-512 the weight gradient of oneDNN's
    bfloat16 kernel is uninitialised memory where the depth is 2 (torch 2.13.0): those run in float32. Takes
    Conv3d's arguments in Conv3d's order, as peft makes a layer's adapters of the layer's own type."""

    def __init__(
        self,
        channels: int,
        out: int = 0,
        kernel: Any = 3,
        stride: Any = 1,
        padding: Any = None,
        bias: bool = True,
        groups: int = 1,
    ) -> None:
        edge = kernel if isinstance(kernel, int) else kernel[0]
        pad = edge // 2 if padding is None else padding
        super().__init__(channels, out or channels, kernel, stride, pad, groups=groups, bias=bias)

    def forward(self, x: Tensor, neighbours: Tensor | None = None) -> Tensor:
        """x: (n, c, d, h, w), or body voxels (l, c) with their `neighbours` (body_voxels.Level)."""
        if neighbours is not None and self.kernel_size[0] == 1:
            return body_voxels.pointwise(x, self.weight, self.bias)
        if neighbours is not None:
            return body_voxels.convolve(x, neighbours, self.weight, self.bias)
        if x.device.type == "cpu" and x.shape[2] == 2:
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def with_conv3(net: nn.Module) -> nn.Module:
    """The same network with a Conv3, of the same weights and names, in the place of every plain Conv3d."""
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Conv3d:
                shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
                ours = Conv3(*shape, layer.padding, layer.bias is not None, layer.groups)
                ours.weight, ours.bias = layer.weight, layer.bias
                setattr(parent, name, ours)
    return net


class Pointwise(nn.Conv3d):
    """A 1 x 1 x 1 convolution of body voxels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(l, c) -> (l, out)."""
        return body_voxels.pointwise(x, self.weight, self.bias)


def zero_read_outs(width: int, channels: Mapping[str, int]) -> nn.ModuleDict:
    """A pointwise layer for each target, all of them zero: {name: width -> channels}."""
    layers = {name: Pointwise(width, c) for name, c in channels.items()}
    for layer in layers.values():
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return nn.ModuleDict(layers)


class Down(nn.Conv3d):
    """A convolution of kernel and stride 2, to a level half as fine."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 2, stride=2)

    def forward(self, x: Tensor, fine: Level, coarse: Level) -> Tensor:  # type: ignore[override]
        """(l of `fine`, c) -> (l of `coarse`, out)."""
        return body_voxels.down(x, fine, coarse, self.weight, self.bias)


class Up(nn.ConvTranspose3d):
    """A transposed convolution of kernel and stride 2, to a level twice as fine."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 2, stride=2)

    def forward(self, x: Tensor, fine: Level) -> Tensor:  # type: ignore[override]
        """(l of the coarser level, c) -> (l of `fine`, out)."""
        return body_voxels.up(x, fine, self.weight, self.bias)


class ModulatedNorm(nn.Module):
    """Group norm over all body voxels of a patient, scaled and shifted by the code; the scale starts at one.
    Unlike a norm over the channels of each voxel it keeps how amplitudes differ between voxels."""

    def __init__(self, channels: int, code: int, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        self.modulation = nn.Linear(code, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, code: Tensor, counts: Sequence[int]) -> Tensor:
        """x: body voxels (l, c), `counts` of each sample; code: (n, e)."""
        change = self.modulation(code).to(x.dtype)
        if len(counts) > 1:
            change = change.repeat_interleave(torch.tensor(counts, device=x.device), dim=0)
        shift, scale = change.chunk(2, dim=1)
        return torch.addcmul(shift, body_voxels.group_norm(x, counts, self.groups), 1 + scale)
