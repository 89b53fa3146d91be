"""Where a run starts: its model and cohort, as the configuration says, or a sentence why not."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from anydose.case.naming.vocabulary import Vocabulary
from anydose.model import registry
from anydose.model.any2any import Any2Any
from anydose.model.checkpoint import describe, load_model
from anydose.model.codec.codec import is_voxelwise
from anydose.model.codec.compact import load as load_codec
from anydose.model.lora import adapt, add_lora
from anydose.model.organs import with_organs
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort, drawn_organs
from anydose.train.latents import LatentCohort

log = logging.getLogger(__name__)


def starting_model(config: TrainConfig) -> tuple[Any2Any, dict[str, Any] | None]:
    """(the model before its first step, the record of what it goes on from). ValueError for settings that do
    not go together."""
    path = registry.find(config.init) if config.init else None
    organs = _organs_of(config)
    model = load_model(path) if path else Any2Any(replace(config.model, organs=organs or config.model.organs))
    model.adopt(config.model)
    if config.codec and not path:
        model.codec = load_codec(Path(config.codec))
    _refuse(config, model)
    if organs and organs != model.config.organs:
        model = _taught(config, model, organs)
    if config.adapter:
        adapt(model, config.lora, 0.0, config.task.targets)
    elif config.lora:
        add_lora(model, config.lora, targets=model.backbone.adapted)
    model.backbone.checkpointing = config.checkpointing
    return model, describe(path)["record"] if path else None


def _organs_of(config: TrainConfig) -> tuple[str, ...] | None:
    """The organs that a rendered cohort was drawn with; None for a latent cache, which is the model's own."""
    drawn = None if config.latents else next(iter(sorted(Path(config.data).glob("*.safetensors"))), None)
    return drawn_organs(drawn) if drawn else None


def _taught(config: TrainConfig, model: Any2Any, organs: tuple[str, ...]) -> Any2Any:
    """The model with the organs of its new cohort."""
    theirs, ours = Vocabulary(organs), Vocabulary(model.config.organs)
    if config.adapter:
        raise ValueError(
            f"adapter: {config.data} has {theirs}, and an adapter keeps {ours}; adapter=false is needed"
        )
    new = [organ for organ in organs if organ not in ours.organs]
    gone = [organ for organ in ours.organs if organ not in organs]
    log.warning(
        "%s: %s; new to the model, from nothing: %s; not used any more: %s",
        config.data, theirs, ", ".join(new) or "none", ", ".join(gone) or "none",
    )  # fmt: skip
    return with_organs(model, organs)


def cohort_of(config: TrainConfig, model: Any2Any, device: torch.device) -> Cohort | LatentCohort:
    """The patients to learn from, on `device` where they are to stay there. ValueError if there are none."""
    folder = Path(config.data)
    if config.latents:
        return LatentCohort(folder, model.codec, model.config.organs, model.config.organs_as)
    cohort = Cohort(folder, *map(Path, config.further_data))
    if config.resident:
        cohort.hold_on(device)
    return cohort


def _refuse(config: TrainConfig, model: Any2Any) -> None:
    if config.dvh and config.latents:
        raise ValueError("dvh: a latent cache holds no structures; latents=false is needed")
    if config.further_data and config.latents:
        raise ValueError("further_data: a run reads one latent cache; latents=false is needed")
    if config.resident and (config.latents or config.workers):
        raise ValueError(
            "resident: neither latents nor workers go with it; latents=false workers=0 is needed"
        )
    if model.config.keep_laterality and config.latents:
        raise ValueError("keep_laterality: a latent cache exchanges organs' names; latents=false is needed")
    if config.adapter and not (config.lora and config.init and config.task.targets):
        raise ValueError("adapter: lora, init and task.targets say of what rank, to what and for what")
    if config.organ_weight and model.config.organs_as == "levels":
        raise ValueError("organ_weight: organs as levels have no inside; model.organs_as=channels is needed")
    if config.organ_weight and not is_voxelwise(model.codec):
        raise ValueError(f"organ_weight: codec {model.codec.spec} has no voxels; identity:N has")
