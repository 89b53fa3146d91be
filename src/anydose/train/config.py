"""The settings of one training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anydose.model.any2any import ModelConfig, config_from_dict
from anydose.train.tasks import FORMER_NAMES, TaskConfig


@dataclass(frozen=True)
class TrainConfig:
    """One named run, fully resolved. Groups: data, model, task and loss, optimiser, run."""

    data: str = "runs/rendered/train"
    """Folder of rendered cases (`anydose render`), or the cohort whose latents were encoded."""
    further_data: tuple[str, ...] = ()
    """Further folders of rendered cases, learned from with those of `data`; one that is named twice counts
    twice."""
    crop: tuple[int, ...] = ()
    """At most so many voxels along (z, y, x), then cut to the body inside them; () for whole patients."""
    latents: bool = False
    """Train from the cohort's latent cache (`anydose prior encode`), so that the codec never runs."""

    validation: str = ""
    """Folder of rendered cases that are held out and looked at in training; '' looks at none."""
    validate_every: int = 0
    """Steps between two looks at them."""
    validation_cases: int = 8
    """How many of them are looked at, the first in name order; 0 looks at all."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model to build; of a run that starts from `init`, only what `Any2Any.adopt` names is used."""
    init: str = ""
    """Checkpoint to start from: a shipped model's name or a file; '' starts from random weights."""
    codec: str = ""
    """File of a learned codec, for a start from random weights."""
    lora: int = 0
    """Rank of the adapters that learn in the place of the blocks' layers; 0 trains the layers themselves."""
    adapter: bool = False
    """Train adapters of rank `lora` and the read-outs of the task's targets, and save them as a file beside
    the model that names `init` as its base."""

    task: TaskConfig = field(default_factory=TaskConfig)
    """Which targets, conditions, times and augmentations are drawn."""
    objective: str = "diffusion"
    """'diffusion', or 'regression': the baseline without noise, in one step."""
    error: str = "absolute"
    """'absolute' or 'squared' error of v. In one step from t = 1 the former gives the median, which the
    scores reward, and the latter the mean."""
    sampling_steps: int = 1
    """Network evaluations a sample that the model is trained for; its checkpoint says so, and validation and
    `predict` use as many."""
    mimic: bool = True
    """Whether its doses are moved towards what the beams can deliver; its checkpoint says so."""
    dvh: float = 0.0
    """Weight of the area between DVH curves, beside the error of v."""
    dvh_points: float = 0.0
    """Weight, within `dvh`, of the curves' means and ends (losses.dvh_loss)."""
    organ_weight: float = 0.0
    """How often the voxels of an organ count where organs are the target (losses.organ_loss); 0 uses the loss
    of every other target."""

    steps: int = 4000
    """Optimiser steps, at the number of processes that the run was started with."""
    epochs: int = 0
    """Passes over the cohort, in the place of `steps`; 0 uses `steps`."""
    accumulate: int = 1
    """Examples a step and process, whose gradients are averaged."""
    optimiser: str = "adamw"
    """'adamw', or 'muon' for the hidden layers with AdamW for the rest."""
    learning_rate: float = 6e-4
    """Learning rate after the warm-up."""
    last_rate: float = 0.0
    """Share of `learning_rate` left at the last step; 1 keeps it constant after the warm-up."""
    full_rate_inputs: int = 0
    """Layers of more inputs than this have a smaller share of AdamW's rate (optimiser.rate_share); 0 gives
    all of them all of it."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay; 0 makes AdamW plain Adam."""
    clip: float = 1.0
    """Largest gradient norm; a larger gradient is scaled down to it."""
    ema: float = 0.998
    """Final decay of the averaged weights, which are what is saved and shipped."""

    name: str = "any2any"
    """Name of the run; it lies in the folder `out`/`name`."""
    out: str = "runs"
    """Folder of all runs."""
    seed: int = 0
    """Seed of weights, draws and noise."""
    precision: str = "bf16"
    """'bf16' (autocast) or 'fp32'."""
    threads: int = 0
    """Threads of torch on a CPU; 0 leaves them as they are."""
    workers: int = 0
    """Processes that prepare examples; 0 prepares them in this one."""
    resident: bool = False
    """Keep the whole cohort in the memory of the GPU (8 GB for 200 of OpenKBP) and change patients there, in
    the place of `workers`."""
    side_by_side: int = 1
    """Examples of a step computed at once, a thread each, on a CPU."""
    save_every: int = 250
    """Steps between two checkpoints."""
    tensorboard: bool = False
    """Write event files for TensorBoard beside the log (needs anydose[tensorboard])."""
    checkpointing: bool = False
    """Recompute a transformer's blocks in the backward pass: less memory, more time."""


def train_config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """A TrainConfig from its `asdict` form, as a run state or a record holds it. Settings that are younger
    get their defaults, and settings of a former name their present one."""
    task = {FORMER_NAMES.get(key, key): value for key, value in values["task"].items()}
    others = {key: _tuple(value) for key, value in values.items() if key not in ("model", "task")}
    return TrainConfig(
        model=config_from_dict(values["model"]),
        task=TaskConfig(**{key: _tuple(value) for key, value in task.items()}),
        **others,
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
