"""The settings of one post-training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anydose.model import registry


@dataclass(frozen=True)
class PostConfig:
    """One post-training run, fully resolved. Groups: data, reward, candidates, loss, optimiser, run."""

    base: str = registry.DEFAULT
    """The model to start from: a shipped model's name or a file."""
    data: str = "runs/rendered/train"
    """Folder of rendered cases (`anydose render`)."""
    cases: str = "runs/cases/train"
    """The same cases' cohort store (`anydose data convert`), for structures and reference doses."""
    most_voxels: int = 0
    """Use only cases whose rendered block has no more voxels; 0 uses all."""

    reward: str = "head_neck_70_63_56"
    """A packaged reward's name or a YAML file."""
    anchor: bool = True
    """Keep the reward's MAE anchor, hard constraints and stop rule; False leaves the bare scorecard."""

    method: str = "nft"
    """'nft' (the dual loss), or a control: 'direct' (gradient of the reward) or 'ddpo' (policy gradient)."""
    patients: int = 4
    """Patients a step."""
    candidates: int = 8
    """Doses sampled a patient, K."""
    sampler: str = "dpm2m"
    """A name of diffusion.sampler.SAMPLERS."""
    sampling_steps: int = 2
    """Network evaluations a candidate."""
    coarse_share: float = 0.05
    """Share of the starting noise's variance that is common to blocks (candidates.starting_noise)."""
    coarse_block: int = 8
    """Edge of those blocks, in latent voxels."""

    spread: float = 1.0
    """Standard deviations of reward that stand for the optimalities r = 0 and 1."""
    beta: float = 1.0
    """How far the implied policies of the dual loss lie from the old one."""
    t1_probability: float = 0.9
    """Probability of learning at t = 1, where one evaluation may serve all candidates; else t is uniform."""
    pairs: int = 1
    """Candidates learned from at any other time."""
    diffusion_weight: float = 1.5
    """Weight of the diffusion loss on the reference dose."""
    kl: float = 1e-4
    """Weight of the squared distance of v to the base model's."""
    ratio_clip: float = 0.2
    """Clip of the importance ratio (ddpo)."""

    rank: int = 16
    """Rank of the adapter."""
    alpha: float = 32.0
    """Scale of the adapter times its rank."""
    learning_rate: float = 3e-4
    """Learning rate after the warm-up."""
    warmup: int = 5
    """Steps of linear warm-up."""
    final_rate: float = 0.1
    """Share of `learning_rate` left at the last step."""
    clip: float = 1.0
    """Largest gradient norm; a larger gradient is scaled down to it."""
    old_rate: float = 0.001
    """The policy that samples keeps min(old_rate x step, old_most) of itself at each step."""
    old_most: float = 0.5
    """Most that it keeps."""
    ema: float = 0.9
    """Final decay of the averaged adapter, which is what is saved."""

    name: str = "posttrain"
    """Name of the run; it lies in the folder `out`/`name`."""
    out: str = "runs"
    """Folder of all runs."""
    steps: int = 80
    """Optimiser steps."""
    minutes: float = 0.0
    """Minutes of training that end the run before `steps`; 0 sets no limit."""
    watch: int = 12
    """Patients kept out of training, for the stop rule and to keep the best adapter; 0 keeps the last one."""
    watch_every: int = 5
    """Steps between two looks at them."""
    save_every: int = 5
    """Steps between two checkpoints."""
    seed: int = 0
    """Seed of draws and noise."""
    precision: str = "bf16"
    """'bf16' (autocast) or 'fp32'."""
    checkpointing: bool = False
    """Recompute a transformer's blocks in the backward pass: less memory, more time (posttrain/memory.py)."""
    threads: int = 0
    """Threads of torch on a CPU; 0 leaves them as they are."""
    workers: int = 2
    """Threads that compute rewards while other patients are sampled."""


FORMER_NAMES = {"at_one": "t1_probability"}


def post_config_from_dict(values: Mapping[str, Any]) -> PostConfig:
    """A PostConfig from its `asdict` form, as a run state holds it: settings that are younger get their
    defaults, settings of a former name their present one."""
    return PostConfig(**{FORMER_NAMES.get(key, key): value for key, value in values.items()})
