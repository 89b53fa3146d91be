"""A clinic's habit: which margins it adds, what it prescribes, from where it treats and what it weighs how
much. Two clinics treat the same patient differently; a model of one has to learn the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.beams import Beam
from anydose.case.case import Case, Prescription
from anydose.simulate.planning import coplanar, refuse_other_positions

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """One planning target."""

    name: str
    """Its TG-263 name, which states the dose in cGy."""
    dose_gy: float
    """Its prescription."""
    of: tuple[str, ...]
    """The structures that it is grown from."""
    margin_mm: float
    """How far it is grown on every side but the back."""
    posterior_mm: float
    """How far towards the back, where the rectum lies."""


@dataclass(frozen=True)
class Limit:
    """A dose that a structure shall stay below; voxels above it cost the square of what they are above."""

    structure: str
    """Its TG-263 name."""
    share: float
    """The dose, as a share of the highest prescription."""
    weight: float
    """Against a target's `Habit.target_weight`; both are means over the structure's voxels."""


@dataclass(frozen=True)
class Habit:
    """How a clinic plans."""

    name: str
    """Its name."""
    gantry_deg: tuple[float, ...]
    """Where the beams come from, IEC 61217 degrees; of an arc its control points."""
    arc: bool
    """Whether they are one rotating beam."""
    targets: tuple[Target, ...]
    """The targets, the highest prescription first; a lower one is without the voxels of a higher one."""
    fractions: int
    """Their number."""
    limits: tuple[Limit, ...]
    """What the organs shall stay below."""
    target_weight: float = 300.0
    """Weight of the squared deviation from the prescription in a target, twice for too little."""
    fall_off: tuple[float, float, float] = (1.05, 0.40, 32.0)
    """Outside the targets: share of the highest prescription at their edge, far away, and the distance in
    mm over which the one becomes the other."""
    fall_off_weight: float = 30.0
    """Weight of what is above that."""
    smoothness: float = 0.02
    """Cost of steps between pixels of the fluence."""
    spread: float = 0.35
    """Standard deviation of the logarithm of each weight from patient to patient: planners differ too."""
    normalise_percent: float = 50.0
    """The dose is scaled so that so many percent of the highest target have its prescription."""


def _chhip(margin_mm: float, posterior_mm: float) -> tuple[Target, ...]:
    """60 Gy to the prostate and 48 Gy to the seminal vesicles in 20 fractions, as hypofractionated trials
    do (D. Dearnaley et al., Lancet Oncol 17, 2016)."""
    low = Target("PTV_4800", 48.0, ("Prostate", "SeminalVes"), margin_mm + 2, posterior_mm + 2)
    return (Target("PTV_6000", 60.0, ("Prostate",), margin_mm, posterior_mm), low)


SEVEN_FIELDS = Habit(
    name="prostate-imrt7",
    gantry_deg=(0.0, 50.0, 100.0, 155.0, 205.0, 260.0, 310.0),
    arc=False,
    targets=_chhip(7.0, 5.0),
    fractions=20,
    limits=(
        Limit("Rectum", 0.35, 6.0),
        Limit("Rectum", 0.65, 25.0),
        Limit("Rectum", 0.95, 60.0),
        Limit("Bladder", 0.35, 3.0),
        Limit("Bladder", 0.70, 12.0),
        Limit("Femur_Head_L", 0.40, 25.0),
        Limit("Femur_Head_R", 0.40, 25.0),
        Limit("PenileBulb", 0.45, 4.0),
        Limit("Bag_Bowel", 0.45, 10.0),
    ),
)
ARC = Habit(
    name="prostate-vmat",
    gantry_deg=tuple((182.0 + 7.5 * k) % 360 for k in range(48)),
    arc=True,
    targets=(Target("PTV_7800", 78.0, ("Prostate", "SeminalVes"), 8.0, 6.0),),
    fractions=39,
    limits=(
        Limit("Rectum", 0.30, 10.0),
        Limit("Rectum", 0.60, 40.0),
        Limit("Rectum", 0.95, 60.0),
        Limit("Bladder", 0.30, 8.0),
        Limit("Bladder", 0.65, 20.0),
        Limit("Femur_Head_L", 0.30, 30.0),
        Limit("Femur_Head_R", 0.30, 30.0),
        Limit("PenileBulb", 0.45, 2.0),
        Limit("Bag_Bowel", 0.45, 10.0),
    ),
    fall_off=(1.05, 0.28, 36.0),
)
HABITS = {habit.name: habit for habit in (SEVEN_FIELDS, ARC)}


def habit_of(name: str) -> Habit:
    """The habit of a name; ValueError names those that there are."""
    if name not in HABITS:
        raise ValueError(f"habit {name!r}: one of {', '.join(HABITS)} is accepted")
    return HABITS[name]


def set_up(case: Case, habit: Habit) -> Case:
    """The case with the habit's targets, prescription and beams (isocentre: the highest target's centroid).
    ValueError if it lacks a structure that a target is grown from, a body or head-first supine axes."""
    if case.body is None:
        raise ValueError(f"{case.name}: no body structure; a plan needs one")
    refuse_other_positions(case)
    targets: dict[str, Mask] = {}
    taken = np.zeros(case.grid.shape, dtype=bool)
    for target in habit.targets:
        grown = _grown(case, target) & case.body & ~taken
        targets[target.name] = grown
        taken |= grown
    isocentre = case.grid.centroid_mm(targets[habit.targets[0].name])
    arc = (Beam(habit.gantry_deg, isocentre, name="arc"),)
    return replace(
        case,
        structures={**case.structures, **targets},
        prescription=Prescription({t.name: t.dose_gy for t in habit.targets}, habit.fractions),
        beams=arc if habit.arc else coplanar(habit.gantry_deg, isocentre),
    )


def _grown(case: Case, target: Target) -> Mask:
    """The target's structures and what is near them: an ellipsoid about every voxel, shorter to the back."""
    parts = []
    for name in target.of:
        mask = case.find(name)
        if mask is None or not mask.any():
            raise ValueError(f"{case.name}: no {name}, which {target.name} is grown from")
        parts.append(mask)
    core = np.logical_or.reduce(parts)
    spacing = np.array(case.grid.spacing_zyx_mm)
    voxels = np.ceil(max(target.margin_mm, target.posterior_mm) / spacing).astype(int)
    steps = [np.arange(-count, count + 1) * mm for count, mm in zip(voxels, spacing, strict=True)]
    z, y, x = np.meshgrid(*steps, indexing="ij")
    along_y = np.where(y > 0, target.posterior_mm, target.margin_mm)
    near = (x / target.margin_mm) ** 2 + (y / along_y) ** 2 + (z / target.margin_mm) ** 2 <= 1
    grown: Mask = ndimage.binary_dilation(core, near)
    return grown
