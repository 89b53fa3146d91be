"""Codecs: between modality volumes in the model's range and the latents that a backbone sees.

A codec maps (n, c, d, h, w) to (n, c * latent_channels, d / stride, h / stride, w / stride), each modality
channel on its own, and back. d, h and w must be multiples of the stride."""

from __future__ import annotations

from typing import Protocol

from einops import rearrange
from torch import Tensor


class Codec(Protocol):
    """What a backbone needs of a codec. `spec` rebuilds it from a checkpoint: 'identity:2', 'compact'."""

    spec: str
    stride: int
    latent_channels: int

    def encode(self, volume: Tensor) -> Tensor:
        """Volume -> latent."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Latent -> volume."""
        ...


class IdentityCodec:
    """Voxel patches: every stride^3 block of voxels becomes channels; exact in both directions."""

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
