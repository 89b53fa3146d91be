"""A tiny prior of Wan 2.1's form, trained on procedural moving pictures: soft discs and bars that drift, turn
and cross. It stands in for the public weights where they cannot be had, in the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.model.codec import wan as wan_codec
from anydose.model.prior import wan

SIZE = wan.WanConfig(dim=96, blocks=4, heads=3, ffn=384, channels=4, text=32)
VAE_BASE, FRAMES, EDGE = 8, 9, 32  # width of the VAE's first level; frames and edge of a clip


def clip(rng: np.random.Generator, frames: int = FRAMES, edge: int = EDGE) -> Tensor:
    """One grey clip (1, frames, edge, edge) in [-1, 1]: one to four soft discs and bars, each with its own
    brightness, drift and turn; the brightest wins where they cross."""
    t, y, x = np.meshgrid(np.arange(frames), *(np.linspace(-1, 1, edge),) * 2, indexing="ij")
    picture = np.full(t.shape, -1.0)
    for _ in range(rng.integers(1, 5)):
        (cy, cx), (vy, vx) = rng.uniform(-0.7, 0.7, 2), rng.normal(0, 0.05, 2)
        angle = rng.uniform(0, np.pi) + rng.normal(0, 0.1) * t
        dy, dx = y - cy - vy * t, x - cx - vx * t
        along, across = np.cos(angle) * dy + np.sin(angle) * dx, np.cos(angle) * dx - np.sin(angle) * dy
        long, wide = rng.uniform(0.15, 0.8), rng.uniform(0.1, 0.4)
        distance = (np.hypot(along / long, across / wide) - 1) / rng.uniform(0.02, 0.3)
        inside = 0.5 - 0.5 * np.tanh(distance / 2)
        picture = np.maximum(picture, -1 + inside * rng.uniform(0.5, 2.0))
    return torch.from_numpy(np.clip(picture, -1, 1)[None].astype(np.float32))


def train(out: Path, steps: int, seed: int = 0, say: Callable[[str], object] = str) -> dict[str, Any]:
    """Write OUT/vae and OUT/transformer, as diffusers does. Returns the mean losses of the first and last
    tenth of both; `say` is told where it stands."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    codec = wan_codec.WanCodec(SIZE.channels, VAE_BASE).train()
    found = {"vae": shown("vae", _train_vae(codec, steps, rng), steps, say)}
    _measure(codec, rng)
    net: Any = wan_codec.transformer(SIZE).train()
    found["transformer"] = shown("transformer", _train_flow(net, codec, steps, rng), steps, say)
    codec.vae.register_to_config(latents_mean=codec.mean.tolist(), latents_std=codec.std.tolist())
    codec.vae.save_pretrained(out / "vae")
    net.save_pretrained(out / "transformer", max_shard_size="1MB")
    return {"steps": steps, "seed": seed, **found}


def _train_vae(
    codec: wan_codec.WanCodec, steps: int, rng: np.random.Generator, batch: int = 2
) -> Iterator[float]:
    """Absolute and squared error of the round trip, on short clips scaled as the codec scales volumes. The
    read-out starts small: beyond the decoder's clamp there is no gradient."""
    nn.init.normal_(codec.vae.decoder.conv_out.weight, std=0.01)
    nn.init.zeros_(codec.vae.decoder.conv_out.bias)
    optimiser = torch.optim.AdamW(codec.vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        clips = torch.stack([clip(rng, frames=5) for _ in range(batch)])
        frames = clips.expand(-1, 3, -1, -1, -1) * wan_codec.HEADROOM
        z = codec.vae.encode(frames).latent_dist.mode()
        noise = 0.05 * z.std().detach() * torch.randn_like(z)
        back = codec.vae.decode(z + noise).sample
        loss = F.l1_loss(back, frames) + 2 * F.mse_loss(back, frames) + 1e-4 * z.square().mean()
        yield step_of(loss, optimiser, schedule)


@torch.no_grad()
def _measure(codec: wan_codec.WanCodec, rng: np.random.Generator, clips: int = 16) -> None:
    codec.eval().requires_grad_(False)
    z = torch.cat([codec.encode(clip(rng)[None]) for _ in range(clips)]).transpose(0, 1).flatten(1)
    codec.mean.copy_(z.mean(dim=1))
    codec.std.copy_(z.std(dim=1))


def _train_flow(
    net: nn.Module, codec: wan_codec.WanCodec, steps: int, rng: np.random.Generator, batch: int = 2
) -> Iterator[float]:
    """Flow matching with an empty text, as Wan's: u = eps - x_0 at y = (1 - f) x_0 + f eps."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.no_grad():
        data = torch.cat([codec.encode(clip(rng)[None]) for _ in range(min(256, 4 * steps))])
    text = torch.zeros(batch, 8, SIZE.text)
    for _ in range(steps):
        x0 = data[torch.from_numpy(rng.integers(len(data), size=batch))]
        eps, f = torch.randn_like(x0), torch.rand(batch)
        wide = f[:, None, None, None, None]
        u = net((1 - wide) * x0 + wide * eps, 1000 * f, text).sample
        yield step_of(F.mse_loss(u, eps - x0), optimiser, schedule)


def step_of(loss: Tensor, optimiser: torch.optim.Optimizer, schedule: Any) -> float:
    """One step down a loss; its value."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
    optimiser.step()
    schedule.step()
    return float(loss.detach())


def shown(name: str, losses: Iterator[float], steps: int, say: Callable[[str], object]) -> dict[str, float]:
    """Take all steps, telling where they stand; the mean losses of the first and of the last tenth."""
    seen = []
    for loss in losses:
        seen.append(loss)
        if len(seen) % 100 == 0:
            say(f"{name} step {len(seen)}/{steps} loss {np.mean(seen[-100:]):.4f}")
    part = max(1, steps // 10)
    return {"first": round(float(np.mean(seen[:part])), 5), "last": round(float(np.mean(seen[-part:])), 5)}
