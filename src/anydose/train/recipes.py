"""Every named run, fully resolved; a variant is a small difference of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import yaml

from anydose.model.any2any import ModelConfig
from anydose.model.network.dit import DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.train.codec import CodecConfig
from anydose.train.posttrain.config import PostConfig
from anydose.train.tasks import ANY2ANY, TaskConfig
from anydose.train.trainer import TrainConfig

Config = TypeVar("Config", TrainConfig, CodecConfig, PostConfig)

A = TrainConfig(name="any2any", task=ANY2ANY, steps=600)
B = TrainConfig(
    name="dose",
    init="runs/any2any/model.safetensors",
    steps=5500,
    task=TaskConfig(dose_share=0.85, keep=(0.9, 0.9)),
)
# Slabs hold three body voxels in eight and four patients a step; whole bodies come at the end (docs/results).
SLABS: dict[str, Any] = {
    "crop": (32, 512, 512),
    "accumulate": 4,
    "optimiser": "muon",
    "learning_rate": 2e-3,
}
DENSE = ModelConfig(UNetConfig(sparse=False))  # the stages up to -plain were run before body rows were there
HN_START = TrainConfig(
    name="compact-hn-start",
    model=DENSE,
    task=TaskConfig(dose_share=0.95, keep=(0.97, 0.97), at_one=0.85, cranio_caudal=False),
    steps=3800,
    last_rate=0.1,
    **SLABS,
)
HN_WHOLE = TrainConfig(
    name="compact-hn-whole",
    model=DENSE,
    init="runs/compact-hn-start/model.safetensors",
    task=TaskConfig(dose_share=0.95, keep=(0.99, 0.99), at_one=0.9, cranio_caudal=False),
    steps=200,
    accumulate=3,
    optimiser="muon",
    learning_rate=3e-4,
    warmup=10,
    dvh=0.2,
)
# After 35 epochs the network was 1 Gy better on its own patients than on others (docs/results).
HN_TURNED = replace(
    HN_START,
    name="compact-hn-turned",
    init="runs/compact-hn-whole/model.safetensors",
    task=TaskConfig(dose_share=0.98, keep=(0.97, 0.97), at_one=0.9, turns=0.3, tilt_deg=8.0, zoom=0.08),
    seed=1,
    steps=2500,
    accumulate=3,
    learning_rate=1.5e-3,
    last_rate=0.03,
    weight_decay=0.1,
    warmup=50,
)
HN_BENT = replace(
    HN_WHOLE,
    name="compact-hn-bent",
    init="runs/compact-hn-turned/model.safetensors",
    task=TaskConfig(
        dose_share=1.0, keep=(0.98, 0.98), at_one=0.95, turns=0.4, tilt_deg=6.0, zoom=0.06, bend_mm=4.0
    ),
    seed=3,
    steps=950,
    learning_rate=8e-4,
    last_rate=0.02,
    warmup=20,
    weight_decay=0.2,
    dvh_points=1.0,
    ema=0.995,
)
HN_PLAIN = (
    replace(  # patients as they are: 950 steps of bent ones had lowered the DVH error and not the dose's
        HN_BENT,
        name="compact-hn-plain",
        init="runs/compact-hn-bent/model.safetensors",
        task=TaskConfig(dose_share=1.0, keep=(0.99, 0.99), at_one=0.95, cranio_caudal=False),
        seed=4,
        steps=240,
        learning_rate=4e-4,
        warmup=5,
        weight_decay=0.1,
        dvh=0.12,
        ema=0.98,
    )
)
HN_ROWS = replace(  # body rows, twice as many patients a step, half of them as they are
    HN_BENT,
    name="compact-hn-rows",
    model=ModelConfig(),
    init="runs/compact-hn-plain/model.safetensors",
    task=TaskConfig(
        dose_share=1.0,
        keep=(0.98, 0.98),
        at_one=0.95,
        cranio_caudal=False,
        turns=0.25,
        tilt_deg=4.0,
        zoom=0.05,
        bend_mm=3.0,
        as_is=0.5,
    ),
    seed=6,
    steps=1700,  # as it ran the schedule was of 2300 steps up to step 150 and of 1900 up to step 900
    accumulate=6,
    learning_rate=1e-3,
    dvh=0.12,
)
HN_SIDED = replace(  # the first 250 of 1900 steps, hence the rate: later ones overfitted again (docs/results)
    HN_ROWS,
    name="compact-hn-sided",
    model=ModelConfig(sided=True),
    init="runs/compact-hn-rows/model.safetensors",
    task=replace(HN_ROWS.task, turns=0.4, tilt_deg=8.0, zoom=0.08, bend_mm=5.0, as_is=0.15),
    seed=9,
    steps=250,
    last_rate=0.96,
    weight_decay=0.3,
)
HN = replace(
    HN_SIDED,
    name="compact-hn",
    model=ModelConfig(UNetConfig(rays=32), sided=True),
    init="runs/compact-hn-sided/model.safetensors",
    task=replace(HN_ROWS.task, turns=0.3, zoom=0.06, bend_mm=4.0, as_is=0.3),
    seed=11,
    steps=850,  # as it ran the schedule was of 950 steps up to step 500
    last_rate=0.02,
    ema=0.992,
)
HN_ANY = TrainConfig(  # what the stages for the dose had forgotten, as an adapter that leaves the dose alone
    name="compact-hn-any",
    init="compact-hn",
    task=TaskConfig(
        dose_share=0.0,
        keep=(0.9, 0.9),
        at_one=0.95,
        cranio_caudal=False,
        targets=("oar", "oar", "oar", "oar", "ct", "ct", "ptv", "body", "beam", "angle"),
    ),
    lora=8,
    adapter=True,
    crop=(64, 512, 512),
    organ_weight=8.0,
    steps=500,
    accumulate=6,
    learning_rate=4e-3,
    warmup=20,
    ema=0.98,
)
BUDGET = TrainConfig(name="budget-unet", steps=300, task=TaskConfig(at_one=0.9, cranio_caudal=False), **SLABS)
CODEC = CodecConfig()
SCARDNFT = PostConfig()
RECIPES: dict[str, TrainConfig] = {
    recipe.name: recipe
    for recipe in (
        A,
        B,
        HN_START,
        HN_WHOLE,
        HN_TURNED,
        HN_BENT,
        HN_PLAIN,
        HN_ROWS,
        HN_SIDED,
        HN,
        HN_ANY,
        BUDGET,
        replace(BUDGET, name="budget-regression", objective="regression"),
        replace(
            BUDGET,
            name="budget-dit",
            model=ModelConfig(DiTConfig(), "compact:32"),
            codec="runs/codec/codec.safetensors",
            optimiser="adamw",  # Muon at 2e-3 was no faster over 150 steps
            learning_rate=6e-4,
        ),
    )
}


PRIORS = ("wan", "maisi")
# What the paper trains a prior with (arXiv 2605.09622): Adam 1e-4, clip 0.1, 100 epochs, 97 x 128 x 160,
# the first slice being the copy that Wan's VAE wants; flow shift 3.
PAPER: dict[str, Any] = {
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "clip": 0.1,
    "epochs": 100,
    "precision": "bf16",
    "crop": (96, 128, 160),
    "latents": True,
}
# What fits (1.1 G parameters: 18 GB of weights, gradients and moments in full, 4.5 GB frozen; with 1.2 GB
# of kept block inputs); on 8 GPUs: torchrun --nproc-per-node 8 -m anydose.cli train ...
MACHINES: dict[str, dict[str, Any]] = {
    "24gb": {"lora": 64, "checkpointing": True},
    "80gb": {"checkpointing": True},
    "8x80gb": {"checkpointing": True, "save_every": 1000},
}


def resolve(name: str, changes: Sequence[str] = (), prior: str = "", machine: str = "24gb") -> TrainConfig:
    """The recipe `name` with `key=value` changes; a dotted key reaches into a part (task.at_one=0.3).
    ValueError for an unknown recipe, prior, machine, key or a value of another type."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r}: one of {', '.join(RECIPES)} is accepted")
    recipe = RECIPES[name]
    return changed(with_prior(recipe, prior, machine) if prior else recipe, changes)


def with_prior(recipe: TrainConfig, prior: str, machine: str) -> TrainConfig:
    """A recipe from an imported prior, in the paper's settings on a machine. A recipe from scratch starts at
    runs/PRIOR (what `anydose prior import` wrote), one that goes on at what that became."""
    for value, known in ((prior, PRIORS), (machine, MACHINES)):
        if value not in known:
            raise ValueError(f"{value!r}: one of {', '.join(known)} is accepted")
    before = f"{A.name}-{prior}" if recipe.init else prior
    return replace(
        recipe,
        name=f"{recipe.name}-{prior}",
        init=f"runs/{before}/model.safetensors",
        task=replace(recipe.task, shift=3.0),
        **PAPER,
        **MACHINES[machine],
    )


def changed(config: Config, changes: Sequence[str]) -> Config:
    """A configuration with `key=value` changes; ValueError as in `resolve`."""
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator:
            raise ValueError(f"{change!r}: key=value is accepted")
        config = _changed(config, key.split("."), yaml.safe_load(text), change)
    return config


def _as_float(value: Any) -> Any:
    """A number as float, 1e-3 too, which YAML takes for text; anything else as it is."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


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
    if isinstance(old, float):
        value = _as_float(value)
    if is_dataclass(old) or type(value) is not type(old):
        raise ValueError(f"{change!r}: {type(old).__name__} is accepted, {value!r} found")
    return replace(config, **{keys[0]: value})
