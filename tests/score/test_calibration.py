"""Intervals cover what they say on data whose errors are known, and are wider where those are larger."""

from dataclasses import replace

import numpy as np
import pytest

from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.score import calibration
from anydose.score.calibration import COVERAGES, FEATURES

GRID = Grid((16, 20, 20), (4.0, 4.0, 2.5))


def patient(seed, noise=1.0):
    """(case with a true dose, predicted dose): the error is normal, three times as large where the dose is
    steep."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij")
    predicted = np.where(x < 10, 10.0, np.clip(10.0 + 12.0 * (x - 10), 10, 70)).astype(np.float32)
    steep = (x >= 10) & (x <= 15)
    error = noise * np.where(steep, 3.0, 1.0) * rng.standard_normal(GRID.shape)
    structures = {
        "External": np.ones(GRID.shape, dtype=bool),
        "PTV70": (x > 15) & (z > 4),
        "SpinalCord": (x < 4) & (y < 6),
    }
    truth = Volume((predicted + error).astype(np.float32), GRID, "Gy")
    return Case(f"p{seed}", GRID, structures, Prescription({"PTV70": 70.0}), dose=truth), predicted


def observed(seeds, noise=1.0):
    still = np.zeros(GRID.shape, dtype=np.float32)
    return [calibration.observe(*patient(s, noise), still) for s in seeds]


def test_intervals_cover_what_they_say_on_patients_they_were_not_fitted_to():
    fitted = calibration.fit(observed(range(6)))
    found = calibration.coverage(fitted, observed(range(100, 106)))
    for c in COVERAGES:
        assert found[f"voxel_{c:g}"] == pytest.approx(c, abs=0.02)
    # errors twice as large as in the patients fitted on are not covered, and the figure says so
    assert calibration.coverage(fitted, observed(range(6), noise=2.0))["voxel_0.8"] < 0.6


def test_intervals_are_wider_where_errors_are_larger_and_so_narrower_over_all():
    fitted, blind = calibration.fit(observed(range(6))), calibration.fit(observed(range(6)), used=())
    case, predicted = patient(7)
    half = fitted.half_width(predicted, 0 * predicted, GRID, 70.0, 0.8)
    assert half[:, :, 12].mean() > 2.5 * half[:, :, 2].mean()
    assert half[:, :, 2].mean() == pytest.approx(1.28, abs=0.15)  # 80 % of a normal variable
    rest = observed(range(100, 106))
    narrow, wide = (calibration.coverage(c, rest)["half_width_0.95_gy"] for c in (fitted, blind))
    assert narrow < 0.8 * wide


def test_the_scale_of_the_errors_is_the_scale_of_the_intervals():
    one, ten = (calibration.fit(observed(range(4), noise=k)) for k in (1.0, 10.0))
    dose = patient(9)[1]
    widths = [c.half_width(dose, 0 * dose, GRID, 70.0, 0.5).mean() for c in (one, ten)]
    assert widths[1] == pytest.approx(10 * widths[0], rel=0.02)


def test_dvh_points_are_those_of_the_dose_and_their_bands_hold_the_truth():
    fitted = calibration.fit(observed(range(12)))
    hits = []
    for seed in range(100, 112):
        case, predicted = patient(seed)
        known = calibration.features(predicted, 0 * predicted, GRID, 70.0)
        points = calibration.dvh_points(case, predicted, known)
        right = {(p.structure, p.kind): p for p in calibration.dvh_points(case, case.dose.array, known)}
        inside = predicted[case.structures["PTV70"]]
        by_name = {(p.structure, p.kind): p for p in points}
        assert by_name["PTV70", "D_95"].value_gy == pytest.approx(np.percentile(inside, 5))
        assert by_name["PTV70", "mean"].value_gy == pytest.approx(inside.mean(), abs=1e-3)
        for row in calibration.bands(fitted, points):
            truth = right[row["structure"], row["point"]].value_gy
            assert row["low_50"] >= row["low_80"] >= row["low_95"] >= 0
            hits.append(row["low_95"] <= truth <= row["high_95"])
    assert np.mean(hits) > 0.85


def test_a_calibration_is_the_same_after_a_file(tmp_path):
    import json

    fitted = calibration.fit(observed(range(4)), {"model": "m"})
    (tmp_path / "c.json").write_text(json.dumps(calibration.as_json(fitted)))
    assert calibration.read(tmp_path / "c.json") == fitted
    assert tuple(fitted.weights) == FEATURES


def test_a_case_without_a_true_dose_is_refused_by_name():
    case, predicted = patient(3)
    with pytest.raises(ValueError, match="p3"):
        calibration.observe(replace(case, dose=None), predicted, 0 * predicted)


@pytest.mark.parametrize(("coverage", "rank"), [(0.5, 50), (0.8, 80), (0.95, 95), (0.999, 99)])
def test_the_conformal_quantile_is_the_ceil_of_n_plus_one_times_c_th_smallest(coverage, rank):
    """Lei et al., JASA 113, 2018: ratios 1 to 99; the largest where n is too small for the coverage."""
    assert calibration._conformal(list(range(99, 0, -1)), coverage) == rank
