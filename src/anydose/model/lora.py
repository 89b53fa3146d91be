"""Low-rank adapters (Hu et al., arXiv 2106.09685): W x + alpha / r B A x with A, B of rank r, W frozen.

Own code, in peft's file format: peft itself would bring transformers, 150 MB and five seconds of import for
what is one layer. B starts at zero, so that an adapted network starts as the one it adapts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.model.shards import account
from anydose.model.tensors import load_tensors, save_tensors

ATTENTION = r"(.*\.)?blocks\.\d+\.(q|k|v|o)"
BLOCKS = r"(.*\.)?blocks\.\d+\.(q|k|v|o|ffn\.0|ffn\.2)"  # attention and MLP of the transformer
WEIGHTS, SETTINGS, PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."


class LoraLinear(nn.Module):
    """A linear layer with its adapter; holds the layer's own weight and bias under their own names."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight, self.bias = base.weight, base.bias
        self.in_features, self.out_features = base.in_features, base.out_features
        self.scale, self.active = alpha / rank, True
        self.lora_A = nn.Linear(base.in_features, rank, bias=False, device=base.weight.device)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False, device=base.weight.device)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)
        base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = F.linear(x, self.weight, self.bias)
        return y + self.scale * self.lora_B(self.lora_A(x)) if self.active else y

    def merged(self) -> nn.Linear:
        """The plain layer of the same function, of new tensors."""
        weight = self.weight + self.scale * (self.lora_B.weight @ self.lora_A.weight).to(self.weight)
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.detach())
        plain.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        return plain


def add_lora(
    model: nn.Module, rank: int = 64, alpha: float = 0.0, targets: str = BLOCKS
) -> list[nn.Parameter]:
    """Adapt every linear layer whose whole name matches `targets`, and freeze it; alpha 0 stands for the
    rank. Returns the adapters' parameters. ValueError if nothing matches."""
    matching = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and re.fullmatch(targets, name)
    ]
    if not matching:
        raise ValueError(f"LoRA targets {targets!r}: no linear layer of that name in the model")
    for name, layer in matching:
        _put(model, name, LoraLinear(layer, rank, alpha or rank))
    return [p for layer in adapters(model).values() for p in (layer.lora_A.weight, layer.lora_B.weight)]


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted layers of a model by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}


def merge(model: nn.Module) -> None:
    """Make every adapted layer the plain layer of the same function, for good."""
    for name, layer in adapters(model).items():
        _put(model, name, layer.merged())


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """The model without adapter layers but with their effect, for the length of the block."""
    layers = adapters(model)
    merge(model)
    try:
        yield
    finally:
        for name, layer in layers.items():
            _put(model, name, layer)


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The model that was adapted, for the length of the block."""
    layers = adapters(model).values()
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer in layers:
            layer.active = True


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write the adapters alone, as peft does: adapter_model.safetensors and adapter_config.json."""
    layers = adapters(model)
    rank = next(iter(layers.values())).lora_A.out_features
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": next(iter(layers.values())).scale * rank,
        "target_modules": sorted(layers),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(_weights(model), folder / WEIGHTS, {"format": "pt"})
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Adapt a plain model with adapters saved by `save_adapter` or peft. ValueError if they are of another
    kind, or not exactly those of this model's layers."""
    path = folder / SETTINGS
    if not path.is_file():
        raise ValueError(f"{folder}: no {SETTINGS}; an adapter's folder is needed")
    settings = json.loads(path.read_text())
    if settings.get("peft_type") != "LORA" or settings.get("bias", "none") != "none":
        raise ValueError(
            f"{path}: {settings.get('peft_type')} with bias {settings.get('bias')}; LORA is needed"
        )
    names = settings["target_modules"]
    targets = names if isinstance(names, str) else r"(.*\.)?(" + "|".join(map(re.escape, names)) + ")"
    add_lora(model, settings["r"], settings["lora_alpha"], targets)
    weights, _ = load_tensors(folder / WEIGHTS)
    wanted = _weights(model)
    shapes = ({k: tuple(v.shape) for k, v in tensors.items()} for tensors in (wanted, weights))
    account(*shapes, str(folder / WEIGHTS))
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{PREFIX}{name}.{half}.weight": getattr(layer, half).weight
        for name, layer in adapters(model).items()
        for half in ("lora_A", "lora_B")
    }


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    model.set_submodule(name, layer)
