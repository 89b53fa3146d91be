"""Wan 2.1's video VAE (diffusers' AutoencoderKLWan) as a codec: 4 x 8 x 8 voxels become 16 numbers.

It is causal in depth: slice 0 alone becomes the first latent, every four after it one more, so it wants
4k + 1 slices and silently drops what is over (Wan-Video/Wan2.1#448). Slices are therefore repeated in front
and cut off again. Its decoder clamps to [-1, 1]: volumes go in scaled by HEADROOM, so that a dose may exceed
the top of its range by a tenth. Frozen, and always its posterior mean."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from anydose.model.codec.codec import different
from anydose.model.prior.wan import WanConfig
from anydose.model.shards import Shards

HEADROOM = 0.9
ONE_AT_A_TIME = Lock()  # the VAE keeps the slices before in itself while it works
CONFIG: dict[str, Any] = {  # what every Wan 2.1 VAE has; base_dim, z_dim and the latents' statistics vary
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}


class WanCodec(nn.Module):
    """latent_channels: of the VAE (16); base: width of its first level (96)."""

    def __init__(self, latent_channels: int = 16, base: int = 96) -> None:
        super().__init__()
        self.latent_channels, self.stride, self.lead = latent_channels, (4, 8, 8), 1
        self.spec = f"wan:{latent_channels}" + (f":{base}" if base != 96 else "")
        self.vae: Any = autoencoder(latent_channels, base)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    def encode(self, volume: Tensor) -> Tensor:
        """(n, c, d, h, w) -> (n, c z, ceil((d - 1) / 4) + 1, h/8, w/8), normalised as Wan does. ValueError
        where h or w are no multiples of 8: the VAE would cut them."""
        n, _, _, h, w = volume.shape
        if h % 8 or w % 8:
            raise ValueError(f"volume of {h} x {w} voxels in plane; multiples of 8 are needed by the Wan VAE")
        frames = with_copies(rearrange(volume, "n c d h w -> (n c) 1 d h w")) * HEADROOM
        dtype = self.vae.encoder.conv_in.weight.dtype
        shown, places = different(frames)
        rgb = repeat(frames[shown].to(dtype), "m 1 t h w -> m 3 t h w")
        with ONE_AT_A_TIME:
            z = torch.cat([self.vae.encode(one[None]).latent_dist.mode() for one in rgb]).float()
        z = ((z - _wide(self.mean)) / _wide(self.std))[places]
        return rearrange(z, "(n c) z t h w -> n (c z) t h w", n=n)

    def decode(self, latent: Tensor, depth: int = 0) -> Tensor:
        """Latent -> (n, c, depth, h, w); without `depth` all but the one slice that was repeated. In
        float32."""
        z = rearrange(latent.float(), "n (c z) t h w -> (n c) z t h w", z=self.latent_channels)
        z = z * _wide(self.std) + _wide(self.mean)
        dtype = self.vae.encoder.conv_in.weight.dtype
        with ONE_AT_A_TIME:
            frames = torch.cat([self.vae.decode(one[None].to(dtype)).sample for one in z]).float()
        volume = frames.mean(dim=1, keepdim=True)[:, :, -(depth or frames.shape[2] - 1) :] / HEADROOM
        return rearrange(volume, "(n c) 1 d h w -> n c d h w", n=len(latent))


def with_copies(frames: Tensor) -> Tensor:
    """(n, c, d, h, w) with copies of its first slice in front: one where d is a multiple of 4, and else as
    many as make 4k + 1."""
    copies = (1 - frames.shape[2]) % 4
    return torch.cat([frames[:, :, :1]] * copies + [frames], dim=2)


def autoencoder(latent_channels: int, base: int) -> nn.Module:
    """Diffusers' AutoencoderKLWan of Wan 2.1's form, tiled beyond 256 voxels in plane. ValueError without
    diffusers."""
    try:
        from diffusers import AutoencoderKLWan
    except ImportError as error:
        raise ValueError("the Wan VAE needs diffusers: pip install 'anydose[priors]'") from error
    zeros, ones = [0.0] * latent_channels, [1.0] * latent_channels
    settings = {**CONFIG, "base_dim": base, "z_dim": latent_channels}
    build: Any = AutoencoderKLWan  # untyped
    vae: nn.Module = build(**settings, latents_mean=zeros, latents_std=ones)
    vae.enable_tiling()  # type: ignore[operator]
    return vae


def transformer(config: WanConfig) -> nn.Module:
    """Diffusers' WanTransformer3DModel of these sizes, weights at random: the reference that ours is held
    to, and what tiny priors are trained as. ValueError without diffusers."""
    try:
        from diffusers import WanTransformer3DModel
    except ImportError as error:
        raise ValueError("Wan's transformer needs diffusers: pip install 'anydose[priors]'") from error
    build: Any = WanTransformer3DModel  # untyped
    net: nn.Module = build(
        num_attention_heads=config.heads,
        attention_head_dim=config.dim // config.heads,
        in_channels=config.channels,
        out_channels=config.channels,
        text_dim=config.text,
        ffn_dim=config.ffn,
        num_layers=config.blocks,
        freq_dim=config.frequencies,
    )
    return net


def load(folder: Path) -> WanCodec:
    """The codec of a diffusers VAE folder (config.json, diffusion_pytorch_model.safetensors). ValueError for
    another VAE, a missing or a strange tensor, or the original's pickle."""
    place = folder / "vae" if (folder / "vae").is_dir() else folder
    if not (place / "config.json").is_file() or not any(place.glob("*.safetensors")):
        pickle = next(folder.glob("*VAE*.pth"), None)
        what = f"{pickle.name} is a pickle" if pickle else "no VAE found"
        raise ValueError(f"{folder}: {what}; vae/ of Wan2.1-T2V-1.3B-Diffusers (safetensors) is needed")
    config = json.loads((place / "config.json").read_text())
    for key, value in {"_class_name": "AutoencoderKLWan", **CONFIG, "is_residual": False}.items():
        if config.get(key, value) != value:
            raise ValueError(f"{place}: {key} {config[key]} found, {value} is needed (the VAE of Wan 2.1)")
    codec = WanCodec(int(config["z_dim"]), int(config["base_dim"]))
    Shards(place).load_into(codec.vae)
    codec.mean.copy_(torch.tensor(config["latents_mean"]))
    codec.std.copy_(torch.tensor(config["latents_std"]))
    return codec.eval().requires_grad_(False)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]
