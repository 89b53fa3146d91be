"""Plans by the package's own rays (inverse.py): a second or two each, and nothing to install. The goals are
those that pyradplan.py hands over: in every target a dose, in every organ and in the rest of the body a
limit, each weighed by the mean over its voxels; a voxel counts for the first of these that it lies in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.case.dose_mimicking import influence
from anydose.case.naming.vocabulary import Vocabulary
from anydose.io.plan_options import isocentre
from anydose.simulate.draw import HOT, HOT_WEIGHT, Draw, draw
from anydose.simulate.inverse import RAYS, Goal, optimised
from anydose.simulate.planning import coplanar, plain, refuse_unplannable, scaled_to_prescription, with_plan

ITERATIONS = 60
SMOOTHNESS = 0.02  # of the fluence, against the weight of a target
THINNED = 3  # one in so many voxels outside targets and organs bounds the dose there


@dataclass(frozen=True)
class Rays:
    """Plans of many beam arrangements and priorities, without scatter, build-up and leaves."""

    vocabulary: Vocabulary
    """Each of its channels has a limit of its own."""

    def draw(self, seed: int, number: int, patients: Sequence[str]) -> Draw:
        """What a plan is made from."""
        return draw(seed, number, patients, len(self.vocabulary.organs))

    def about(self, chosen: Draw) -> dict[str, Any]:
        """What a stored plan says of its making."""
        return {"planner": "rays", "draw": plain(chosen)}

    def plan(self, case: Case, chosen: Draw, scratch: Path) -> tuple[Case, dict[str, Any]]:
        """The case with the plan's beams and dose. ValueError where no plan is possible."""
        begin = time.monotonic()
        refuse_unplannable(case)
        beams = coplanar(chosen.gantry_deg, isocentre(case)[0])
        dose = dose_of_plan(replace(case, beams=beams, dose=None), chosen, self.vocabulary)
        said = "dose and beams: a simulated plan (the package's own rays), not the clinic's"
        made = with_plan(case, chosen.name, beams, dose, said)
        return made, {"seconds": round(time.monotonic() - begin, 2)}


def dose_of_plan(case: Case, chosen: Draw, vocabulary: Vocabulary) -> NDArray[np.float32]:
    """The dose (d, h, w) in Gy of the plan of a case with its beams."""
    assert case.body is not None
    influenced = influence(case, RAYS)
    body = np.flatnonzero(case.body)
    reached = np.flatnonzero(np.diff(influenced.dose.indptr))
    wanted = goals(case, chosen, vocabulary, body[reached])
    used = np.unique(np.concatenate([goal.rows for goal in wanted]))
    place = np.full(len(reached), -1, dtype=np.intp)
    place[used] = np.arange(len(used))
    on_used = replace(influenced, dose=influenced.dose[reached[used]])
    wanted = [replace(goal, rows=place[goal.rows]) for goal in wanted]
    fluence = optimised(on_used, wanted, SMOOTHNESS * chosen.target_weight, ITERATIONS)
    dose = np.zeros(case.grid.shape, np.float32)
    dose.reshape(-1)[body] = influenced.dose @ fluence
    return scaled_to_prescription(dose, case, chosen.scale, chosen.name)


def goals(case: Case, chosen: Draw, vocabulary: Vocabulary, voxels: NDArray[np.intp]) -> list[Goal]:
    """The draw's goals, the highest target's first. voxels: flat indices of those that the beams reach, which
    are the goals' rows."""
    assert case.body is not None
    taken = np.zeros(len(voxels), dtype=bool)
    found: list[Goal] = []

    def add(rows: NDArray[np.intp], dose_gy: float, too_little: float, too_much: float) -> None:
        """One goal; weights are shared out over its voxels."""
        if len(rows):
            dose, share = np.full(len(rows), dose_gy, np.float32), 1 / len(rows)
            found.append(Goal(rows, dose, too_little=too_little * share, too_much=too_much * share))

    def rows_of(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The rows of a mask that nothing before has taken."""
        rows = np.flatnonzero(mask.reshape(-1)[voxels] & ~taken)
        taken[rows] = True
        return rows

    weight = chosen.target_weight
    for name, gy in sorted(case.prescription.levels_gy.items(), key=lambda level: -level[1]):
        add(rows_of(case.structures[name]), gy, too_little=weight, too_much=weight)
    most = case.rx_max_gy
    for name, mask in case.of_role("oar").items():
        channel = vocabulary.channel(case.meaning(name))
        if channel is not None:  # else it is a part of the rest
            limit = chosen.organ_limits[channel] * most
            add(rows_of(mask), limit, too_little=0.0, too_much=chosen.organ_weights[channel])
    rest = rows_of(case.body)[::THINNED]
    for limit, cost in ((chosen.body_limit, chosen.body_weight), (HOT, HOT_WEIGHT)):
        add(rest, limit * most, too_little=0.0, too_much=cost)
    return found
