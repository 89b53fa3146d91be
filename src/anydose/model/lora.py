"""Low-rank adapters (Hu et al., arXiv 2106.09685): W x + alpha / r B A x with A, B of rank r, W frozen. Of a
3 x 3 x 3 convolution A is one of r channels and B 1 x 1 x 1.

Own code, in peft's file format: peft itself would bring transformers, 150 MB and five seconds of import for
what is one layer. B starts at zero, so that an adapted network starts as the one it adapts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.atomic import files
from anydose.model.any2any import Any2Any
from anydose.model.network.layers import Conv3
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


class LoraConv(Conv3):
    """A convolution that keeps the size, with its adapter; holds the layer's own weight and bias under their
    own names."""

    def __init__(self, base: nn.Conv3d, rank: int, alpha: float) -> None:
        edge, bias = base.kernel_size[0], base.bias is not None
        with torch.device("meta"):
            super().__init__(base.in_channels, base.out_channels, edge, bias=bias)
        self.weight, self.bias = base.weight, base.bias
        self.scale, self.active = alpha / rank, True
        with base.weight.device:
            self.lora_A = Conv3(base.in_channels, rank, edge, bias=False)
            self.lora_B = Conv3(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        base.requires_grad_(False)

    def forward(self, x: Tensor, neighbours: Tensor | None = None) -> Tensor:
        """x: as of Conv3."""
        y = super().forward(x, neighbours)
        if not self.active:
            return y
        change: Tensor = self.lora_B(self.lora_A(x, neighbours), neighbours)
        return y + self.scale * change

    def merged(self) -> Conv3:
        """The plain layer of the same function, of new tensors."""
        change = torch.einsum("or,ridhw->oidhw", self.lora_B.weight[..., 0, 0, 0], self.lora_A.weight)
        with torch.device("meta"):
            edge, bias = self.kernel_size[0], self.bias is not None
            plain = Conv3(self.in_channels, self.out_channels, edge, bias=bias)
        plain.weight = nn.Parameter((self.weight + self.scale * change).detach())
        plain.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        plain.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return plain


Adapted = LoraLinear | LoraConv


def add_lora(
    model: nn.Module, rank: int = 64, alpha: float = 0.0, targets: str = BLOCKS
) -> list[nn.Parameter]:
    """Adapt every linear layer, and every convolution that keeps the size, whose whole name matches
    `targets`, and freeze it; alpha 0 stands for the rank. Returns the adapters' parameters. ValueError if
    nothing matches."""
    matching = [
        (name, layer)
        for name, layer in model.named_modules()
        if re.fullmatch(targets, name) and _adaptable(layer)
    ]
    if not matching:
        raise ValueError(
            f"LoRA targets {targets!r}: no linear layer or convolution of that name in the model"
        )
    for name, layer in matching:
        kind = LoraConv if isinstance(layer, nn.Conv3d) else LoraLinear
        _put(model, name, kind(layer, rank, alpha or rank))
    parameters: list[nn.Parameter] = []
    for adapted in adapters(model).values():
        parameters += [*adapted.lora_A.parameters(), *adapted.lora_B.parameters()]
    return parameters


def _adaptable(layer: nn.Module) -> bool:
    """Whether a layer is linear, or an odd cubic convolution of stride 1 that pads by half its edge."""
    if not isinstance(layer, nn.Conv3d) or isinstance(layer, LoraConv):
        return isinstance(layer, nn.Linear)
    edge = layer.kernel_size[0]
    same = (layer.kernel_size, layer.padding) == ((edge,) * 3, (edge // 2,) * 3)
    return same and edge % 2 == 1 and layer.stride == (1, 1, 1) and layer.groups == 1


def adapt(model: Any2Any, rank: int, alpha: float, whole: Sequence[str]) -> dict[str, nn.Parameter]:
    """Freeze an Any2Any model but for adapters on the layers that its backbone names (`Backbone.adapted`) and
    for the layers whose last name is in `whole`. Returns what learns, under peft's names."""
    model.requires_grad_(False)
    add_lora(model, rank, alpha, model.backbone.adapted)
    learning = weights(model, whole)
    for parameter in learning.values():
        parameter.requires_grad_()
    return learning


def adapters(model: nn.Module) -> dict[str, Adapted]:
    """The adapted layers of a model by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Adapted)}


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


def settings(model: nn.Module, whole: Sequence[str] = ()) -> dict[str, Any]:
    """A model's adapters in peft's words; whole: last names of layers that are kept as they are beside the
    adapters (modules_to_save)."""
    layers = adapters(model)
    one = next(iter(layers.values()))
    rank = len(one.lora_A.weight)
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": one.scale * rank,
        "target_modules": sorted(layers),
        "modules_to_save": list(whole) or None,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def save_adapter(model: nn.Module, folder: Path, whole: Sequence[str] = ()) -> None:
    """Write the adapters alone, as peft does: adapter_model.safetensors and adapter_config.json. The weights
    hold the settings too, so that after a kill between the two files they are not read together."""
    text = json.dumps(settings(model, whole), indent=2) + "\n"
    save_tensors(weights(model, whole), folder / WEIGHTS, {"format": "pt", "settings": text})
    with files.whole(folder / SETTINGS) as scratch:
        scratch.write_text(text)


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Adapt a plain model with adapters saved by `save_adapter` or peft. ValueError if they are of another
    kind, not exactly those of this model's layers, or saved with other settings than those beside them."""
    path = folder / SETTINGS
    if not path.is_file():
        raise ValueError(f"{folder}: no {SETTINGS}; an adapter's folder is needed")
    tensors, meta = load_tensors(folder / WEIGHTS)
    try:
        text = path.read_text(encoding="utf-8")
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(about, dict):
        raise ValueError(f"{path}: {type(about).__name__} found; an object of peft's settings is accepted")
    if meta.get("settings", text) != text:
        raise ValueError(f"{path}: not the settings that {WEIGHTS} was saved with; save both again")
    put_adapter(model, about, tensors, str(path))


def put_adapter(
    model: nn.Module, about: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
) -> None:
    """Adapt a plain model with peft's settings and weights; ValueError as in `load_adapter`, naming
    `source`."""
    if about.get("peft_type") != "LORA" or about.get("bias", "none") != "none":
        raise ValueError(f"{source}: {about.get('peft_type')} with bias {about.get('bias')}; LORA is needed")
    if missing := [key for key in ("target_modules", "r", "lora_alpha") if not about.get(key)]:
        raise ValueError(f"{source}: no {missing[0]} among the settings; peft's are needed")
    names, rank, alpha = about["target_modules"], about["r"], about["lora_alpha"]
    texts = [names] if isinstance(names, str) else names
    usual = isinstance(texts, list) and all(isinstance(name, str) for name in texts)
    if not usual or not (isinstance(rank, int) and rank > 0) or not isinstance(alpha, int | float):
        raise ValueError(f"{source}: target_modules {names}, r {rank}, lora_alpha {alpha}; peft's are needed")
    targets = names if isinstance(names, str) else r"(.*\.)?(" + "|".join(map(re.escape, names)) + ")"
    add_lora(model, rank, alpha, targets)
    wanted = weights(model, about.get("modules_to_save") or ())
    account(_shapes(wanted), _shapes(tensors), source)
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])


def weights(model: nn.Module, whole: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The parameters of the adapters, and of the layers whose last name is in `whole`, under peft's names."""
    found: dict[str, nn.Parameter] = {
        f"{PREFIX}{name}.{half}.weight": getattr(layer, half).weight
        for name, layer in adapters(model).items()
        for half in ("lora_A", "lora_B")
    }
    kept = {
        f"{PREFIX}{name}": p
        for name, p in model.named_parameters()
        if name.rpartition(".")[0].rpartition(".")[2] in whole
    }
    return found | kept


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    model.set_submodule(name, layer)
