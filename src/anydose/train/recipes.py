"""Every named run, fully resolved; a variant is a small difference of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import yaml

from anydose.model.any2any import ModelConfig
from anydose.model.dit import DiTConfig
from anydose.train.codec import CodecConfig
from anydose.train.tasks import ANY2ANY, TaskConfig
from anydose.train.trainer import TrainConfig

Config = TypeVar("Config", TrainConfig, CodecConfig)

A = TrainConfig(name="any2any", task=ANY2ANY, steps=600)
B = TrainConfig(
    name="dose",
    init="runs/any2any/model.safetensors",
    steps=5500,
    task=TaskConfig(dose_share=0.85, keep=(0.9, 0.9)),
)
HN = TrainConfig(
    name="compact-hn",
    task=TaskConfig(dose_share=0.9, keep=(0.9, 0.95), at_one=0.7),
    steps=4000,
    learning_rate=1.2e-3,
    warmup=150,
    clip=5.0,
)
BUDGET = TrainConfig(name="budget-unet", steps=1000)
CODEC = CodecConfig()
RECIPES: dict[str, TrainConfig] = {
    recipe.name: recipe
    for recipe in (
        A,
        B,
        HN,
        BUDGET,
        replace(BUDGET, name="budget-regression", objective="regression"),
        replace(
            BUDGET,
            name="budget-dit",
            model=ModelConfig(DiTConfig(), "compact:16"),
            codec="runs/codec/codec.safetensors",
        ),
    )
}


def resolve(name: str, changes: Sequence[str] = ()) -> TrainConfig:
    """The recipe `name` with `key=value` changes; a dotted key reaches into a part (task.at_one=0.3).
    ValueError for an unknown recipe, key or a value of another type."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r}: one of {', '.join(RECIPES)} is accepted")
    return changed(RECIPES[name], changes)


def changed(config: Config, changes: Sequence[str]) -> Config:
    """A configuration with `key=value` changes; ValueError as in `resolve`."""
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator:
            raise ValueError(f"{change!r}: key=value is accepted")
        config = _changed(config, key.split("."), yaml.safe_load(text), change)
    return config


def _changed(config: Any, keys: list[str], value: Any, change: str) -> Any:
    known = [f.name for f in fields(config)]
    if keys[0] not in known:
        raise ValueError(f"{change!r}: {keys[0]!r} is no setting; one of {', '.join(known)} is accepted")
    old = getattr(config, keys[0])
    if len(keys) > 1:
        if not is_dataclass(old):
            raise ValueError(f"{change!r}: {keys[0]!r} has no parts")
        return replace(config, **{keys[0]: _changed(old, keys[1:], value, change)})
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if is_dataclass(old) or type(value) is not type(old):
        raise ValueError(f"{change!r}: {type(old).__name__} is accepted, {value!r} found")
    return replace(config, **{keys[0]: value})
