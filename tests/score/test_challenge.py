"""The challenges' scores against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anydose.score import challenge

EXACT = {"abs": 1e-6, "rel": 0}


def line(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def ramp(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Doses 1 ... count Gy in one structure, so that every percentile can be read off."""
    return np.arange(1.0, count + 1), np.ones(count, dtype=bool)


def test_the_dose_score_divides_by_the_mask_and_zeroes_the_prediction_outside_it():
    reference = line(10, 20, 0, 0)
    prediction = line(13, 19, 50, 7)  # 50 Gy stand where no dose is possible, 7 where it is
    possible = np.array([True, True, False, True])
    assert challenge.dose_error(reference, prediction, possible) == pytest.approx((3 + 1 + 7) / 3, **EXACT)


def test_a_reference_dose_outside_the_mask_still_counts_as_in_the_official_sum():
    assert challenge.dose_error(line(4, 6), line(4, 6), np.array([True, False])) == pytest.approx(
        6.0, **EXACT
    )


@pytest.mark.parametrize(
    ("voxel_mm3", "hottest"),
    [
        (40.0, 2),  # 2.5 voxels: Python rounds half to even
        (200.0 / 7, 4),  # 3.5 voxels, to even again
        (38.14, 3),  # OpenKBP's usual 3.906 x 3.906 x 2.5 mm
        (1000.0, 1),  # a tenth of a voxel is still one voxel
    ],
)
def test_d_01cc_is_the_interpolated_percentile_above_which_the_hottest_voxels_lie(voxel_mm3, hottest):
    dose, mask = ramp(50)
    # percentile 100 - 100 n / 50 of 1..50 by linear interpolation: 1 + 49 (1 - n / 50)
    expected = 1 + 49 * (1 - hottest / 50)
    found = challenge.dvh_metrics(dose, {"SpinalCord": mask}, voxel_mm3)
    assert found == pytest.approx({"D_0.1_cc SpinalCord": expected, "mean SpinalCord": 25.5}, **EXACT)


def test_an_organ_smaller_than_a_tenth_of_a_cc_has_its_lowest_dose():
    dose, mask = ramp(2)  # two voxels of 10 mm3, ten of them make 0.1 cc
    found = challenge.dvh_metrics(dose, {"Larynx": mask}, 10.0)
    assert found == pytest.approx({"D_0.1_cc Larynx": 1.0, "mean Larynx": 1.5}, **EXACT)


def test_target_metrics_are_the_first_fifth_and_ninety_ninth_percentile():
    dose, mask = ramp(101)
    found = challenge.dvh_metrics(dose, {"PTV70": mask}, 40.0)
    assert found == pytest.approx({"D_99 PTV70": 2.0, "D_95 PTV70": 6.0, "D_1 PTV70": 100.0}, **EXACT)


def test_percentiles_between_two_voxels_are_interpolated():
    dose, mask = ramp(11)  # 1st percentile of 1..11: 1 + 0.01 * 10
    assert challenge.dvh_metrics(dose, {"PTV56": mask}, 40.0)["D_99 PTV56"] == pytest.approx(1.1, **EXACT)


def test_absent_and_empty_structures_have_no_metric_and_unknown_ones_are_not_scored():
    dose, mask = ramp(10)
    found = challenge.dvh_metrics(dose, {"Larynx": ~mask, "PTV63": mask, "Ring": mask}, 40.0)
    assert set(found) == {"D_99 PTV63", "D_95 PTV63", "D_1 PTV63"}


def test_the_metrics_are_the_official_twenty_three():
    dose, mask = ramp(10)
    everything = dict.fromkeys((*challenge.ORGANS, *challenge.TARGETS), mask)
    assert set(challenge.dvh_metrics(dose, everything, 40.0)) == set(challenge.METRICS)
    assert len(challenge.METRICS) == 7 * 2 + 3 * 3


def test_dvh_errors_zero_the_prediction_outside_the_mask():
    reference, mask = line(10, 10, 10, 10), np.ones(4, dtype=bool)
    possible = np.array([True, True, True, False])
    errors = challenge.dvh_errors(reference, line(10, 10, 10, 10), {"Brainstem": mask}, possible, 1000.0)
    # the predicted doses in the organ are 10 10 10 0: mean 7.5, percentile 75 of them 10
    assert errors == pytest.approx({"D_0.1_cc Brainstem": 0.0, "mean Brainstem": 2.5}, **EXACT)


def test_the_cohort_s_dvh_score_is_flat_over_metrics_not_a_mean_of_patients():
    # a patient with three metrics weighs three times one with a single metric
    dose, dvh = challenge.cohort_scores([2.0, 4.0], [{"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 10.0}])
    assert (dose, dvh) == pytest.approx((3.0, 4.0), **EXACT)


def test_d97_of_the_high_target_becomes_its_prescription():
    dose, mask = ramp(101)  # third percentile of 1..101 is 4
    scaled = challenge.normalise_to_d97(dose, mask, 70.0)
    assert scaled[-1] == pytest.approx(101 * 70.0 / (4.0 + 1e-5), rel=1e-12)
    assert np.percentile(scaled, 3) == pytest.approx(70.0, abs=1e-3)


def test_gdp_hmm_mae_counts_where_either_exceeds_5_gy_and_divides_where_the_reference_does():
    reference = line(0, 4, 6, 20, 5, 60)
    prediction = line(9, 4.5, 1, 23, 5, 60)
    body = np.array([True, True, True, True, True, False])
    # 9 (predicted over 5), none (both below), 5 (reference over), 3, none (5 is not over 5), none (outside)
    assert challenge.gdp_hmm_mae(reference, prediction, body) == pytest.approx((9 + 5 + 3) / 2, **EXACT)


def test_a_reference_without_dose_has_no_gdp_hmm_mae():
    with pytest.raises(ValueError, match="nowhere"):
        challenge.gdp_hmm_mae(line(1, 2), line(60, 60), np.array([True, True]))


doses = arrays(np.float64, 12, elements=st.floats(0, 80))


@given(doses, doses, st.permutations(range(12)))
def test_scores_do_not_depend_on_where_voxels_lie(reference, prediction, order):
    every = np.ones(12, dtype=bool)
    structures = {"PTV70": np.arange(12) < 7, "Larynx": np.arange(12) > 8}
    moved = {name: mask[order] for name, mask in structures.items()}
    here = challenge.dvh_errors(reference, prediction, structures, every, 40.0)
    there = challenge.dvh_errors(reference[order], prediction[order], moved, every, 40.0)
    assert here == pytest.approx(there)
    assert challenge.dose_error(reference, prediction, every) == pytest.approx(
        challenge.dose_error(reference[order], prediction[order], every)
    )


@given(doses)
def test_the_right_dose_scores_nothing_and_a_shift_scores_itself(dose):
    every = np.ones(12, dtype=bool)
    structures = {"PTV70": every, "Brainstem": np.arange(12) < 5}
    assert challenge.dose_error(dose, dose, every) == 0
    errors = challenge.dvh_errors(dose, dose + 1.5, structures, every, 40.0)
    assert list(errors.values()) == pytest.approx([1.5] * 5)
    assert challenge.dose_error(dose, dose + 1.5, every) == pytest.approx(1.5)


def test_the_cohort_s_scores_are_means_not_medians():
    doses, points = challenge.cohort_scores([1.0, 2.0, 6.0], [{"a": 1.0, "b": 2.0}, {"a": 9.0}])
    assert (doses, points) == (3.0, 4.0)
