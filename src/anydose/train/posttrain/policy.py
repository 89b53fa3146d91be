"""A model whose adapter learns, with the other versions of what learns: the base's, the old policy's that
samples candidates, and the average that is evaluated and shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydose.model import lora
from anydose.model.any2any import Any2Any
from anydose.model.checkpoint import load_model, save_adapted

WHOLE = ("modulation",)  # layers that learn as they are: the norms' modulation by the condition code


class Policy:
    """The model of `path` with adapters of `rank` (alpha 0: the rank) on its blocks' layers, and everything
    but them and the modulation layers frozen."""

    def __init__(self, path: Path, rank: int, alpha: float, device: torch.device) -> None:
        self.path, self.model = path, load_model(path)
        self.live = lora.adapt(self.model, rank, alpha, WHOLE)
        self.model.on(device)
        self.device = device
        self.base, self.old, self.ema = (_copy(self.live) for _ in range(3))

    def parameters(self) -> list[Tensor]:
        """What learns, in a fixed order."""
        return list(self.live.values())

    def gradients(self) -> list[Tensor]:
        """Their gradients; zeros come into being where there is none."""
        for p in self.live.values():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        return [p.grad for p in self.live.values() if p.grad is not None]

    @contextmanager
    def holding(self, version: Mapping[str, Tensor]) -> Iterator[Any2Any]:
        """The model with another version of what learns, merged for speed and without gradients, for the
        length of the block. Tensors are exchanged, not written to, so that a graph in waiting stays whole."""
        with self._exchanged(version), torch.no_grad(), lora.merged(self.model):
            yield self.model

    @contextmanager
    def _exchanged(self, version: Mapping[str, Tensor]) -> Iterator[None]:
        mine = {k: p.data for k, p in self.live.items()}
        for k, p in self.live.items():
            p.data = version[k]
        try:
            yield
        finally:
            for k, p in self.live.items():
                p.data = mine[k]

    @torch.no_grad()
    def follow(self, step: int, old_rate: float, old_most: float, ema: float) -> None:
        """After step number `step` (from 1): the old policy becomes eta old + (1 - eta) live with eta =
        min(old_rate step, old_most); the average moves with decay `ema`, faster early on."""
        eta, decay = min(old_rate * step, old_most), min(ema, (1 + step) / (10 + step))
        for version, keep in ((self.old, eta), (self.ema, decay)):
            torch._foreach_lerp_(list(version.values()), self.parameters(), 1 - keep)

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        """The average as an adapter file, which `predict` takes as a model, and in peft's form beside it."""
        with self._exchanged(self.ema):
            save_adapted(self.model, WHOLE, self.path, path, record)
            lora.save_adapter(self.model, path.with_suffix(""), WHOLE)

    def state(self) -> dict[str, Tensor]:
        """Every version, to resume from."""
        versions = self._versions()
        return {f"{name}.{k}": v for name, version in versions.items() for k, v in version.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        with torch.no_grad():
            for name, version in self._versions().items():
                for k, tensor in version.items():
                    tensor.copy_(state[f"{name}.{k}"])

    def _versions(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint holds; the base's version is where every run starts."""
        return {"live": self.live, "old": self.old, "ema": self.ema}


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in tensors.items()}
