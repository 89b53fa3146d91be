"""Tiny networks of the priors' forms with random weights, written as their releases are."""

import json

import torch
from safetensors.torch import save_file

from anydose.model.codec import maisi as maisi_codec
from anydose.model.codec import wan as wan_codec
from anydose.model.network import maisi
from anydose.model.prior import wan

WAN = wan.WanConfig(dim=96, blocks=3, heads=3, ffn=160, channels=4, text=24)
MAISI = maisi.MaisiConfig(widths=(32, 32, 64), attention=(False, False, True))


def randomised(net, seed=0, std=0.15):
    """Every parameter drawn anew: layers that start at zero or one would hide an error. Norms' weights about
    one, so that attention is not flat and positions matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in net.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(p, float(is_norm), std, generator=generator)
    return net.eval()


def write_wan(folder, scheme="diffusers", seed=0):
    """transformer/ (several shards) and vae/; returns diffusers' transformer."""
    net = randomised(wan_codec.transformer(WAN), seed)
    place = folder / "transformer"
    if scheme == "diffusers":
        net.save_pretrained(place, max_shard_size="150KB")
    else:
        rows = zip(WAN.tensors("diffusers"), WAN.tensors("original"), strict=True)
        state = net.state_dict()
        place.mkdir(parents=True)
        save_file(
            {f"model.diffusion_model.{o[1]}": state[d[1]].contiguous() for d, o in rows},
            place / "diffusion_pytorch_model.safetensors",
        )
        config = {"_class_name": "WanModel", "dim": WAN.dim, "ffn_dim": WAN.ffn, "num_layers": WAN.blocks}
        config |= {"num_heads": WAN.heads, "in_dim": WAN.channels, "out_dim": WAN.channels, "eps": 1e-6}
        config |= {"freq_dim": 256, "text_dim": WAN.text, "model_type": "t2v"}
        (place / "config.json").write_text(json.dumps(config))
    codec = wan_codec.WanCodec(WAN.channels, 4)
    codec.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 0.5, 1.5])
    codec.vae.save_pretrained(folder / "vae")
    return net


def write_maisi(folder, variant="rflow", seed=0):
    """models/ with the U-Net's checkpoint and the VAE's; returns MONAI's U-Net."""
    from dataclasses import replace

    place = folder / "models"
    place.mkdir(parents=True)
    net = randomised(maisi.network(replace(MAISI, variant=variant)), seed, std=0.1)
    about = {"scale_factor": torch.tensor(0.9), "num_train_timesteps": 1000, "epoch": 3, "loss": 0.1}
    torch.save({**about, "unet_state_dict": net.state_dict()}, place / f"diff_unet_3d_{variant}-ct.pt")
    vae = randomised(maisi_codec.autoencoder(4, 8), seed + 1)
    last = list(vae.decoder.parameters())[-2:]  # gives about the middle of the range, as a trained one does
    torch.nn.init.normal_(last[0], std=0.01)
    torch.nn.init.constant_(last[1], 0.5)
    torch.save(vae.state_dict(), place / "autoencoder_v1.pt")
    return net
