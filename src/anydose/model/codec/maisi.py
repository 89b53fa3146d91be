"""MAISI's CT VAE (MONAI's AutoencoderKlMaisi) as a codec: 4 x 4 x 4 voxels become 4 numbers. Frozen, and
always its posterior mean: sampling it would add noise that no regression can undo
(NVIDIA-Medtech/NV-Generate-CTMR#45)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from anydose.model.codec.codec import different
from anydose.model.shards import account
from anydose.model.tensors import load_tensors


class MaisiCodec(nn.Module):
    """latent_channels: of the VAE (4); base: width of its first level (64). `scale`: the checkpoint's scale
    factor, one over the standard deviation of the latents that its diffusion model saw."""

    def __init__(self, latent_channels: int = 4, base: int = 64) -> None:
        super().__init__()
        self.latent_channels, self.stride, self.lead = latent_channels, 4, 0
        self.spec = f"maisi:{latent_channels}" + (f":{base}" if base != 64 else "")
        self.vae: Any = autoencoder(latent_channels, base)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def encode(self, volume: Tensor) -> Tensor:
        """(n, c, d, h, w) in [-1, 1] (CT: -1000 to 1000 HU) -> (n, c z, d/4, h/4, w/4). ValueError for sizes
        that are no multiples of 4: the VAE would cut them."""
        n, _, *space = volume.shape
        if any(size % 4 for size in space):
            raise ValueError(f"volume of {space} voxels; multiples of 4 are needed by the MAISI VAE")
        one = rearrange(volume, "n c d h w -> (n c) 1 1 d h w")
        shown, places = different(one)
        z = (torch.cat([self.vae.encode((v + 1) / 2)[0] for v in one[shown]]) * self.scale)[places]
        return rearrange(z, "(n c) z d h w -> n (c z) d h w", n=n)

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse, up to the VAE's own error; in float32."""
        z = rearrange(latent.float(), "n (c z) d h w -> (n c) 1 z d h w", z=self.latent_channels)
        volume = torch.cat([self.vae.decode(v / self.scale) for v in z]) * 2 - 1
        return rearrange(volume, "(n c) 1 d h w -> n c d h w", n=len(latent))


def autoencoder(latent_channels: int, base: int) -> nn.Module:
    """MONAI's AutoencoderKlMaisi with the settings of the released CT VAE; num_splits 1 and norm_float16 off,
    which change no weight. ValueError without MONAI."""
    try:
        from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
    except ImportError as error:
        raise ValueError("the MAISI VAE needs MONAI: pip install 'anydose[priors]'") from error
    net: nn.Module = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        latent_channels=latent_channels,
        num_channels=(base, 2 * base, 4 * base),
        num_res_blocks=(2, 2, 2),
        norm_num_groups=min(32, base),
        norm_eps=1e-6,
        attention_levels=(False, False, False),
        num_splits=1,
        norm_float16=False,
        save_mem=False,
    )
    return net


def load(path: Path, scale: float) -> MaisiCodec:
    """The codec of `autoencoder_v1.pt` or its safetensors; `scale`: from the U-Net's checkpoint. ValueError
    for another network."""
    state = read(path)
    first = state.get("encoder.blocks.0.conv.conv.weight")
    quant = state.get("quant_conv_mu.conv.weight")
    if first is None or quant is None:
        raise ValueError(f"{path}: no MAISI VAE; autoencoder_v1.pt of NV-Generate-CT is needed")
    codec = MaisiCodec(len(quant), len(first))
    wanted = {name: tuple(value.shape) for name, value in codec.vae.state_dict().items()}
    account(wanted, {name: tuple(value.shape) for name, value in state.items()}, str(path))
    codec.vae.load_state_dict(state, strict=True)
    codec.scale.fill_(scale)
    return codec.eval().requires_grad_(False)


def read(path: Path) -> dict[str, Any]:
    """A MAISI checkpoint's weights and plain values under their names; the weights of a wrapper
    (unet_state_dict) come up one level. Pickles are read as weights only. ValueError if it is no such
    file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a MAISI checkpoint (.pt or .safetensors) is needed")
    if path.suffix == ".safetensors":
        weights, about = load_tensors(path)
        return weights | ({"scale_factor": float(about["scale_factor"])} if "scale_factor" in about else {})
    import monai.data  # noqa: F401  registers MetaTensor, which the files hold, as safe to load

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: cut short, or more than weights in it ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {type(found).__name__} found, a state dict is needed")
    inner = found.pop("unet_state_dict", {})
    return {k: torch.as_tensor(v) if isinstance(v, Tensor) else v for k, v in {**found, **inner}.items()}
