"""Plans by the package's own rays, and the clinic's own plans on deformed patients in turned beams."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import anydose

from anydose.case.beams import Beam
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.naming.vocabulary import HEAD_NECK
from anydose.case.volume import Volume
from anydose.io import store
from anydose.io.openkbp import read_case
from anydose.simulate.draw import CLINIC_DEG
from anydose.simulate.rays import Rays
from anydose.simulate.replan import Replan, Replanning, deformed, displacement

RAYS, REPLAN = Rays(HEAD_NECK), Replan()
STILL = Replanning(seed=0, number=0, patient="p", turned_deg=0.0, deformation_mm=0.0, deformation_seed=1)


def water(name: str = "water") -> Case:
    """A water cylinder with two targets and a cord behind them."""
    grid = Grid((30, 50, 50), (4.0, 4.0, 4.0), (-100.0, -100.0, 0.0))
    mm = grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    body = np.hypot(mm[..., 0], mm[..., 1]) < 80
    high = np.linalg.norm(mm - (20.0, 0.0, 60.0), axis=-1) < 16
    low = (np.linalg.norm(mm - (20.0, 0.0, 60.0), axis=-1) < 26) & ~high
    cord = np.hypot(mm[..., 0], mm[..., 1] - 40) < 10
    return Case(
        name=name,
        grid=grid,
        structures={"External": body, "SpinalCord": cord, "PTV70": high, "PTV56": low},
        prescription=Prescription({"PTV70": 70.0, "PTV56": 56.0}),
        beams=(Beam((0.0,), (20.0, 0.0, 60.0)),),
        ct=Volume(np.where(body, 0.0, -1000.0).astype(np.float32), grid, "HU"),
    )


def planned(case: Case, **changes: object) -> Case:
    chosen = replace(RAYS.draw(0, 0, [case.name]), gantry_deg=CLINIC_DEG, **changes)
    made, _ = RAYS.plan(case, chosen, Path("unused"))
    return made


def clinic_patient(root: Path) -> Case:
    return read_case(root / "provided-data" / "train-pats" / "pt_1")


# rays


def test_a_plan_gives_each_target_its_dose_and_nothing_outside_the_body() -> None:
    case = planned(water(), scale=1.02)
    dose = case.dose.in_unit("Gy")
    assert np.median(dose[case.structures["PTV70"]]) == pytest.approx(1.02 * 70, rel=1e-5)
    assert np.percentile(dose[case.structures["PTV70"]], 5) > 0.9 * 70
    assert np.median(dose[case.structures["PTV56"]]) == pytest.approx(56, abs=4)
    assert (dose[~case.body] == 0).all() and dose.min() >= 0
    assert tuple(beam.gantry_deg[0] for beam in case.beams) == CLINIC_DEG
    assert case.name.startswith("water_s0_") and "package's own rays" in case.inferred[-1]


def test_an_organ_of_more_weight_gets_less_dose() -> None:
    channel = HEAD_NECK.channel(water().meaning("SpinalCord"))
    weights = [np.full(len(HEAD_NECK.organs), 3.0) for _ in range(2)]
    weights[1][channel] = 300.0
    limits = tuple(np.full(len(HEAD_NECK.organs), 0.2).tolist())
    loose, tight = (
        planned(water(), organ_weights=tuple(w.tolist()), organ_limits=limits, target_weight=1000.0)
        for w in weights
    )
    cord = water().structures["SpinalCord"]
    assert tight.dose.array[cord].mean() < 0.8 * loose.dose.array[cord].mean()


def test_a_case_without_target_or_body_is_refused() -> None:
    for case in (
        replace(water(), prescription=Prescription()),
        replace(water(), structures={"PTV70": water().structures["PTV70"]}, prescription=Prescription()),
    ):
        with pytest.raises(ValueError, match="a plan needs a body and a prescribed target"):
            planned(case)


def test_a_plan_on_a_real_patient_is_like_the_clinics(openkbp_root: Path) -> None:
    case = clinic_patient(openkbp_root)
    dose = planned(case).dose.array
    assert np.corrcoef(dose[case.body], case.dose.array[case.body])[0, 1] > 0.93


def test_the_command_stores_plans_of_either_kind_and_goes_on(openkbp_root: Path, tmp_path: Path) -> None:
    store.write_stored(clinic_patient(openkbp_root), tmp_path / "in", "pt_1")
    for planner in ("rays", "replan"):
        out = tmp_path / planner
        command = ("simulate", tmp_path / "in", out, "--plans", "2", "--planner", planner)
        for state in ("2 written, 0 kept", "0 written, 2 kept"):
            done = anydose(*command)
            assert (done.returncode, state in done.stdout) == (0, True), done.stderr + done.stdout
        rows = json.loads((tmp_path / f"{planner}.plans.json").read_text())
        assert [row["planner"] for row in rows] == [planner, planner]
        drawn = anydose("render", out, tmp_path / f"drawn-{planner}", "--workers", "1")
        assert drawn.returncode == 0, drawn.stderr
    other = anydose("simulate", tmp_path / "in", tmp_path / "rays", "--planner", "rays", "--grid-mm", "5")
    assert other.returncode == 2 and "is for pyradplan" in other.stderr and other.stderr.count("\n") == 1


# plans made again


def test_a_patient_left_alone_keeps_its_dose(openkbp_root: Path) -> None:
    """What the rays give and what they do not give add up to the clinic's dose."""
    case = store.cropped(clinic_patient(openkbp_root))
    made, _ = REPLAN.plan(case, STILL, Path("unused"))
    back = made.dose.resample(case.grid).array
    off = np.abs(back - case.dose.array)[case.body]
    assert off.mean() < 0.02 and off.max() < 0.5  # two optimisations end a little apart
    for name, mask in case.structures.items():
        moved = Volume(made.structures[name].astype(np.float32), made.grid, "1").resample(case.grid).array
        assert ((moved > 0.5) == mask).all(), name


def test_targets_keep_their_dose_on_a_deformed_patient_in_turned_beams(openkbp_root: Path) -> None:
    case = clinic_patient(openkbp_root)
    chosen = replace(STILL, turned_deg=17.0, deformation_mm=6.0)
    made, _ = REPLAN.plan(case, chosen, Path("unused"))
    angles = [beam.gantry_deg[0] for beam in made.beams]
    assert angles == pytest.approx([(angle + 17.0) % 360 for angle in CLINIC_DEG])
    centre = made.grid.centroid_mm(np.logical_or.reduce(list(made.targets.values())))
    assert made.beams[0].isocentre_mm == pytest.approx(centre, abs=1e-3)
    for name in case.targets:
        before = np.percentile(case.dose.array[case.structures[name]], (5, 50, 95))
        after = np.percentile(made.dose.array[made.structures[name]], (5, 50, 95))
        assert after == pytest.approx(before, abs=3.0)
    moved, _ = deformed(store.cropped(case), chosen)
    change = np.abs(made.dose.array - moved.dose.array)[made.body]
    assert 0.5 < change.mean() < 4.0  # other beams, so another dose, that wants the same


def test_a_displacement_has_the_size_that_was_drawn() -> None:
    grid = Grid((40, 30, 30), (4.0, 5.0, 2.5), (0.0, 0.0, 0.0))
    field = displacement(grid, replace(STILL, deformation_mm=5.0))
    mm = field * np.array(grid.spacing_zyx_mm).reshape(3, 1, 1, 1)
    assert np.sqrt(np.square(mm).sum(axis=0).mean()) == pytest.approx(5.0, rel=1e-4)
    assert np.abs(np.diff(mm, axis=1)).max() < 0.6 * 2.5  # folds nothing


def test_draws_depend_on_seed_and_number_and_take_each_patient_in_turn() -> None:
    names = [f"p{k}" for k in range(6)]
    first = [REPLAN.draw(2, k, names) for k in range(12)]
    assert first == [REPLAN.draw(2, k, names) for k in range(12)]
    assert sorted(d.patient for d in first[:6]) == sorted(d.patient for d in first[6:]) == names
    assert {d.turned_deg == 0 for d in first} == {True, False}
    assert first[0] != REPLAN.draw(3, 0, names)


def test_a_dose_or_beams_that_cannot_be_planned_again_are_refused(openkbp_root: Path) -> None:
    case = clinic_patient(openkbp_root)
    with pytest.raises(ValueError, match="the dose of a plan"):
        REPLAN.plan(replace(case, dose=None), STILL, Path("unused"))
    arc = Beam(tuple(float(k) for k in range(0, 360, 10)), case.beams[0].isocentre_mm)
    with pytest.raises(ValueError, match="no arc"):
        REPLAN.plan(replace(case, beams=(arc,)), STILL, Path("unused"))
