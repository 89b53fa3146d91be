"""What is trained at each step: drawn first as a small record, then applied. The record depends on (seed,
step) alone, so a resumed run draws exactly what an uninterrupted one would have drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anydose.diffusion.flow import shifted


@dataclass(frozen=True)
class TaskConfig:
    """Which targets, conditions and times are drawn.

    dose_share: probability that the target is the dose (else any modality, uniformly, or one of `targets`
    where any are named, each as often as it is); keep: probability that a condition stays visible, from the
    first step to the last (stage A's curriculum: more and more conditions); at_one: probability of t = 1,
    where few-step sampling lives, the rest uniform in (0, 1); shift: moves those towards noise (Wan's flow
    shift, diffusion/flow.py; 1: not at all).

    What else a patient could look like: left_right, cranio_caudal: mirrored in half of the steps; shifts: the
    place of the crop; turns: probability of a turn by a multiple of 40 degrees, which maps nine equispaced
    fields onto themselves; tilt_deg: a turn of at most so much beside; zoom: voxels finer or coarser in the
    plane by at most this share; bend_mm: anatomy, beams and dose displaced together in the plane, smoothly
    (sample.bend), by this much in the root mean square; as_is: probability of none of these four."""

    dose_share: float = 1.0
    keep: tuple[float, float] = (0.95, 0.95)
    at_one: float = 0.5
    left_right: bool = True
    cranio_caudal: bool = True
    shifts: bool = True
    shift: float = 1.0
    turns: float = 0.0
    tilt_deg: float = 0.0
    zoom: float = 0.0
    bend_mm: float = 0.0
    as_is: float = 0.0
    targets: tuple[str, ...] = ()


ANY2ANY = TaskConfig(dose_share=1 / 7, keep=(0.5, 0.9))


@dataclass(frozen=True)
class Draw:
    """One training example before it is made."""

    case: int
    target: str
    visible: tuple[str, ...]
    t: float
    left_right: bool
    cranio_caudal: bool
    offset: tuple[float, float, float]
    noise_seed: int
    turn_deg: float = 0.0
    zoom: float = 1.0
    bend_mm: float = 0.0


def draw(
    config: TaskConfig, modalities: Sequence[Sequence[str]], seed: int, step: int, progress: float
) -> Draw:
    """The example of one step. modalities: what each case of the cohort has; progress in [0, 1] drives the
    curriculum. Every case is seen once an epoch, in an order that changes with the epoch."""
    rng = np.random.default_rng([seed, step])
    wants_dose = rng.random() < config.dose_share
    asked = ("dose",) if wants_dose else config.targets
    usable = [k for k, names in enumerate(modalities) if not asked or set(asked) & set(names)]
    if not usable:
        raise ValueError(f"no case of the cohort has {' or '.join(asked)}, which is to be learned")
    order = np.random.default_rng([seed, 1 << 20, step // len(usable)]).permutation(len(usable))
    case = usable[int(order[step % len(usable)])]
    have = modalities[case]
    possible = [name for name in config.targets or have if name in have]
    target = "dose" if wants_dose else possible[int(rng.integers(len(possible)))]
    keep = config.keep[0] + (config.keep[1] - config.keep[0]) * progress
    visible = tuple(name for name in have if name != target and rng.random() < keep)
    t = 1.0 if rng.random() < config.at_one else shifted(float(rng.random()), config.shift)
    flips = (rng.random(2) < 0.5) & np.array([config.left_right, config.cranio_caudal])
    offset = tuple(float(v) for v in (rng.random(3) if config.shifts else (0.5, 0.5, 0.5)))
    noise_seed = int(rng.integers(1 << 62))
    whole = 40.0 * int(rng.integers(1, 9)) if rng.random() < config.turns else 0.0
    tilt, zoom = 2 * rng.random(2) - 1
    changed = float(rng.random() >= config.as_is)
    return Draw(
        case,
        target,
        visible,
        t,
        bool(flips[0]),
        bool(flips[1]),
        (offset[0], offset[1], offset[2]),
        noise_seed,
        changed * (whole + float(tilt) * config.tilt_deg),
        1 + changed * float(zoom) * config.zoom,
        changed * config.bend_mm,
    )
