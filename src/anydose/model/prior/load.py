"""Priors: what a folder of public weights holds, what of it is used, and the model that starts from it.

Nothing is downloaded: the folders are Wan2.1-T2V-1.3B(-Diffusers) and NV-Generate-CT as their hubs lay them
out."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from anydose.case import modality
from anydose.case.naming.vocabulary import HEAD_NECK
from anydose.model.any2any import Any2Any, ModelConfig, pick_device
from anydose.model.checkpoint import save_model
from anydose.model.codec import maisi as maisi_codec
from anydose.model.codec import wan as wan_codec
from anydose.model.network import maisi
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.maisi import MaisiUNet
from anydose.model.prior import wan
from anydose.model.weights import file_hash

SPACE = (96, 128, 144)  # voxels of the volume that expectations are given for (97 frames with the copy)
MAISI_FLOP = 9.1e6  # per latent voxel and forward pass of the released U-Net (priors.md 5.3)


@dataclass(frozen=True)
class MaisiPaths:
    """The two files of a MAISI folder."""

    unet: Path
    vae: Path


def check(folder: Path, vae: Path | None = None, device: str = "auto") -> dict[str, Any]:
    """What a prior's folder holds, without building a model: {'prior', 'config', 'used', 'dropped', 'new':
    tensors, 'parameters', 'files': with SHA-256, 'expected': memory and time on the device, 'notes'}.
    ValueError if it is no prior, or anything in it is missing, strange or cut short."""
    if is_maisi(folder):
        paths = maisi_paths(folder)
        unet = maisi.load(paths.unet)
        maisi_codec.load(paths.vae, unet.scale)
        dropped = maisi.DROPPED_DDPM if unet.config.variant == "ddpm" else ()
        latent = SPACE[0] * SPACE[1] * 160 // 64  # the next width that is a multiple of 32
        parameters = sum(w.numel() for w in unet.weights.values())
        return {
            "prior": f"maisi {unet.config.variant}",
            "config": asdict(unet.config) | {"scale_factor": unet.scale},
            "used": len(unet.weights) - len(dropped),
            "dropped": list(dropped),
            "new": ["heads", "net.conv_in.more", "net.class_embedding.roles"],
            "parameters": parameters,
            "files": [_file(path) for path in (paths.unet, paths.vae)],
            "expected": expected(parameters, MAISI_FLOP * latent, 0.0, device),
            "notes": [maisi.DDPM_WARNING] if dropped else [],
        }
    files = wan.open_files(folder)
    codec = _wan_codec(folder, vae)
    dropped_parameters = sum(torch.Size(files.shards.shapes[name]).numel() for name in files.dropped)
    kept = files.shards.parameters - dropped_parameters
    return {
        "prior": f"wan, {files.scheme} names",
        "config": asdict(files.config),
        "used": len(files.sources),
        "dropped": sorted({_layer(name) for name in files.dropped}),
        "new": [*wan.NEW, f"ctx_bias of {files.config.blocks} blocks, folded from what is dropped"],
        "parameters": kept,
        "files": [_file(path) for path in files.shards.files],
        "expected": expected(kept, *wan_cost(files.config, len(modality.NAMES)), device),
        "notes": [f"VAE {codec.spec}, {sum(p.numel() for p in codec.parameters()) / 1e6:.1f} M parameters"],
    }


def import_wan(
    folder: Path,
    out: Path,
    vae: Path | None = None,
    compose: bool = False,
    bf16: bool = False,
    organs: tuple[str, ...] = HEAD_NECK.organs,
    organs_as: str = "channels",
) -> dict[str, Any]:
    """Write OUT/model.safetensors, the Any2Any transformer that starts as Wan 2.1, with its frozen VAE; the
    record of where it came from. compose, and the ValueErrors: as in wan.py; bf16: half the bytes; organs_as:
    as in ModelConfig."""
    files, codec = wan.open_files(folder), _wan_codec(folder, vae)
    if codec.latent_channels != files.config.channels:
        raise ValueError(
            f"{folder}: VAE of {codec.latent_channels} channels found, {files.config.channels} are needed"
        )
    backbone = wan.dit_config(files.config, modality.NAMES, compose=compose)
    settings = ModelConfig(backbone, codec.spec, predicts="noise - data")
    model = Any2Any(replace(settings, organs=organs, organs_as=organs_as))
    assert isinstance(model.backbone, DiT)
    model.codec = codec
    report = wan.load_into(model.backbone, files)
    return _written(model, out, f"wan, {files.scheme} names", files.shards.files, report, bf16)


def import_maisi(
    folder: Path,
    out: Path,
    backbone: str = "unet",
    bf16: bool = False,
    organs: tuple[str, ...] = HEAD_NECK.organs,
    organs_as: str = "channels",
) -> dict[str, Any]:
    """Write OUT/model.safetensors from MAISI: its U-Net and VAE, or with backbone 'dit' its VAE alone under a
    transformer from scratch. Returns the record; ValueErrors as in maisi.py, organs_as as in ModelConfig."""
    paths = maisi_paths(folder)
    unet = maisi.load(paths.unet)
    codec = maisi_codec.load(paths.vae, unet.scale)
    if backbone == "dit":
        model = Any2Any(ModelConfig(DiTConfig(), codec.spec, organs=organs, organs_as=organs_as))
        report: dict[str, tuple[str, ...]] = {
            "used": (),
            "dropped": tuple(unet.weights),
            "new": ("backbone",),
        }
    elif backbone == "unet":
        predicts = "data - noise" if unet.config.variant == "rflow" else "v"
        settings = ModelConfig(unet.config, codec.spec, predicts=predicts)
        model = Any2Any(replace(settings, organs=organs, organs_as=organs_as))
        assert isinstance(model.backbone, MaisiUNet)
        report = maisi.load_into(model.backbone, unet)
    else:
        raise ValueError(f"backbone {backbone!r}: unet or dit is accepted")
    model.codec = codec
    return _written(model, out, f"maisi {unet.config.variant}", [paths.unet, paths.vae], report, bf16)


def is_maisi(folder: Path) -> bool:
    """Whether a folder looks like NV-Generate-CT. ValueError if there is no such folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; one with the weights of Wan 2.1 or MAISI is needed")
    return any(_maisi_files(folder, "autoencoder"))


def maisi_paths(folder: Path) -> MaisiPaths:
    """The U-Net (rflow before ddpm) and the VAE of DIR or DIR/models; ValueError names the missing one."""
    unets = sorted(_maisi_files(folder, "unet"), key=lambda path: "rflow" not in path.name)
    vaes = _maisi_files(folder, "autoencoder")
    for found, needed in ((unets, "diff_unet_3d_rflow-ct.pt"), (vaes, "autoencoder_v1.pt")):
        if not found:
            raise ValueError(f"{folder}: no {needed}; it is needed (NV-Generate-CT, models/)")
    return MaisiPaths(unets[0], vaes[0])


def _maisi_files(folder: Path, word: str) -> list[Path]:
    places = [p for place in (folder, folder / "models") for p in sorted(place.glob(f"*{word}*"))]
    wanted = [p for p in places if p.suffix in (".pt", ".safetensors")]
    return [p for p in wanted if not p.name.startswith(("controlnet", "mask_generation"))]


def wan_cost(config: wan.WanConfig, modalities: int) -> tuple[float, float]:
    """(FLOP of a forward pass with every token of SPACE, bytes of the block inputs that training keeps)."""
    tokens = modalities * (SPACE[0] // 4 + 1) * (SPACE[1] // 16) * (SPACE[2] // 16)
    linear = 2 * (4 * config.dim**2 + 2 * config.dim * config.ffn) * tokens
    return config.blocks * (linear + 4 * tokens**2 * config.dim), 2.0 * config.blocks * tokens * config.dim


def expected(parameters: int, flop: float, activations: float, device: str) -> dict[str, Any]:
    """Memory and time to expect on a device, from its speed in one bfloat16 product of matrices: weights in
    bfloat16; training in full holds 16 bytes a parameter (weight, gradient, two Adam moments in float32)."""
    place = pick_device(device)
    x = torch.randn(1024, 1024, dtype=torch.bfloat16, device=place)
    seconds = min(_seconds(x, place) for _ in range(3))
    speed = 2 * 1024**3 / seconds
    return {
        "device": str(place),
        "tflop_per_s": round(speed / 1e12, 3),
        "forward_s": round(flop / speed, 2),
        "inference_gb": round(2 * parameters / 1e9, 2),
        "training_gb": round((16 * parameters + activations) / 1e9, 2),
        "voxels": list(SPACE),
    }


def _seconds(x: torch.Tensor, place: torch.device) -> float:
    begin = time.perf_counter()
    (x @ x).sum().item()
    return time.perf_counter() - begin


def _wan_codec(folder: Path, vae: Path | None) -> wan_codec.WanCodec:
    beside = folder.parent if (folder.parent / "vae").is_dir() else folder
    return wan_codec.load(vae or (folder if (folder / "vae").is_dir() else beside))


def _layer(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split(".")[:-1])


def _file(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}


def _written(
    model: Any2Any, out: Path, prior: str, files: Any, report: dict[str, tuple[str, ...]], bf16: bool
) -> dict[str, Any]:
    counts = {k: len(v) for k, v in report.items()}
    record = {"prior": prior, "tensors": counts, "files": [_file(path) for path in files]}
    out.mkdir(parents=True, exist_ok=True)
    save_model(model, out / "model.safetensors", record, torch.bfloat16 if bf16 else torch.float32)
    return record
