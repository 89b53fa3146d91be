"""What is trained at each step: drawn first as a small record, then applied. The record depends on (seed,
number of the example) alone, so a resumed run draws exactly what an uninterrupted one would have drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anydose.diffusion.flow import shifted

EPOCH_STREAM = 1 << 20  # second word of the seeds that order an epoch: no example has so high a number
FIELD_STEP_DEG = 40.0  # between two of nine equispaced beams: a rotation by it maps the beams onto themselves


@dataclass(frozen=True)
class TaskConfig:
    """Which targets, conditions, times and augmentations are drawn."""

    dose_share: float = 1.0
    """Probability that the target is the dose; else it is one of `targets`."""
    targets: tuple[str, ...] = ()
    """Targets beside the dose, each as often as it is named; () for any modality of the case."""
    condition_keep_probability: tuple[float, float] = (0.95, 0.95)
    """Probability that a condition stays visible, at the first and at the last step (a curriculum)."""
    t1_probability: float = 0.5
    """Probability of t = 1, where few-step sampling lives; all other times are uniform in (0, 1)."""
    shift: float = 1.0
    """Moves those other times towards noise (Wan's flow shift, diffusion/flow.py); 1 leaves them."""

    left_right: bool = True
    """Mirror half of the examples left to right."""
    cranio_caudal: bool = True
    """Mirror half of the examples head to feet."""
    shifts: bool = True
    """Draw the place of the crop and of the padding; False centres both."""
    rotation_probability: float = 0.0
    """Probability of a rotation by a multiple of 40 degrees, which maps nine equispaced beams onto
    themselves."""
    rotation_jitter_deg: float = 0.0
    """Largest further rotation, in degrees."""
    zoom: float = 0.0
    """Largest share by which voxels get finer or coarser in the plane."""
    deformation_mm: float = 0.0
    """Root mean square of a smooth displacement of anatomy, beams and dose together in the plane, in mm."""
    unaugmented_probability: float = 0.0
    """Probability of neither rotation, zoom nor deformation."""


FORMER_NAMES = {  # settings of runs, records and commands made before they got their present names
    "keep": "condition_keep_probability",
    "at_one": "t1_probability",
    "turns": "rotation_probability",
    "tilt_deg": "rotation_jitter_deg",
    "bend_mm": "deformation_mm",
    "as_is": "unaugmented_probability",
}

ANY2ANY = TaskConfig(dose_share=1 / 7, condition_keep_probability=(0.5, 0.9))


@dataclass(frozen=True)
class Augmentation:
    """What else a patient could look like; the defaults leave it as it is."""

    left_right: bool = False
    """Mirrored left to right."""
    cranio_caudal: bool = False
    """Mirrored head to feet."""
    offset: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Place of crop and padding along (z, y, x), each in [0, 1]."""
    rotation_deg: float = 0.0
    """Rotation in the plane, in degrees."""
    zoom: float = 1.0
    """Voxels in the plane are finer by this factor."""
    deformation_mm: float = 0.0
    """Root mean square of the displacement, in mm."""


@dataclass(frozen=True)
class Draw:
    """One training example before it is made."""

    case: int
    """Number of the case in its cohort."""
    target: str
    """The modality that is noised and learned."""
    visible: tuple[str, ...]
    """The modalities that are given."""
    t: float
    """The time, 0 for data and 1 for noise."""
    noise_seed: int
    """Seed of the noise and of the deformation."""
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 (frozen)
    """What happens to the patient first."""


def draw(
    config: TaskConfig, modalities: Sequence[Sequence[str]], seed: int, number: int, progress: float
) -> Draw:
    """The example of this number. modalities: what each case of the cohort has; progress in [0, 1] drives the
    curriculum. Every case is seen once an epoch, in an order that changes with the epoch. ValueError if no
    case has a target."""
    rng = np.random.default_rng([seed, number])
    wants_dose = rng.random() < config.dose_share
    case = _case(config, modalities, wants_dose, seed=seed, number=number)
    have = modalities[case]
    possible = [name for name in config.targets or have if name in have]
    target = "dose" if wants_dose else possible[int(rng.integers(len(possible)))]
    first, last = config.condition_keep_probability
    keep = first + (last - first) * progress
    visible = tuple(name for name in have if name != target and rng.random() < keep)
    t = 1.0 if rng.random() < config.t1_probability else shifted(float(rng.random()), config.shift)
    augmentation, noise_seed = _augmentation(rng, config)
    return Draw(
        case=case,
        target=target,
        visible=visible,
        t=t,
        noise_seed=noise_seed,
        augmentation=augmentation,
    )


def _case(
    config: TaskConfig, modalities: Sequence[Sequence[str]], wants_dose: bool, *, seed: int, number: int
) -> int:
    """The case of an example, among those that have what it wants."""
    asked = ("dose",) if wants_dose else config.targets
    usable = [k for k, names in enumerate(modalities) if not asked or set(asked) & set(names)]
    if not usable:
        raise ValueError(f"no case of the cohort has {' or '.join(asked)}, which is to be learned")
    epoch, place = divmod(number, len(usable))
    order = np.random.default_rng([seed, EPOCH_STREAM, epoch]).permutation(len(usable))
    return usable[int(order[place])]


def _augmentation(rng: np.random.Generator, config: TaskConfig) -> tuple[Augmentation, int]:
    """An augmentation, and the seed of the noise. The order of these draws is part of a run's definition: a
    resumed run, an older one too, has to draw the same."""
    left_right, cranio_caudal = (bool(v) for v in rng.random(2) < 0.5)
    offset = tuple(float(v) for v in (rng.random(3) if config.shifts else (0.5, 0.5, 0.5)))
    noise_seed = int(rng.integers(1 << 62))
    rotated = rng.random() < config.rotation_probability
    rotation = FIELD_STEP_DEG * int(rng.integers(1, 9)) if rotated else 0.0
    jitter, zoom = (float(v) for v in 2 * rng.random(2) - 1)
    found = Augmentation(
        left_right=left_right and config.left_right,
        cranio_caudal=cranio_caudal and config.cranio_caudal,
        offset=(offset[0], offset[1], offset[2]),
    )
    if rng.random() < config.unaugmented_probability:
        return found, noise_seed
    changed = replace(
        found,
        rotation_deg=rotation + jitter * config.rotation_jitter_deg,
        zoom=1 + zoom * config.zoom,
        deformation_mm=config.deformation_mm,
    )
    return changed, noise_seed
