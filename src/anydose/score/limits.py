"""What no total can make up for: hard limits, target coverage, and dose where no target is.

A total adds points, so a dose that misses every target can gain more by sparing organs than a delivered plan
does. These figures stand beside the total, and two doses of one case are ordered by them first (`standing`):
limits that could not be checked, how far limits are broken, the lowest target coverage, then the points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from anydose.case.case import Case, Mask
from anydose.score import metrics
from anydose.score.dvh import DVH
from anydose.score.hard_limit import HardLimit

COVERED = 0.95  # of its prescription: a target's voxel with so much is covered
KEPT, BROKEN, NOT_CHECKED = "kept", "broken", "not checked"
SPILL = "Body outside the targets"


@dataclass(frozen=True)
class LimitResult:
    """One hard limit of one dose."""

    structure: str
    """What the limit is about."""
    metric: str
    """As clinics write it: 'D95%[Gy]'."""
    limit: str
    """'at least 66.5 Gy'."""
    value: float | None
    """What the dose has, None where it was not checked."""
    state: str
    """KEPT, BROKEN or NOT_CHECKED: what has no structure is not checked, never kept."""
    excess: float = 0.0
    """By how much of itself the limit is broken; 0 where it is kept."""
    why: str = ""
    """Why it was not checked."""


@dataclass(frozen=True)
class TargetCoverage:
    """How one target is covered; None where the dose does not meet all of it."""

    structure: str
    level_gy: float
    v95_percent: float | None
    """Percent of the target with at least 95 % of its prescription."""
    d95_gy: float | None
    """The dose that 95 % of the target receives."""


def limits_of(case: Case, stated: tuple[HardLimit, ...]) -> tuple[HardLimit, ...]:
    """The limits `stated` by the scorecard; and for every target that it has none for, that D95% is at least
    95 % of its prescription."""
    named = {limit.structure for limit in stated}
    levels = sorted(case.prescription.levels_gy.items(), key=lambda level: -level[1])
    own = [(name, gy) for name, gy in levels if name not in named]
    return (*stated, *(HardLimit(name, "D95%[Gy]", at_least=round(COVERED * gy, 3)) for name, gy in own))


def checked(limit: HardLimit, histogram: Callable[[], DVH], total_gy: float | None) -> LimitResult:
    """One limit against the histogram of its structure; a ValueError of `histogram` is why it was not."""
    of = metrics.parse(limit.metric)
    try:
        value = metrics.as_float(metrics.evaluate(of, histogram(), None, total_gy))
    except ValueError as error:
        return LimitResult(limit.structure, limit.metric, limit.text, None, NOT_CHECKED, why=str(error))
    excess = limit.excess(value)
    state = BROKEN if excess > 0 else KEPT
    return LimitResult(limit.structure, limit.metric, limit.text, value, state, excess)


def spilled(case: Case) -> tuple[Mask, float] | None:
    """The body outside all targets (d, h, w), and the targets' volume in cc; None without targets or body.

    More than the targets' own volume at 95 % of the highest prescription outside of them is no treatment
    plan: a uniform dose has it, and conformal plans have a part of it (RTOG conformity index 1 to 2)."""
    bodies, targets = list(case.of_role("body").values()), list(case.targets.values())
    if len(bodies) != 1 or not targets:
        return None
    target = np.logical_or.reduce(targets)
    return bodies[0] & ~target, float(target.sum() * case.grid.voxel_cc)


def coverage(case: Case, histogram: Callable[[str], DVH]) -> tuple[TargetCoverage, ...]:
    """Coverage of every target with a prescription, the highest first. histogram: that of a target."""
    found = []
    for name, level_gy in sorted(case.prescription.levels_gy.items(), key=lambda level: -level[1]):
        try:
            of = histogram(name)
        except ValueError:
            found.append(TargetCoverage(name, level_gy, None, None))
            continue
        v95 = 100.0 * of.volume_at_gy(COVERED * level_gy) / of.volume_cc
        found.append(TargetCoverage(name, level_gy, v95, of.dose_at_cc(0.95 * of.volume_cc)))
    return tuple(found)


def counts(limits: tuple[LimitResult, ...]) -> Mapping[str, int]:
    """How many limits are in each state."""
    states = [row.state for row in limits]
    return {state: states.count(state) for state in (KEPT, BROKEN, NOT_CHECKED)}


def standing(
    limits: tuple[LimitResult, ...], targets: tuple[TargetCoverage, ...], percent: float
) -> tuple[int, float, float, float]:
    """Sorts doses of one case, the better one first: fewer unchecked limits and targets, less excess over
    all limits (to 1 % of a limit), higher lowest V95 (to 1 %), more points."""
    unknown = counts(limits)[NOT_CHECKED] + sum(row.v95_percent is None for row in targets)
    excess = round(sum(row.excess for row in limits), 2)
    lowest = min((row.v95_percent for row in targets if row.v95_percent is not None), default=0.0)
    return unknown, excess, -float(round(lowest)), -percent
