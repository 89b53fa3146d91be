"""Codecs: between modality volumes in the model's range and the latents that a backbone sees.

A codec maps (n, c, d, h, w) to (n, c * latent_channels, lead + d / stride, h / stride, w / stride), each
modality channel on its own, and back. d, h and w must be multiples of the stride. `lead`: latent slices in
front that stand for a repeated first slice, as causal video codecs want; else 0."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Stride = int | tuple[int, int, int]


class Codec(Protocol):
    """What a backbone needs of a codec. `spec` rebuilds it from a checkpoint: 'identity:2', 'compact'."""

    spec: str
    latent_channels: int

    @property
    def stride(self) -> Stride:
        """Voxels along a latent voxel's edges."""
        ...

    def encode(self, volume: Tensor) -> Tensor:
        """Volume -> latent."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Latent -> volume."""
        ...


class IdentityCodec:
    """Voxel patches: every stride^3 block of voxels becomes channels; exact in both directions."""

    voxelwise = True

    def __init__(self, stride: int = 2) -> None:
        self.stride = stride
        self.latent_channels = stride**3
        self.spec = f"identity:{stride}"

    def encode(self, volume: Tensor) -> Tensor:
        """(n, c, d, h, w) -> (n, c s^3, d/s, h/s, w/s)."""
        s = self.stride
        return rearrange(volume, "n c (d i) (h j) (w k) -> n (c i j k) d h w", i=s, j=s, k=s)

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse of `encode`."""
        s = self.stride
        return rearrange(latent, "n (c i j k) d h w -> n c (d i) (h j) (w k)", i=s, j=s, k=s)


def strides(codec: Codec) -> tuple[int, int, int]:
    """Voxels along the edges (z, y, x) of a codec's latent voxel."""
    return (codec.stride,) * 3 if isinstance(codec.stride, int) else codec.stride


def lead(codec: Codec) -> int:
    """Latent slices in front that hold only a copy of the first slice."""
    return getattr(codec, "lead", 0)


def different(channels: Tensor) -> tuple[list[int], list[int]]:
    """Which of `channels` (m, ...) a slow codec needs to see, and for each of the m which of those stands for
    it: of constant ones (organs that a patient lacks) that are equal, the first serves for all."""
    if len(channels) == 1:
        return [0], [0]
    low, high = (torch.stack(ends).tolist() for ends in zip(*map(torch.aminmax, channels), strict=True))
    first: dict[tuple[float, int], int] = {}
    places: list[int] = []
    shown: list[int] = []
    for number, (least, most) in enumerate(zip(low, high, strict=True)):
        key = (least, -1) if least == most else (least, number)
        if key not in first:
            first[key] = len(shown)
            shown.append(number)
        places.append(first[key])
    return shown, places


def is_voxelwise(codec: Codec) -> bool:
    """Whether every latent channel is a voxel, so that a latent shows what the volume shows."""
    return getattr(codec, "voxelwise", False)


def on_latent_grid(codec: Codec, mask: Tensor) -> Tensor:
    """A mask (n, d, h, w) on the latent grid (n, 1, ...): a latent voxel counts if any of its voxels does."""
    d, h, w = strides(codec)
    front = F.max_pool3d(mask[:, None, :1].float(), (1, h, w))
    whole = F.max_pool3d(mask[:, None].float(), (d, h, w))
    return torch.cat([front] * lead(codec) + [whole], dim=2) > 0
