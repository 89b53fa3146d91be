"""Reachable doses against what defines them: rays, inverse square, attenuation, fluence that is nowhere
negative; and against real plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from anydose.case import dose_mimicking
from anydose.case.beams import MU_PER_MM, Beam, equispaced
from anydose.case.case import Case, Prescription
from anydose.case.dose_mimicking import MimicConfig
from anydose.case.grid import Grid
from anydose.io import openkbp

HOW = MimicConfig(share=1.0, inner_share=1.0, smoothness_u=0.0, smoothness_v=0.0, iterations=300)


def water(beams: tuple[Beam, ...] = equispaced(5, (0.0, 0.0, 0.0))) -> Case:
    """A cylinder of water with a spherical target at the isocentre, on an odd grid."""
    grid = Grid((21, 41, 41), (5.0, 5.0, 5.0), (-100.0, -100.0, -50.0))
    points = grid.to_mm(np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1))
    masks = {
        "External": np.hypot(points[..., 0], points[..., 1]) < 90,
        "PTV": np.linalg.norm(points, axis=-1) < 32,
    }
    return Case("water", grid, masks, beams=beams, prescription=Prescription({"PTV": 60.0}))


def plan(case: Case, seed: int = 0) -> np.ndarray:
    """A dose that the beams reach: random fluence, a quarter of it closed."""
    matrix = dose_mimicking.influence(case, HOW).dose
    weights = np.random.default_rng(seed).uniform(-1, 3, matrix.shape[1]).clip(0).astype(np.float32)
    dose = np.zeros(case.grid.shape, np.float32)
    dose[case.body] = matrix @ weights * np.float32(10)
    return dose


def test_an_open_field_falls_off_with_depth_and_distance_and_ends_beside_the_target():
    case = water((Beam((0.0,), (0.0, 0.0, 0.0)),))
    matrix = dose_mimicking.influence(case, HOW).dose
    dose = np.zeros(case.grid.shape)
    dose[case.body] = matrix @ np.ones(matrix.shape[1])
    y = case.grid.to_mm(np.array([[10, k, 20] for k in range(41)]))[:, 1]
    inside = np.abs(y) < 80
    expected = np.exp(-MU_PER_MM * (y + 87.5)) * (1000 / (1000 + y)) ** 2
    assert np.allclose(dose[10, inside, 20], expected[inside], rtol=0.02)
    across = dose[10, 20] / dose[10, 20, 20]
    x = np.abs(case.grid.to_mm(np.array([[10, 20, k] for k in range(41)]))[:, 0])
    assert np.allclose(across[x <= 30], 1, atol=0.02)
    assert not across[x > 30 + 5.0 * (HOW.margin_pixels + 2)].any()


def test_a_reachable_dose_stays_and_another_moves_towards_the_plan_behind_it():
    case = water()
    dose = plan(case)
    assert np.abs(dose_mimicking.mimic(dose, case, HOW) - dose)[case.body].mean() < 0.01 * dose.max()
    noise = np.random.default_rng(1).normal(0, 3, dose.shape).astype(np.float32)
    blurred = np.where(case.body, np.maximum(dose + noise, 0), 0)
    found = dose_mimicking.mimic(blurred, case, HOW)
    assert np.abs(found - dose)[case.body].mean() < 0.6 * np.abs(blurred - dose)[case.body].mean()
    assert found.min() >= 0
    assert not found[~case.body].any()
    both = dose_mimicking.mimic(np.stack([dose, blurred])[:, None], case, HOW)
    assert np.array_equal(both[1, 0], found)


def test_in_targets_and_organs_a_share_of_the_change_is_made():
    case = water()
    case = replace(case, structures={**case.structures, "Heart": np.roll(case.structures["PTV"], 8, axis=1)})
    wanted = np.where(case.body, np.float32(20), np.float32(0))
    half, whole = (dose_mimicking.mimic(wanted, case, replace(HOW, inner_share=s)) for s in (0.5, 1.0))
    inner = case.structures["PTV"] | case.structures["Heart"]
    assert np.allclose((half - wanted)[inner], (whole - wanted)[inner] / 2, atol=1e-4)
    assert np.array_equal(half[~inner], whole[~inner])


def test_a_mirrored_patient_gets_the_mirrored_dose():
    case = water(equispaced(3, (0.0, 0.0, 0.0)))
    dose = plan(case)
    dose[:, :, :15] *= 0.5
    found = dose_mimicking.mimic(dose, case, HOW)
    mirrored = dose_mimicking.mimic(dose[..., ::-1].copy(), case, HOW)
    assert np.abs(mirrored[..., ::-1] - found).max() < 0.02 * dose.max()


def test_arcs_and_cases_without_beams_body_or_target_have_no_reachable_dose():
    arc = Beam(tuple(float(a) for a in range(0, 360, 4)), (0.0, 0.0, 0.0))
    case = water()
    for other in (
        replace(case, beams=()),
        replace(case, beams=(arc,)),
        replace(case, prescription=Prescription({})),
        replace(case, structures={"PTV": case.structures["PTV"]}),
    ):
        assert not dose_mimicking.is_defined(other)
        with pytest.raises(ValueError, match="beam angles are needed"):
            dose_mimicking.mimic(plan(case), other)


@pytest.mark.parametrize("folder", ["train-pats/pt_1", "validation-pats/pt_201"])
def test_a_real_plan_is_reachable_by_its_nine_fields_and_not_by_three(openkbp_root, folder):
    case = openkbp.read_case(openkbp_root / "provided-data" / folder)
    dose = case.dose.in_unit("Gy")
    errors = [
        np.abs(dose_mimicking.mimic(dose, other, replace(HOW, iterations=60)) - dose)[case.body].mean()
        for other in (case, replace(case, beams=case.beams[::3]))
    ]
    assert errors[0] < 0.8
    assert errors[1] > 3 * errors[0]


def test_steps_of_the_fluence_are_between_neighbours_and_fewer_where_they_cost():
    case = water()
    noisy = np.maximum(plan(case) + np.random.default_rng(2).normal(0, 4, case.grid.shape), 0).astype(
        np.float32
    )
    wanted, weight = noisy[case.body], np.ones(case.body.sum(), np.float32)
    rough = {}
    for name, how in {
        "free": HOW,
        "u": replace(HOW, smoothness_u=2.0),
        "v": replace(HOW, smoothness_v=2.0),
    }.items():
        reach = dose_mimicking.influence(case, how)
        assert not (reach.steps @ np.ones(reach.dose.shape[1])).any()
        assert (abs(reach.steps).sum(axis=1) == 2).all()
        u = dose_mimicking.influence(case, replace(how, smoothness_u=1.0, smoothness_v=0.0)).step_cost > 0
        steps = np.abs(reach.steps @ dose_mimicking.fluence(reach, wanted, weight, how))
        rough[name] = steps[u].mean(), steps[~u].mean()
    assert rough["u"][0] < 0.8 * rough["free"][0]
    assert rough["v"][1] < 0.8 * rough["free"][1]
    assert rough["u"][0] < rough["v"][0]
    assert rough["v"][1] < rough["u"][1]


def test_no_fluence_is_negative_though_a_negative_one_would_fit():
    one_pixel_a_voxel = dose_mimicking.DoseInfluence(
        dose=sparse.csr_array(np.eye(3, dtype=np.float32)),
        steps=sparse.csr_array((0, 3), dtype=np.float32),
        step_cost=np.zeros(0, np.float32),
    )
    wanted = np.array([-1.0, 1.0, 2.0], np.float32)
    found = dose_mimicking.fluence(one_pixel_a_voxel, wanted, np.ones(3, np.float32), MimicConfig())
    assert found == pytest.approx([0.0, 1.0, 2.0], abs=1e-3)


def test_the_huber_loss_is_half_the_square_up_to_its_bend_and_linear_beyond():
    value, slope = dose_mimicking._huber(np.array([0.5, 1.0, 3.0, -3.0], np.float32), 1.0)
    assert value == pytest.approx([0.125, 0.5, 2.5, 2.5])
    assert slope == pytest.approx([0.5, 1.0, 1.0, -1.0])


def test_steps_along_u_where_leaves_travel_cost_smoothness_u():
    columns = np.array([[0, 1, 2]])  # one row v, three pixels along u
    how = MimicConfig(smoothness_u=7.0, smoothness_v=3.0)
    assert dose_mimicking._steps(columns, how)[1] == pytest.approx([7.0, 7.0])
    assert dose_mimicking._steps(columns.T, how)[1] == pytest.approx([3.0, 3.0])
