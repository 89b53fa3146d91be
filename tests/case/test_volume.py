"""A physical point keeps its value through crop and resampling."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from anydose.case.grid import Grid
from anydose.case.volume import Volume, averaged, block, bounding_box

SOURCE = Grid((14, 12, 10), (3.0, 2.0, 4.0), (-20.0, 5.0, -30.0))
SLOPE = np.array([0.3, -0.7, 1.1])


def linear(grid: Grid) -> np.ndarray:
    return grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) @ SLOPE + 5


@settings(max_examples=25)
@given(st.tuples(*[st.floats(-30, 30)] * 3), st.tuples(*[st.floats(1, 4)] * 3))
def test_resampling_keeps_a_linear_field_exact_on_a_turned_grid(angles, spacing):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    centre = SOURCE.to_mm((np.array(SOURCE.shape) - 1) / 2)
    origin = centre - turn @ (np.array(spacing) * 2)
    target = Grid((5, 5, 5), spacing, tuple(origin), tuple(map(tuple, turn)))
    moved = Volume(linear(SOURCE), SOURCE, "Gy").resample(target)
    index = SOURCE.to_index(target.to_mm(np.moveaxis(np.indices(target.shape), 0, -1)))
    inner = ((index >= 0) & (index <= np.array(SOURCE.shape) - 1)).all(axis=-1)
    assert inner.any()
    assert np.allclose(moved.array[inner], linear(target)[inner], atol=1e-3)
    assert moved.unit == "Gy"


def test_outside_begins_half_a_voxel_beyond_the_last_centre():
    volume = Volume(np.full((4, 4, 4), 7.0), Grid((4, 4, 4), (2, 2, 2)), "HU")
    row = Grid((1, 1, 7), (0.5, 2, 2), (5.0, 2, 2))  # x = 5.0 ... 8.0; the last centre is 6, the face at 7
    assert volume.resample(row, outside=-1000.0).array[0, 0].tolist() == [7, 7, 7, 7, 7, -1000, -1000]


def test_resampling_agrees_with_simpleitk():
    rng = np.random.default_rng(0)
    values = rng.normal(size=SOURCE.shape).astype(np.float32)
    turn = Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix()
    target = Grid((9, 8, 7), (2.5, 2.5, 2.5), tuple(SOURCE.to_mm((3, 2, 2))), tuple(map(tuple, turn)))
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(SOURCE.spacing_mm)
    image.SetOrigin(SOURCE.origin_mm)
    resample = SimpleITK.ResampleImageFilter()
    resample.SetSize(target.shape[::-1])
    resample.SetOutputSpacing(target.spacing_mm)
    resample.SetOutputOrigin(target.origin_mm)
    resample.SetOutputDirection(np.array(target.direction).ravel().tolist())
    resample.SetDefaultPixelValue(-9)
    theirs = SimpleITK.GetArrayFromImage(resample.Execute(image))
    ours = Volume(values, SOURCE, "1").resample(target, outside=-9).array
    assert (theirs != -9).mean() > 0.5
    assert np.allclose(ours, theirs, atol=1e-4)


def test_a_mask_keeps_its_kind_and_its_place():
    mask = np.zeros((6, 6, 6), dtype=np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    fine = Volume(mask, Grid((6, 6, 6), (2, 2, 2)), "1").resample(
        Grid((6, 6, 6), (2, 2, 2)).with_spacing((1, 1, 1)), order=0
    )
    assert fine.array.dtype == np.uint8
    assert bounding_box(fine.array > 0) == ((4, 4, 4), (4, 4, 4))


def test_a_unit_is_asked_for_and_never_converted():
    volume = Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2), (1, 1, 1)), "HU")
    assert volume.in_unit("HU") is volume.array
    with pytest.raises(ValueError, match="in Gy is needed, this one is in HU"):
        volume.in_unit("Gy")


def test_an_array_that_does_not_fit_its_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 3\)"):
        Volume(np.zeros((2, 2, 3)), Grid((2, 2, 2), (1, 1, 1)), "Gy")


@given(st.tuples(*[st.integers(-4, 6)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_a_block_is_the_array_where_there_is_one_and_outside_elsewhere(start, shape):
    array = np.arange(2 * 5 * 4 * 3).reshape(2, 5, 4, 3)
    cut = block(array, start, shape, -1)
    assert cut.shape == (2, *shape)
    for step in np.ndindex(*shape):
        place = tuple(np.add(start, step))
        inside = all(0 <= p < n for p, n in zip(place, array.shape[1:], strict=True))
        assert (cut[(..., *step)] == (array[(..., *place)] if inside else -1)).all()


def test_a_bounding_box_is_tight():
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 5, 2] = mask[3, 4, 6] = True
    assert bounding_box(mask) == ((1, 4, 2), (3, 2, 5))
    with pytest.raises(ValueError, match="no voxel"):
        bounding_box(np.zeros((2, 2, 2), dtype=bool))


def test_a_value_holds_to_the_outer_face_of_its_voxel_and_no_further():
    volume = Volume(np.arange(1.0, 5.0)[None, None, :], Grid((1, 1, 4), (1, 1, 1)), "Gy")
    for x_mm, expected in ((-0.4, 1.0), (-0.6, np.nan), (3.4, 4.0), (3.6, np.nan), (1.5, 2.5)):
        found = volume.resample(Grid((1, 1, 1), (1, 1, 1), (x_mm, 0, 0)), outside=np.nan).array.item()
        assert found == pytest.approx(expected, nan_ok=True), x_mm


def test_smoothing_adds_the_variance_that_a_coarse_box_has_beyond_a_fine_one():
    point = np.zeros((1, 1, 81))
    point[0, 0, 40] = 1.0
    smooth = averaged(Volume(point, Grid((1, 1, 81), (1, 1, 1)), "Gy"), (4.0, 1.0, 1.0)).array[0, 0]
    variance = ((np.arange(81) - 40.0) ** 2 * smooth).sum() / smooth.sum()
    assert variance == pytest.approx((4**2 - 1) / 12, rel=0.02)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    ("shape", "spacing", "origin"),
    [
        ((31, 41, 50), (2.023, 1.917, 1.231), (-5.913, 0.337, 0.219)),
        ((5, 10, 15), (8.03, 7.07, 6.09), (-20.1, -10.3, 0.07)),
    ],
)
def test_parallel_grids_are_interpolated_as_turned_ones_are(order, shape, spacing, origin):
    """An axis at a time, and by scipy for a grid that is turned by too little to move anything."""
    values = np.random.default_rng(0).normal(size=(15, 20, 25)).astype(np.float32)
    volume = Volume(values, Grid((15, 20, 25), (4.0, 3.9, 2.5), (-3.0, 2.0, 1.0)), "Gy")
    turned = Rotation.from_rotvec([0, 0, 1e-6]).as_matrix()
    parallel = volume.resample(Grid(shape, spacing, origin), order=order, outside=-1.0)
    other = volume.resample(Grid(shape, spacing, origin, turned), order=order, outside=-1.0)
    assert np.abs(parallel.array - other.array).max() < 1e-3
    assert (parallel.array == -1.0).any()


def test_a_grid_of_the_same_voxels_changes_no_value():
    values = np.random.default_rng(0).normal(size=(15, 20, 25)).astype(np.float32)
    volume = Volume(values, Grid((15, 20, 25), (1.1, 0.7, 2.3), (-3.1, 2.0, 1.0)), "Gy")
    part = volume.grid.crop((2, -1, 3), (10, 22, 9))
    moved = volume.resample(part, outside=7.0).array
    assert np.array_equal(moved, block(values, (2, -1, 3), (10, 22, 9), 7.0))
