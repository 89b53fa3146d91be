"""The compact learned codec: 4^3 voxels become 16 numbers, each modality channel on its own, trained on this
project's own volumes. A light convolutional autoencoder; its latents are scaled to unit variance over the
training doses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from anydose.model.codec import IdentityCodec
from anydose.model.tensors import load_tensors, save_tensors

STRIDE = 4
FORMAT = "anydose-codec-1"


class CompactCodec(nn.Module):
    """Encoder: patchify, two convolutions. Decoder: convolution, `depth` residual blocks, un-patchify."""

    def __init__(
        self, latent_channels: int = 16, encoder: int = 48, decoder: int = 96, depth: int = 2
    ) -> None:
        super().__init__()
        self.spec, self.stride, self.latent_channels = "compact", STRIDE, latent_channels
        self.settings = {
            "latent_channels": latent_channels,
            "encoder": encoder,
            "decoder": decoder,
            "depth": depth,
        }
        self.patches = IdentityCodec(STRIDE)
        self.into = nn.Sequential(
            nn.Conv3d(STRIDE**3, encoder, 1), nn.SiLU(), nn.Conv3d(encoder, latent_channels, 3, padding=1)
        )
        self.linear = nn.Conv3d(STRIDE**3, latent_channels, 1)
        self.start = nn.Conv3d(latent_channels, decoder, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv3d(decoder, decoder, 3, padding=1),
                nn.SiLU(),
                nn.Conv3d(decoder, decoder, 1),
            )
            for _ in range(depth)
        )
        self.out = nn.Conv3d(decoder, STRIDE**3, 1)
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    def encode(self, volume: Tensor) -> Tensor:
        """(n, c, d, h, w) -> (n, c z, d/4, h/4, w/4), about unit variance for doses."""
        raw = self.raw(rearrange(volume, "n c d h w -> (n c) 1 d h w"))
        latent = (raw - self._wide(self.mean)) / self._wide(self.std)
        return rearrange(latent, "(n c) z d h w -> n (c z) d h w", n=len(volume))

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse, up to the codec's own error (`anydose codec-check`)."""
        z = rearrange(latent, "n (c z) d h w -> (n c) z d h w", z=self.latent_channels)
        volume = self.from_raw(z * self._wide(self.std) + self._wide(self.mean))
        return rearrange(volume, "(n c) 1 d h w -> n c d h w", n=len(latent))

    def raw(self, volume: Tensor) -> Tensor:
        """(n, 1, d, h, w) -> latents (n, z, ...) before they are scaled. Beyond the volume its own edge goes
        on."""
        x = self.patches.encode(volume)
        first, _, last = self.into
        return self.linear(x) + last_valid(last, F.silu(first(x)))

    def from_raw(self, latent: Tensor) -> Tensor:
        """Unscaled latents (n, z, ...) -> (n, 1, d, h, w)."""
        x = last_valid(self.start, latent)
        for act, conv, act2, mix in self.blocks:
            x = x + mix(act2(last_valid(conv, act(x))))
        return self.patches.decode(self.out(F.silu(x)))

    @staticmethod
    def _wide(values: Tensor) -> Tensor:
        return values[:, None, None, None]


def last_valid(conv: nn.Module, x: Tensor) -> Tensor:
    """A 3^3 convolution that repeats the edge instead of padding with zeros, so that air stays air at the
    border."""
    assert isinstance(conv, nn.Conv3d)
    return F.conv3d(F.pad(x, (1,) * 6, mode="replicate"), conv.weight, conv.bias)


def save(model: CompactCodec, path: Path, record: Mapping[str, Any]) -> None:
    """Write the codec's weights and how it was trained."""
    meta = {"format": FORMAT, "settings": json.dumps(model.settings), "record": json.dumps(dict(record))}
    save_tensors(model.state_dict(), path, meta)


def load(path: Path) -> CompactCodec:
    """Read a codec in evaluation mode; ValueError if the file is none or does not fit strictly."""
    weights, meta = load_tensors(path)
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: format {meta.get('format')!r} found, {FORMAT!r} is accepted")
    model = CompactCodec(**json.loads(meta["settings"]))
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error
    return model.eval().requires_grad_(False)
