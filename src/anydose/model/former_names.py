"""What settings and tensors of a model were called in earlier versions. Whatever reads a checkpoint, a run's
state or a recipe asks here, so that the rest of the package knows the present names alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

SETTINGS = {
    "spread": "sigma_data",
    "rays": "bev_exchange",
    "sided": "keep_laterality",
}
"""Of a `ModelConfig` and of its backbone."""
TENSORS = {"backbone.rays.": "backbone.bev_exchange."}
"""Beginnings of names, or the middle where a training state puts a prefix before them."""


def present_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """A ModelConfig's `asdict` form under the present names."""
    present = {SETTINGS.get(key, key): value for key, value in values.items()}
    backbone = present.get("backbone")
    if isinstance(backbone, Mapping):
        present["backbone"] = {SETTINGS.get(key, key): value for key, value in backbone.items()}
    return present


def present_tensors(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Tensors by their present names."""
    return {_present(name): tensor for name, tensor in tensors.items()}


def _present(name: str) -> str:
    for former, present in TENSORS.items():
        name = name.replace(former, present)
    return name
