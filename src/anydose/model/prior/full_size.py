"""The 1.3B transformer at its full size, with random weights: does it fit, and what does a pass cost here."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anydose.case import modality
from anydose.model.network.dit import DiT
from anydose.model.network.tokens import kept_blocks
from anydose.model.prior import wan

GRID = (25, 16, 18)  # latent of 97 x 128 x 144 frames and voxels
ELLIPSE = (0.90, 0.70)  # a body's width and height as shares of the crop


def measure(
    kinds: Sequence[str], modalities: int, say: Callable[[str], object] = str
) -> Iterator[dict[str, Any]]:
    """Build the text-free Wan 2.1 1.3B for all modalities in bfloat16 and time one forward pass of the dose
    from `modalities` - 1 conditions, per kind of tokens: 'sparse' (those that touch an elliptical body) or
    'dense' (all). One row each, with peak memory. ValueError for another kind."""
    for kind in kinds:
        if kind not in ("sparse", "dense"):
            raise ValueError(f"tokens {kind!r}: sparse, dense or both is accepted")
    begin = time.monotonic()
    model = build()
    built = {"build_s": round(time.monotonic() - begin, 1), "built_peak_gb": peak_gb()}
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    count = sum(p.numel() for p in model.parameters())
    say(f"{count / 1e9:.3f} G parameters, {weights / 1e9:.2f} GB, {built}")
    for kind in kinds:
        body = torch.ones(1, 1, *GRID) if kind == "dense" else ellipse()
        row = {"tokens": kind, "modalities": modalities, **_pass(model, body, modalities)}
        row |= {"weights_gb": round(weights / 1e9, 2), **built, "threads": torch.get_num_threads()}
        say(str(row))
        yield row


def build() -> DiT:
    """The transformer with small random weights: linear layers of the blocks in bfloat16, the rest, which Wan
    keeps in float32, in float32. Never a second copy in memory."""
    channels = {name: 16 * row.channels for name, row in modality.TABLE.items()}
    with torch.device("meta"):
        model = DiT(wan.dit_config(wan.WanConfig(), modality.NAMES), channels, (4, 8, 8))
    linear = tuple(name for name, layer in model.blocks.named_modules() if isinstance(layer, nn.Linear))
    state = {}
    for name, value in model.state_dict().items():
        half = name.removeprefix("blocks.").rpartition(".")[0] in linear
        dtype = torch.bfloat16 if half else torch.float32
        state[name] = torch.empty(value.shape, dtype=dtype).normal_(std=0.02)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def ellipse() -> Tensor:
    """An elliptical cylinder (1, 1, d, h, w) on the latent grid."""
    y, x = (torch.linspace(-1, 1, n) for n in GRID[1:])
    inside = (y[:, None] / ELLIPSE[1]) ** 2 + (x[None] / ELLIPSE[0]) ** 2 <= 1
    return inside.expand(1, 1, *GRID).float()


def peak_gb() -> float:
    """The process's peak memory so far in GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


@torch.inference_mode()
def _pass(model: DiT, body: Tensor, modalities: int) -> dict[str, Any]:
    names = ("dose", *(n for n in modality.NAMES if n != "dose"))[:modalities]
    latents = {n: torch.randn(1, 16 * modality.TABLE[n].channels, *GRID) for n in names}
    times = {n: torch.zeros(1) for n in names} | {"dose": torch.ones(1)}
    begin, cpu = time.monotonic(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        u = model(latents, times, "dose", torch.ones(1, 3), body)
    wall, used = time.monotonic() - begin, time.process_time() - cpu
    if not torch.isfinite(u).all():
        raise ValueError("the forward pass gave values that are not finite")
    count = len(names) * int(kept_blocks(body, wan.PATCH).sum())
    return {"count": count, "forward_s": round(wall, 1), "cpu_s": round(used, 1), "peak_gb": peak_gb()}
