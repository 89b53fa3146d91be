"""The settings of one post-training run."""

from __future__ import annotations

from dataclasses import dataclass

from anydose.model import registry


@dataclass(frozen=True)
class PostConfig:
    """One post-training run, fully resolved.

    base: a model's name or file; data: drawn cases (`anydose render`); cases: the same cases' cohort store
    (`anydose data convert`); most_voxels: only cases whose drawn block has no more (0: all); reward: a
    packaged reward or a YAML file; anchor: False takes MAE anchor, constraints and guard away; method: nft,
    direct or ddpo. steps or, where not 0, minutes of training end the run. patients: a step; candidates: a
    patient, in `sampling_steps` of `sampler`; coarse_share, coarse_block: candidates.starting_noise. spread:
    standard deviations of reward that stand for r = 0 and 1; beta: of the dual loss; at_one: probability of
    learning at t = 1, else uniform with `pairs` candidates; diffusion_weight, kl: what keeps it in place;
    rank, alpha: of the adapter; warmup, final_rate: of the learning rate; old_rate, old_most, ema:
    Policy.follow; ratio_clip: of ddpo; watch: patients kept out of training, looked at every `watch_every`
    steps for the guard and to keep the best adapter (0: the last is kept); threads: of torch; workers:
    reward threads."""

    name: str = "scardnft"
    base: str = registry.DEFAULT
    data: str = "runs/rendered/train"
    cases: str = "runs/cases/train"
    most_voxels: int = 0
    out: str = "runs"
    reward: str = "head_neck_70_63_56"
    anchor: bool = True
    method: str = "nft"
    steps: int = 80
    minutes: float = 0.0
    patients: int = 4
    candidates: int = 8
    sampler: str = "dpm2m"
    sampling_steps: int = 2
    coarse_share: float = 0.05
    coarse_block: int = 8
    spread: float = 1.0
    beta: float = 1.0
    at_one: float = 0.9
    pairs: int = 1
    diffusion_weight: float = 1.5
    kl: float = 1e-4
    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 3e-4
    warmup: int = 5
    final_rate: float = 0.1
    clip: float = 1.0
    old_rate: float = 0.001
    old_most: float = 0.5
    ema: float = 0.9
    ratio_clip: float = 0.2
    watch: int = 12
    watch_every: int = 5
    save_every: int = 5
    seed: int = 0
    precision: str = "bf16"
    threads: int = 0
    workers: int = 2
