"""Comparison of doses: against independent implementations and against answers known on paper."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scored_phantom import GRID, case, dose_gy

from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.score.compare import (
    Comparison,
    cohort,
    compare,
    isodose_dice,
    psnr,
    ssim,
    text,
    write_csv,
)
from anydose.score.gamma import gamma
from anydose.score.statistics import bootstrap, paired

CUBE = Grid((24, 24, 24), (3.0, 2.5, 2.0))


def volume(array: np.ndarray, grid: Grid = CUBE) -> Volume:
    return Volume(array.astype(np.float32), grid, "Gy")


def blob(shift_mm: tuple[float, float, float] = (0, 0, 0), grid: Grid = CUBE) -> np.ndarray:
    centre = grid.to_mm((np.array(grid.shape) - 1) / 2) + shift_mm
    squares = [sum(grid.along(v, centre), np.zeros(grid.shape)) ** 2 for v in np.eye(3)]
    return 60 * np.exp(-sum(squares) / (2 * 12.0**2))


def test_psnr_of_a_constant_error_is_the_closed_form() -> None:
    assert psnr(blob(), blob() + 0.6) == pytest.approx(20 * np.log10(blob().max() / 0.6))
    assert psnr(blob(), blob()) == float("inf")


def test_ssim_is_that_of_scikit_image() -> None:
    oracle = pytest.importorskip("skimage.metrics").structural_similarity
    noisy = blob() + np.random.default_rng(0).normal(0, 2, CUBE.shape)
    assert ssim(blob(), noisy) == pytest.approx(oracle(blob(), noisy, data_range=blob().max()), abs=1e-6)
    assert ssim(blob(), blob()) == pytest.approx(1.0)


def test_ssim_of_a_dose_smaller_than_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match="7 voxels"):
        ssim(np.ones((3, 9, 9)), np.ones((3, 9, 9)))


@pytest.mark.parametrize(("percent", "mm"), [(3.0, 3.0), pytest.param(2.0, 2.0, marks=pytest.mark.slow)])
def test_gamma_pass_rate_is_that_of_pymedphys_within_a_tenth_of_a_percent(percent: float, mm: float) -> None:
    pymedphys = pytest.importorskip("pymedphys")
    pytest.importorskip("numba")
    truth = volume(blob())
    guess = volume(ndimage.gaussian_filter(blob((2.0, 1.0, 1.5)), 0.7) * 1.03)
    axes = tuple(np.arange(n) * s for n, s in zip(CUBE.shape, CUBE.spacing_zyx_mm, strict=True))
    options = {"lower_percent_dose_cutoff": 30, "max_gamma": 1.1, "interp_fraction": 40}  # 40: converged
    theirs = pymedphys.gamma(axes, truth.array, axes, guess.array, percent, mm, **options)
    ours = gamma(truth, guess, percent, mm, threshold_percent=30)
    assert len(ours.values) == np.count_nonzero(~np.isnan(theirs))
    assert 20 < ours.pass_percent < 100
    assert ours.pass_percent == pytest.approx(100 * np.mean(theirs[ours.mask] <= 1), abs=0.1)


def test_gamma_of_a_uniform_error_is_that_error_over_the_criterion() -> None:
    flat = volume(np.full(CUBE.shape, 50.0))
    found = gamma(flat, volume(flat.array * 1.015), 3, 3)
    assert found.values == pytest.approx(0.5, abs=1e-4)


def test_gamma_of_a_shift_in_a_linear_gradient_is_the_closed_form() -> None:
    """Nearest point of a plane in (distance, dose) space: gamma = shift / sqrt(mm^2 + (dD / slope)^2)."""
    slope, shift, mm, percent = 2.0, 1.0, 3.0, 3.0
    ramp = 10 + slope * sum(CUBE.along((1, 0, 0), (0, 0, 0)), np.zeros(CUBE.shape))
    found = gamma(volume(ramp), volume(ramp + slope * shift), percent, mm)
    inside = np.zeros(CUBE.shape, dtype=bool)
    inside[3:-3, 3:-3, 5:-5] = True
    criterion_mm = percent / 100 * ramp.max() / slope
    expected = shift / np.sqrt(mm**2 + criterion_mm**2)
    assert found.values[inside[found.mask]] * mm == pytest.approx(expected * mm, rel=0.02)


def test_gamma_counts_points_above_the_threshold_and_finds_nothing_beyond_the_grid() -> None:
    found = gamma(volume(blob()), volume(blob()), 3, 3, threshold_percent=50)
    assert found.mask.sum() == np.count_nonzero(blob() >= 0.5 * blob().max()) and found.pass_percent == 100
    with pytest.raises(ValueError, match="no gamma"):
        gamma(volume(np.zeros(CUBE.shape)), volume(blob()), 3, 3)
    with pytest.raises(ValueError, match="one grid"):
        gamma(volume(blob()), Volume(blob(), Grid(CUBE.shape, (1.0, 1.0, 1.0)), "Gy"), 3, 3)


def test_isodose_dice_of_half_overlapping_slabs() -> None:
    a, b = np.zeros((4, 4, 8)), np.zeros((4, 4, 8))
    a[..., :4], b[..., 2:6] = 50, 50
    assert isodose_dice(a, b, 40) == 0.5
    assert isodose_dice(a, a, 40) == 1.0
    assert np.isnan(isodose_dice(a, b, 60))


def test_equal_doses_compare_as_equal() -> None:
    dose = Volume(dose_gy(), GRID, "Gy")
    found = compare(case(), dose, dose)
    assert found.figures["dose_mae_gy"] == found.figures["normalised_mae_gy"] == 0
    assert found.figures["gamma_2_2_pass_percent"] == 100 and found.figures["dice_95_percent"] == 1
    assert all(truth == guess for truth, guess in found.dvh.values())
    assert "psnr_db" not in found.figures and any("doses are equal" in note for note in found.notes)
    assert (
        cohort([found])["dose_mae_gy"]["mean"] == cohort([found], [found])["dose_mae_gy"]["versus_mean"] == 0
    )


def test_a_figure_that_the_second_model_lacks_is_not_compared() -> None:
    ours, theirs = Comparison("a", {"mae": 1.0, "psnr_db": 30.0}), Comparison("a", {"mae": 0.0})
    found = cohort([ours], [theirs])
    assert found["psnr_db"]["mean"] == 30 and "p" not in found["psnr_db"]
    assert found["mae"]["difference_mean"] == -1


def test_a_scaled_dose_shows_its_scale_in_every_histogram_and_none_in_the_normalised_error() -> None:
    dose = dose_gy()
    found = compare(case(), Volume(dose, GRID, "Gy"), Volume(1.05 * dose, GRID, "Gy"))
    assert found.figures["normalised_mae_gy"] == pytest.approx(0, abs=1e-5)
    assert found.figures["dose_mae_gy"] == pytest.approx(0.05 * dose[case().structures["Body"]].mean())
    assert all(guess == pytest.approx(1.05 * truth) for truth, guess in found.dvh.values())


def test_what_cannot_be_computed_is_noted_and_left_out() -> None:
    found = compare(case(), Volume(dose_gy(), GRID, "Gy"), Volume(dose_gy(), GRID, "Gy"))
    assert "openkbp_dvh_gy" in found.figures  # the cord is one of its organs
    assert any(note.startswith("score_percent: ") for note in found.notes)
    assert "score_percent" not in found.figures


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(100):
        found = bootstrap(rng.normal(5, 2, 60), seed=seed)
        hits += found.low <= 5 <= found.high
    assert 85 <= hits <= 100


def test_the_bootstrap_leaves_out_what_is_no_number() -> None:
    assert bootstrap([1.0, 3.0, float("nan")]).n == 2
    with pytest.raises(ValueError, match="no number"):
        bootstrap([float("nan")])


def test_the_paired_test_sees_a_small_steady_difference_that_two_means_hide() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(3, 1, 40)
    steady = paired(first, first - 0.1 + rng.normal(0, 0.05, 40))
    assert steady.p < 1e-3 and steady.difference.high < 0
    assert paired(first, first).p == 1.0
    with pytest.raises(ValueError, match="one of each"):
        paired(first, first[1:])


def test_a_cohort_of_two_models_and_its_csv(tmp_path: Path) -> None:
    first = [Comparison(f"pt_{k}", {"mae": 2.0 + 0.1 * k}, {"PTV D95%[Gy]": (60.0, 59.0)}) for k in range(8)]
    second = [Comparison(c.case, {"mae": c.figures["mae"] - 0.5}) for c in first]
    line = cohort(first, second)["mae"]
    assert line["difference_mean"] == pytest.approx(-0.5) and line["p"] < 0.01 and line["n"] == 8
    write_csv(first, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["case"] == "pt_3" and float(rows[3]["PTV D95%[Gy] difference"]) == -1.0
    with pytest.raises(ValueError, match="different cases"):
        cohort(first, second[1:])


def test_doses_are_compared_where_both_are_known() -> None:
    dose = Volume(dose_gy(), GRID, "Gy")
    part = Volume(np.where(np.arange(24)[:, None] < 19, 1.05 * dose_gy(), np.nan), GRID, "Gy")
    found = compare(case(), dose, part)
    body = case().structures["Body"][:, :19]
    assert found.figures["dose_mae_gy"] == pytest.approx(0.05 * dose_gy()[:, :19][body].mean())
    assert not any(name.startswith(("SpinalCord", "nan")) for name in found.dvh)
    assert "ssim" not in found.figures and "dice_95_percent" not in found.figures
    assert any(note.startswith("SpinalCord: covered in part") for note in found.notes)
    assert found.notes[0].startswith("body: covered in part")
    assert all(np.isfinite(value) for value in found.figures.values())
    nowhere = Volume(np.full(GRID.shape, np.nan), GRID, "Gy")
    with pytest.raises(ValueError, match="meet nowhere"):
        compare(case(), dose, nowhere)


def test_the_challenges_error_normalises_the_reference_alone() -> None:
    dose = dose_gy()
    found = compare(case(), Volume(dose, GRID, "Gy"), Volume(1.05 * dose, GRID, "Gy"))
    target, body = case().structures["PTV"], case().structures["Body"]
    truth = dose * 60.0 / (np.percentile(dose[target], 3) + 1e-5)
    either = ((truth > 5) | (1.05 * dose > 5)) & body
    by_hand = np.abs(truth - 1.05 * dose)[either].sum() / ((truth > 5) & body).sum()
    assert found.figures["gdp_hmm_mae_gy"] == pytest.approx(by_hand, rel=1e-6)


def test_a_table_says_what_its_figures_are_and_has_intervals_from_two_cases_on() -> None:
    one = [Comparison("a", {"dose_mae_gy": 2.0})]
    assert text(cohort(one)).split() == [
        "dose_mae_gy",
        "2.000",
        "mean",
        "absolute",
        "error",
        "in",
        "the",
        "body",
        "(Gy)",
    ]
    two = [*one, Comparison("b", {"dose_mae_gy": 3.0})]
    assert "2.500 [2.000, 3.000]" in text(cohort(two))
