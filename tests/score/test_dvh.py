"""Histograms of shapes whose answer is known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.score.dvh import DVH, dvh

RADIUS_MM = 30.0
GRADIENT = np.array([0.61, 0.37, 0.43])  # Gy per mm along x, y, z; no two voxels of a row share a dose


def sphere(spacing_mm: float) -> tuple[Grid, np.ndarray]:
    n = 2 * int(RADIUS_MM / spacing_mm) + 9
    grid = Grid((n, n, n), (spacing_mm,) * 3, (-spacing_mm * (n - 1) / 2,) * 3)
    parts = (
        grid.along((1, 0, 0), (0, 0, 0)),
        grid.along((0, 1, 0), (0, 0, 0)),
        grid.along((0, 0, 1), (0, 0, 0)),
    )
    squared = sum((sum(p, np.zeros(grid.shape))) ** 2 for p in parts)
    return grid, squared <= RADIUS_MM**2


def linear_dose(grid: Grid) -> Volume:
    return Volume(40.0 + sum(grid.along(GRADIENT, (0, 0, 0)), np.zeros(grid.shape)), grid, "Gy")


def cap_fraction(dose_gy: np.ndarray) -> np.ndarray:
    """Part of the sphere beyond the plane of that dose: a spherical cap, (R - s)^2 (2R + s) / 4R^3."""
    s = np.clip((dose_gy - 40.0) / np.linalg.norm(GRADIENT), -RADIUS_MM, RADIUS_MM)
    return (RADIUS_MM - s) ** 2 * (2 * RADIUS_MM + s) / (4 * RADIUS_MM**3)


def test_a_sphere_in_a_linear_gradient_is_the_analytic_one_to_a_thousandth() -> None:
    grid, mask = sphere(1.0)
    found = dvh(linear_dose(grid), mask, grid, refine=3)
    doses = np.linspace(12, 68, 401)
    assert np.abs(found.curve(doses) / 100 - cap_fraction(doses)).max() < 1e-3
    assert found.mean_gy == pytest.approx(40.0, abs=1e-3)
    assert found.volume_cc == pytest.approx(4 / 3 * np.pi * 3.0**3, rel=2e-3)


def test_the_sphere_keeps_its_histogram_on_a_dose_grid_of_its_own() -> None:
    grid, mask = sphere(1.0)
    coarse = Grid((29, 27, 28), (3.1, 2.7, 2.9), (-43.0, -36.0, -39.0))
    doses = np.linspace(12, 68, 101)
    found = dvh(linear_dose(coarse), mask, grid, refine=3)
    assert np.abs(found.curve(doses) / 100 - cap_fraction(doses)).max() < 1e-3


def test_refining_gives_surface_voxels_their_partial_volume() -> None:
    """Along an axis whole planes of voxels share a dose, and unrefined volumes jump by a plane."""
    grid, mask = sphere(2.0)
    dose = Volume(40.0 + sum(grid.along((1, 0, 0), (0, 0, 0)), np.zeros(grid.shape)), grid, "Gy")
    offsets = np.linspace(-25, 25, 721)
    exact = cap_fraction(40.0 + offsets * np.linalg.norm(GRADIENT))
    errors = [np.abs(dvh(dose, mask, grid, k).curve(40 + offsets) / 100 - exact).max() for k in (1, 4)]
    assert errors[0] > 0.02
    assert errors[1] < errors[0] / 3


def test_a_tiny_structure_written_out() -> None:
    histogram = DVH(np.array([10.0, 40.0, 20.0, 30.0]), 0.5)
    assert (histogram.volume_cc, histogram.mean_gy, histogram.min_gy, histogram.max_gy) == (
        2.0,
        25.0,
        10.0,
        40.0,
    )
    assert [histogram.volume_at_gy(d) for d in (10, 10.1, 30, 41)] == [2.0, 1.5, 1.0, 0.0]
    assert [histogram.dose_at_cc(v) for v in (0, 0.4, 0.5, 1.0, 1.9, 2.0, 9)] == [40, 40, 30, 20, 10, 10, 10]


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 80)), st.floats(0.01, 2))
def test_dose_at_volume_is_the_inverse_of_volume_at_dose(doses: np.ndarray, voxel_cc: float) -> None:
    histogram = DVH(doses, voxel_cc)
    for part in (0.0, 0.1, 0.5, 0.99):
        dose = histogram.dose_at_cc(part * histogram.volume_cc)
        hotter = np.count_nonzero(doses > dose) * voxel_cc
        assert hotter <= part * histogram.volume_cc * (1 + 1e-9) < histogram.volume_at_gy(dose) * (1 + 1e-6)


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(0, 80)))
def test_equal_weights_given_as_an_array_change_nothing(doses: np.ndarray) -> None:
    plain, weighted = DVH(doses, 0.25), DVH(doses, np.full(len(doses), 0.25))
    for volume in (0.0, 0.3, 0.5 * plain.volume_cc, plain.volume_cc):
        assert plain.dose_at_cc(volume) == weighted.dose_at_cc(volume)
    for dose in (0.0, 13.0, 80.0):
        assert plain.volume_at_gy(dose) == pytest.approx(weighted.volume_at_gy(dose))
    assert plain.power_mean_gy(4) == pytest.approx(weighted.power_mean_gy(4))


def test_a_voxel_of_half_weight_counts_half() -> None:
    histogram = DVH(np.array([10.0, 20.0, 30.0]), np.array([1.0, 1.0, 0.5]))
    assert histogram.volume_at_gy(15) == 1.5
    assert histogram.mean_gy == pytest.approx((10 + 20 + 15) / 2.5)
    assert histogram.dose_at_cc(0.5) == 20.0


def test_covered_parts_of_voxels_are_their_weights() -> None:
    """Half of every voxel is half the volume under the same curve; a real coverage comes from contours."""
    from anydose.io.dicom.contours import coverage

    grid, mask = sphere(3.0)
    dose, doses = linear_dose(grid), np.linspace(15, 65, 101)
    half, whole = dvh(dose, 0.5 * mask, grid, refine=1), dvh(dose, mask, grid, refine=1)
    assert half.volume_cc == pytest.approx(whole.volume_cc / 2)
    assert half.curve(doses) == pytest.approx(whole.curve(doses))
    circles = []
    for k in range(grid.shape[0]):
        x, y, z = grid.to_mm((k, 0, 0))
        if abs(z) < RADIUS_MM:
            turn, radius = np.linspace(0, 2 * np.pi, 721)[:-1], np.sqrt(RADIUS_MM**2 - z**2)
            circles.append(np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full(720, z)], axis=1))
    found = dvh(dose, coverage(circles, grid), grid)
    assert np.abs(found.curve(doses) / 100 - cap_fraction(doses)).max() < 0.005
    assert found.volume_cc == pytest.approx(4 / 3 * np.pi * 3.0**3, rel=0.005)


def test_scaling_the_dose_scales_every_dose() -> None:
    histogram = DVH(np.array([10.0, 20.0, 30.0]), 1.0)
    assert histogram.scaled(1.5).dose_at_cc(1.0) == 1.5 * histogram.dose_at_cc(1.0)


def test_a_structure_outside_the_dose_grid_is_refused() -> None:
    grid, mask = sphere(2.0)
    small = Grid((5, 5, 5), (2.0, 2.0, 2.0), (-4.0, -4.0, -4.0))
    with pytest.raises(ValueError, match="covered in part by the dose grid"):
        dvh(linear_dose(small), mask, grid)


def test_a_dose_in_another_unit_is_refused() -> None:
    grid, mask = sphere(2.0)
    with pytest.raises(ValueError, match="Gy is needed"):
        dvh(Volume(np.ones(grid.shape), grid, "1"), mask, grid)


def test_an_empty_structure_is_refused() -> None:
    grid, mask = sphere(2.0)
    with pytest.raises(ValueError, match="no voxel"):
        dvh(linear_dose(grid), np.zeros_like(mask), grid)


def test_three_tenths_of_a_cc_are_three_voxels_of_a_tenth():
    assert DVH(np.arange(10.0), 0.1).dose_at_cc(0.3) == 6.0  # 0.3 / 0.1 is 2.9999999999999996 in binary


def test_the_power_mean_of_one_and_three_with_power_two_is_the_root_of_five():
    assert DVH(np.array([1.0, 3.0]), 1.0).power_mean_gy(2.0) == pytest.approx(5**0.5)
