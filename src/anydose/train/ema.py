"""Exponential moving average of the weights: what is evaluated and shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Of everything but frozen weights. decay: the final one; early on it is (1 + step) / (10 + step), so
    that the random start is forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
        self.state: dict[str, Tensor] = {
            k: v.detach().clone() for k, v in model.state_dict().items() if k not in frozen
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights after step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        live = model.state_dict()
        torch._foreach_lerp_(list(self.state.values()), [live[k] for k in self.state], 1 - decay)

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, for the length of the block."""
        state = model.state_dict()
        live = {k: state[k].detach().clone() for k in self.state}
        model.load_state_dict({**state, **self.state})
        try:
            yield
        finally:
            model.load_state_dict({**state, **live})
