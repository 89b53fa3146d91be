"""The optimisers of a run: AdamW for everything, or Muon for the convolutions and AdamW for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.99)
PREFIXES = ("adam.", "muon.")  # of the stored states, in the order of `make_optimisers`


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan 2024; step sizes as AdamW's, Liu et al., arXiv 2502.16982) for weights of any
    shape: each is updated through a (out, in * kernel) view of its own memory, so nothing is copied and the
    order of the kernel's axes, to which an orthogonalised update is blind, follows the memory."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.weights = list(weights)
        views = [nn.Parameter(_matrix(w.data)) for w in self.weights]
        super().__init__(views, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients of the weights."""
        for view, weight in zip(self.param_groups[0]["params"], self.weights, strict=True):
            view.grad = None if weight.grad is None else _matrix(_ordered(weight.grad, weight))
        super().step(closure)  # type: ignore[no-untyped-call]


def _ordered(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in the memory order of its weight."""
    same = gradient.stride() == weight.stride()
    return gradient if same else torch.empty_like(weight).copy_(gradient)


def _matrix(weight: Tensor) -> Tensor:
    """A view (out, in * kernel) in the order of the memory, which is contiguous or channels-last."""
    return (weight if weight.is_contiguous() else weight.movedim(1, -1)).view(len(weight), -1)


def make_optimisers(
    kind: str, model: nn.Module, lr: float, weight_decay: float, full_rate_inputs: int = 0
) -> list[torch.optim.Optimizer]:
    """kind: 'adamw', or 'muon': Muon for the weights of the 3D convolutions with a kernel and of the layers
    in a transformer's blocks, AdamW for the rest; ValueError for another. Layers of more than
    `full_rate_inputs` inputs (0: none) have a smaller share of AdamW's rate (`rate_share`), which their
    parameter group holds as 'share'."""
    if kind not in ("adamw", "muon"):
        raise ValueError(f"optimiser={kind}: adamw or muon is accepted")
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = [p for name, p in learning.items() if kind == "muon" and _hidden(name, p)]
    chosen = {id(p) for p in hidden}
    groups: dict[float, list[nn.Parameter]] = {}
    for p in learning.values():
        if id(p) not in chosen:
            groups.setdefault(rate_share(p, full_rate_inputs), []).append(p)
    rest = [{"params": each, "lr": share * lr, "share": share} for share, each in groups.items()]
    adam = torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, betas=BETAS)
    return [adam, Muon(hidden, lr, weight_decay)] if hidden else [adam]


def rate_share(weight: Tensor, full_rate_inputs: int) -> float:
    """The share of the learning rate for a layer's weight: 1 / its inputs, from `full_rate_inputs` on. AdamW
    moves every weight by about the rate, so a layer's output moves by its inputs times that; patches of 8^3
    voxels have thousands (muP: Yang et al., arXiv 2203.03466, table 3)."""
    inputs = weight[0].numel() if weight.ndim in (2, 5) else 1
    return min(1.0, full_rate_inputs / inputs) if full_rate_inputs else 1.0


def stored(optimisers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What the optimisers hold, as tensors by name; `restore` takes it back."""
    return {
        f"{prefix}{number}.{name}": torch.as_tensor(value)
        for prefix, optimiser in zip(PREFIXES, optimisers, strict=False)
        for number, entry in optimiser.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore(optimisers: Sequence[torch.optim.Optimizer], state: Mapping[str, Tensor]) -> None:
    """Give the optimisers what `stored` took, from among other tensors."""
    for prefix, optimiser in zip(PREFIXES, optimisers, strict=False):
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith(prefix):
                number, _, name = key.removeprefix(prefix).partition(".")
                entries.setdefault(int(number), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": entries})


def _hidden(name: str, weight: Tensor) -> bool:
    if weight.ndim == 5:
        return weight[0, 0].numel() > 1
    return weight.ndim == 2 and min(weight.shape) > 1 and re.search(r"\bblocks\.\d+\.", name) is not None
