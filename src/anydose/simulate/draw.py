"""What a simulated plan is made from, drawn from (seed, number) and the patients' names alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anydose.case.names import HEAD_NECK

CLINIC_DEG = tuple(40.0 * k for k in range(9))  # the OpenKBP protocol
KINDS = ("clinic", "equispaced", "free")
SHARES = (0.2, 0.5, 0.3)
FEWEST, MOST = 5, 11
APART_DEG = 15.0  # closest two free beams
HOT, HOT_WEIGHT = 1.0, 5000.0  # beyond this part of the highest prescription no dose outside the targets


@dataclass(frozen=True)
class Draw:
    """What one plan is made from."""

    seed: int
    """Whose draws these are."""
    number: int
    """Which of them, from 0."""
    patient: str
    """The patient's name."""
    beams: str
    """The kind of arrangement, one of KINDS."""
    gantry_deg: tuple[float, ...]
    """The beams: IEC 61217 degrees, coplanar."""
    target_weight: float
    """Weight of every target's goal."""
    organ_weights: tuple[float, ...]
    """Weight of each organ's limit, in the order of the vocabulary's channels."""
    organ_limits: tuple[float, ...]
    """Each organ's limit as a part of the highest prescription."""
    body_weight: float
    """Weight of the limit of the rest of the body."""
    body_limit: float
    """That limit as a part of the highest prescription."""
    scale: float
    """The median dose of the highest target over its prescription."""

    @property
    def name(self) -> str:
        """The stored case's name."""
        return f"{self.patient}_s{self.seed}_{self.number:05d}"

    @property
    def says(self) -> str:
        """The beams, in words."""
        return f"{self.beams}, {len(self.gantry_deg)} beams"


def draw(seed: int, number: int, patients: Sequence[str], organs: int = len(HEAD_NECK.organs)) -> Draw:
    """Plan `number` of `seed`: every patient comes once, in random order, before any comes again. organs: how
    many channels the vocabulary has."""
    turn, place = divmod(number, len(patients))
    order = np.random.default_rng([seed, 0, turn]).permutation(len(patients))
    chance = np.random.default_rng([seed, 1, number])
    kind = str(chance.choice(KINDS, p=SHARES))
    angles = gantry_angles(kind, int(chance.integers(FEWEST, MOST + 1)), chance)

    def between(low: float, high: float, count: int = 1) -> tuple[float, ...]:
        return tuple(round(float(v), 4) for v in chance.uniform(low, high, count))

    def weights(low: float, high: float, count: int = 1) -> tuple[float, ...]:
        return tuple(round(float(10**v), 3) for v in chance.uniform(np.log10(low), np.log10(high), count))

    return Draw(
        seed=seed,
        number=number,
        patient=patients[int(order[place])],
        beams=kind,
        gantry_deg=angles,
        target_weight=weights(500, 2000)[0],
        organ_weights=weights(3, 100, organs),
        organ_limits=between(0.2, 0.7, organs),
        body_weight=weights(20, 200)[0],
        body_limit=between(0.3, 0.6)[0],
        scale=between(0.97, 1.05)[0],
    )


def gantry_angles(kind: str, count: int, chance: np.random.Generator) -> tuple[float, ...]:
    """Angles in [0, 360), ascending: the clinic's nine, `count` at equal angles from a random start, or
    `count` with random gaps of at least APART_DEG."""
    if kind == "clinic":
        return CLINIC_DEG
    if kind == "equispaced":
        found = chance.uniform(0, 360) + 360.0 * np.arange(count) / count
    else:
        gaps = APART_DEG + (360.0 - count * APART_DEG) * chance.dirichlet(np.ones(count))
        found = chance.uniform(0, 360) + np.cumsum(gaps)
    return tuple(float(a) for a in np.sort(np.round(found % 360, 1) % 360))
