"""Inverse planning with the package's own rays: the fluence, nowhere negative, of the least cost, by
L-BFGS-B.

A plan takes two to five seconds. The dose is that of case/dose_mimicking.py: fluence on diverging rays,
weakened by the tissue that it has passed; no scatter, no build-up, no leaves. pyRadPlan (planner.py) knows
more and takes ten times as long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse

from anydose.case.case import Case
from anydose.case.dose_mimicking import DoseInfluence, MimicConfig, influence
from anydose.case.grid import Floats
from anydose.case.volume import Volume
from anydose.simulate.habit import Habit, set_up

ITERATIONS = 120
RAYS = MimicConfig(pixel_mm=5.0, margin_pixels=1)
LEAST_WEIGHT = 1e-12

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Goal:
    """A dose wanted in some rows of the influence matrix: voxels beyond it cost the square of how far."""

    rows: NDArray[np.intp]
    """Which rows."""
    dose_gy: Values
    """The dose, one for each row."""
    too_little: float
    """Cost of a squared Gy below it, already divided by the number of rows."""
    too_much: float
    """The same above it."""


def planned(case: Case, habit: Habit, seed: int = 0) -> Case:
    """The case with the targets, beams and dose of a plan by this habit; `seed` draws how much this planner
    weighs each goal. ValueError as in `set_up`, and where no beam reaches the targets."""
    plan = set_up(case, habit)
    assert plan.body is not None
    influenced = influence(plan, RAYS)
    body = np.flatnonzero(plan.body)
    reached = np.flatnonzero(np.diff(influenced.dose.indptr))
    near = replace(influenced, dose=influenced.dose[reached])
    wanted = goals(plan, habit, body[reached], np.random.default_rng([seed, 7]))
    fluence = optimised(near, wanted, habit.smoothness * habit.target_weight)

    dose = np.zeros(plan.grid.shape, np.float32)
    dose.reshape(-1)[body[reached]] = near.dose @ fluence
    highest = habit.targets[0]
    middle = float(np.percentile(dose[plan.structures[highest.name]], 100 - habit.normalise_percent))
    if not middle > 0:
        raise ValueError(f"{case.name}: no beam reaches {highest.name}")
    dose *= np.float32(highest.dose_gy / middle)
    said = f"targets, beams and dose: simulated by the habit {habit.name}, not a clinic's"
    return replace(plan, dose=Volume(dose, plan.grid, "Gy"), inferred=(*plan.inferred, said))


def goals(plan: Case, habit: Habit, voxels: NDArray[np.intp], chance: np.random.Generator) -> list[Goal]:
    """The habit's goals for a case that is set up, among the voxels (flat indices) that the rows are of; each
    weight is multiplied by a number that `chance` draws around one."""
    row_of = np.full(int(np.prod(plan.grid.shape)), -1, dtype=np.intp)
    row_of[voxels] = np.arange(len(voxels))

    def rows(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        found = row_of[mask.reshape(-1)]
        return found[found >= 0]

    def drawn(weight: float) -> float:
        return weight * float(np.exp(habit.spread * chance.standard_normal()))

    targets = np.logical_or.reduce([plan.structures[target.name] for target in habit.targets])
    beside_highest = _fall_off(plan, plan.structures[habit.targets[0].name], habit)
    found: list[Goal] = []
    for target in habit.targets:
        inside = rows(plan.structures[target.name])
        cost = drawn(habit.target_weight) / max(len(inside), 1)
        least = np.full(len(inside), target.dose_gy, np.float32)
        most = least if target is habit.targets[0] else np.maximum(least, beside_highest[voxels[inside]])
        found.append(Goal(inside, least, too_little=2 * cost, too_much=0.0))
        found.append(Goal(inside, most, too_little=0.0, too_much=cost))
    for limit in habit.limits:
        weight, mask = drawn(limit.weight), plan.find(limit.structure)
        if mask is not None:
            inside = rows(mask & ~targets)
            dose = np.full(len(inside), limit.share * plan.rx_max_gy, np.float32)
            found.append(Goal(inside, dose, too_little=0.0, too_much=weight / max(int(mask.sum()), 1)))
    outside = rows(~targets)
    cost = drawn(habit.fall_off_weight) / max(int(targets.sum()), 1)
    beside_any = _fall_off(plan, targets, habit, lowest=True)
    allowed = np.maximum(beside_highest, beside_any)[voxels[outside]]
    return [*found, Goal(outside, allowed, too_little=0.0, too_much=cost)]


def _fall_off(plan: Case, target: NDArray[np.bool_], habit: Habit, lowest: bool = False) -> Values:
    """The dose in Gy (flat) that the habit allows outside a target, which falls with the distance from it;
    from the highest prescription, or from the lowest one."""
    edge, far, over_mm = habit.fall_off
    from_gy = min(t.dose_gy for t in habit.targets) if lowest else plan.rx_max_gy
    away_mm = ndimage.distance_transform_edt(~target, sampling=plan.grid.spacing_zyx_mm).reshape(-1)
    falling: Values = ((far + (edge - far) * np.exp(-3 * away_mm / over_mm)) * from_gy).astype(np.float32)
    return falling


def optimised(
    influenced: DoseInfluence, wanted: list[Goal], smoothness: float, iterations: int = ITERATIONS
) -> Values:
    """The fluence of every column, nowhere negative, of the least cost of goals and steps. The first goal is
    the highest target's; smoothness: what a step between pixels costs that changes the dose by its own."""
    dose: Any = influenced.dose
    steps: Any = sparse.diags_array(np.sqrt(influenced.step_cost)) @ influenced.steps
    back, unstep = dose.T.tocsr(), steps.T.tocsr()
    flat = dose @ np.ones(dose.shape[1], np.float32)
    first = wanted[0]
    start = float(first.dose_gy.mean()) / max(float(flat[first.rows].mean()), LEAST_WEIGHT)
    of_steps = np.float32(smoothness / dose.shape[1] * (first.dose_gy[0] / start) ** 2)

    def loss(x: Floats) -> tuple[float, Floats]:
        x32 = (x * start).astype(np.float32)
        given = dose @ x32
        slope, value = np.zeros_like(given), 0.0
        for goal in wanted:
            off = given[goal.rows] - goal.dose_gy
            cost = np.where(off < 0, np.float32(goal.too_little), np.float32(goal.too_much))
            value += float(np.sum(cost * off * off, dtype=float))
            slope[goal.rows] += 2 * cost * off
        step = steps @ x32
        value += float(of_steps * np.sum(step * step, dtype=float))
        return value, ((back @ slope + unstep @ (2 * of_steps * step)) * start).astype(float)

    found = optimize.minimize(
        loss,
        np.ones(dose.shape[1]),
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(0, np.inf),
        options={"maxiter": iterations},
    )
    fluence: Values = (found.x * start).astype(np.float32)
    return fluence
