"""Where a run starts: its model and cohort, as the configuration says, or a sentence why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anydose.model import registry
from anydose.model.any2any import Any2Any
from anydose.model.checkpoint import describe, load_model
from anydose.model.codec.codec import is_voxelwise
from anydose.model.codec.compact import load as load_codec
from anydose.model.lora import adapt, add_lora
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.latents import LatentCohort


def starting_model(config: TrainConfig) -> tuple[Any2Any, dict[str, Any] | None]:
    """(the model before its first step, the record of what it goes on from). ValueError for settings that do
    not go together."""
    path = registry.find(config.init) if config.init else None
    model = load_model(path) if path else Any2Any(config.model)
    model.adopt(config.model)
    if config.codec and not path:
        model.codec = load_codec(Path(config.codec))
    _refuse(config, model)
    if config.adapter:
        adapt(model, config.lora, 0.0, config.task.targets)
    elif config.lora:
        add_lora(model, config.lora, targets=model.backbone.adapted)
    model.backbone.checkpointing = config.checkpointing
    return model, describe(path)["record"] if path else None


def cohort_of(config: TrainConfig, model: Any2Any, device: torch.device) -> Cohort | LatentCohort:
    """The patients to learn from, on `device` where they are to stay there. ValueError if there are none."""
    folder = Path(config.data)
    if config.latents:
        return LatentCohort(folder, model.codec)
    cohort = Cohort(folder)
    if config.resident:
        cohort.hold_on(device)
    return cohort


def _refuse(config: TrainConfig, model: Any2Any) -> None:
    if config.dvh and config.latents:
        raise ValueError("dvh: a latent cache holds no structures; latents=false is needed")
    if config.resident and (config.latents or config.workers):
        raise ValueError(
            "resident: neither latents nor workers go with it; latents=false workers=0 is needed"
        )
    if model.config.keep_laterality and config.latents:
        raise ValueError("keep_laterality: a latent cache exchanges organs' names; latents=false is needed")
    if config.adapter and not (config.lora and config.init and config.task.targets):
        raise ValueError("adapter: lora, init and task.targets say of what rank, to what and for what")
    if config.organ_weight and not is_voxelwise(model.codec):
        raise ValueError(f"organ_weight: codec {model.codec.spec} has no voxels; identity:N has")
