"""The compact learned codec: 4^3 voxels become 32 numbers, each modality channel on its own, trained on this
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

from anydose.model.codec.codec import IdentityCodec
from anydose.model.tensors import check_finite, load_tensors, save_tensors

STRIDE = 4
FORMAT = "anydose-codec-1"


class CompactCodec(nn.Module):
    """Principal axes of 4^3 blocks, and on both sides a convolutional residual that sees the neighbours.

    The linear part starts as the principal component analysis of the training volumes (`start_from`), the
    residuals start at zero: training can only improve on the linear codec."""

    def __init__(self, latent_channels: int = 32, encoder: int = 48, decoder: int = 96) -> None:
        super().__init__()
        z, block = latent_channels, STRIDE**3
        self.spec, self.stride, self.latent_channels = f"compact:{z}", STRIDE, z
        self.settings = {"latent_channels": z, "encoder": encoder, "decoder": decoder}
        self.patches = IdentityCodec(STRIDE)
        self.analysis, self.synthesis = nn.Conv3d(block, z, 1), nn.Conv3d(z, block, 1)
        look = [nn.Conv3d(block, encoder, 1), nn.Conv3d(encoder, z, 3)]
        mend = [nn.Conv3d(z, decoder, 3), nn.Conv3d(decoder, decoder, 3), nn.Conv3d(decoder, block, 1)]
        for last in (look[-1], mend[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        self.look, self.mend = nn.ModuleList(look), nn.ModuleList(mend)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(z))

    @torch.no_grad()
    def start_from(self, mean: Tensor, axes: Tensor, scale: Tensor) -> None:
        """Set the linear part: block mean (64,), orthonormal axes (64, z) and the latents' standard deviation
        (z,)."""
        assert self.analysis.bias is not None and self.synthesis.bias is not None
        self.analysis.weight.copy_(axes.T[..., None, None, None])
        self.analysis.bias.copy_(-axes.T @ mean)
        self.synthesis.weight.copy_(axes[..., None, None, None])
        self.synthesis.bias.copy_(mean)
        self.scale.copy_(scale)

    def encode(self, volume: Tensor) -> Tensor:
        """(n, c, d, h, w) -> (n, c z, d/4, h/4, w/4), about unit variance for doses."""
        x = self.patches.encode(rearrange(volume, "n c d h w -> (n c) 1 d h w"))
        first, last = self.look
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would cost as much as the codec itself
            linear = self.analysis(x.float())
        latent: Tensor = (linear + edge(last, F.silu(first(x)))) / self.scale[:, None, None, None]
        return rearrange(latent, "(n c) z d h w -> n (c z) d h w", n=len(volume))

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse, up to the codec's own error (`anydose codec-check`)."""
        z = rearrange(latent, "n (c z) d h w -> (n c) z d h w", z=self.latent_channels)
        first, second, last = self.mend
        residual = last(F.silu(edge(second, F.silu(edge(first, z)))))
        with torch.autocast(z.device.type, enabled=False):
            blocks = self.synthesis(z.float() * self.scale[:, None, None, None]) + residual.float()
        return rearrange(self.patches.decode(blocks), "(n c) 1 d h w -> n c d h w", n=len(latent))


def edge(conv: nn.Module, x: Tensor) -> Tensor:
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
    check_finite(path, weights)
    try:
        model = CompactCodec(**json.loads(meta["settings"]))
        model.load_state_dict(weights, strict=True)
    except (KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return model.eval().requires_grad_(False)
