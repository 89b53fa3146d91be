"""A tiny prior of MAISI's form, trained on the moving pictures of tiny.py, their frames taken for slices. It
stands in for the public weights where they cannot be had, in the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.atomic.files import whole
from anydose.model.codec.maisi import MaisiCodec
from anydose.model.network.maisi import CT, MaisiConfig, network
from anydose.model.prior.tiny import clip, shown, step_of

SIZE = MaisiConfig(widths=(32, 32, 64), attention=(False, False, True))
VAE_BASE, EDGE = 8, 16  # width of the VAE's first level; edge of a cube of slices
SPACING_MM = 2.5


def train(out: Path, steps: int, seed: int = 0, say: Callable[[str], object] = str) -> dict[str, Any]:
    """Write OUT/models with the VAE's and the rectified flow's checkpoint. Returns the mean losses of the
    first and last tenth of both; `say` is told where it stands."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    codec = MaisiCodec(SIZE.latent, VAE_BASE).train()
    found = {"vae": shown("vae", _train_vae(codec.vae, steps, rng), steps, say)}
    codec.eval().requires_grad_(False)
    data = torch.cat([codec.encode(cubes(rng, 1)) for _ in range(min(256, 4 * steps))])
    codec.scale.copy_(1 / data.std())
    net = network(SIZE).train()
    losses = _train_flow(net, data * codec.scale, steps, rng)
    found["unet"] = shown("unet", losses, steps, say)
    place = out / "models"
    place.mkdir(parents=True, exist_ok=True)
    about = {"scale_factor": codec.scale.clone(), "num_train_timesteps": 1000}
    for name, state in (
        ("diff_unet_3d_rflow-ct.pt", {**about, "unet_state_dict": net.state_dict()}),
        ("autoencoder_v1.pt", codec.vae.state_dict()),
    ):
        with whole(place / name) as scratch:
            torch.save(state, scratch)
    return {"steps": steps, "seed": seed, **found}


def cubes(rng: np.random.Generator, count: int) -> Tensor:
    """So many pictures (n, 1, d, h, w) in [-1, 1]."""
    return torch.stack([clip(rng, EDGE, EDGE) for _ in range(count)])


def _train_vae(vae: Any, steps: int, rng: np.random.Generator, batch: int = 2) -> Iterator[float]:
    """Absolute and squared error of the round trip of [0, 1], which the read-out starts in the middle of."""
    weight, bias = list(vae.decoder.parameters())[-2:]
    nn.init.normal_(weight, std=0.01)
    nn.init.constant_(bias, 0.5)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        volumes = (cubes(rng, batch) + 1) / 2
        z, _ = vae.encode(volumes)
        back = vae.decode(z + 0.05 * z.std().detach() * torch.randn_like(z))
        loss = F.l1_loss(back, volumes) + 2 * F.mse_loss(back, volumes) + 1e-4 * z.square().mean()
        yield step_of(loss, optimiser, schedule)


def _train_flow(
    net: nn.Module, data: Tensor, steps: int, rng: np.random.Generator, batch: int = 2
) -> Iterator[float]:
    """Rectified flow as MAISI's: u = x_0 - eps at y = (1 - f) x_0 + f eps, of CT on voxels of SPACING_MM."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    labels, spacing = torch.full((batch,), CT), torch.full((batch, 3), 100 * SPACING_MM)
    for _ in range(steps):
        x0 = data[torch.from_numpy(rng.integers(len(data), size=batch))]
        eps, f = torch.randn_like(x0), torch.rand(batch)
        wide = f[:, None, None, None, None]
        u = net((1 - wide) * x0 + wide * eps, 1000 * f, class_labels=labels, spacing_tensor=spacing)
        yield step_of(F.mse_loss(u, x0 - eps), optimiser, schedule)
