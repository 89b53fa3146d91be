"""A voxel index and a point in the patient are the same place, whatever way the grid is turned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from anydose.case.grid import Grid

numbers = st.floats(-400, 400)
spacings = st.tuples(*[st.floats(0.5, 6)] * 3)


@st.composite
def grids(draw):
    """Any grid: every shape, spacing, origin and turn, mirrored ones included."""
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    mirror = np.diag(draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3)))
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    origin = draw(st.tuples(numbers, numbers, numbers))
    return Grid(shape, draw(spacings), origin, tuple(map(tuple, turn @ mirror)))


@given(grids(), st.tuples(numbers, numbers, numbers))
def test_index_to_mm_and_back(grid, index):
    assert np.allclose(grid.to_index(grid.to_mm(index)), index, atol=1e-6)


def test_a_small_grid_written_out():
    # one step along each array axis, in LPS: z up, y back, x left
    grid = Grid((2, 3, 4), (1.0, 2.0, 5.0), (10.0, 20.0, 30.0))
    assert grid.to_mm((0, 0, 0)).tolist() == [10, 20, 30]
    assert grid.to_mm((1, 0, 0)).tolist() == [10, 20, 35]
    assert grid.to_mm((0, 1, 0)).tolist() == [10, 22, 30]
    assert grid.to_mm((0, 0, 1)).tolist() == [11, 20, 30]
    assert grid.voxel_cc == pytest.approx(0.01)
    assert grid.spacing_zyx_mm == (5.0, 2.0, 1.0)


def test_a_direction_s_columns_are_the_index_axes():
    # x index runs to the front: column 0 is -y of the patient
    grid = Grid((2, 2, 2), (1, 1, 1), direction=((0, 1, 0), (-1, 0, 0), (0, 0, 1)))
    assert grid.to_mm((0, 0, 1)).tolist() == [0, -1, 0]
    assert grid.to_mm((0, 1, 0)).tolist() == [1, 0, 0]


@given(grids(), st.tuples(*[st.integers(-5, 5)] * 3))
def test_a_crop_leaves_every_voxel_where_it_was(grid, start):
    cropped = grid.crop(start, (2, 2, 2))
    for step in np.ndindex(2, 2, 2):
        assert np.allclose(cropped.to_mm(step), grid.to_mm(np.add(start, step)), atol=1e-6)


@given(grids(), st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers, numbers))
def test_along_is_the_dot_product_at_every_voxel(grid, vector, start):
    parts = grid.along(vector, start)
    every = np.moveaxis(np.indices(grid.shape), 0, -1)
    expected = (grid.to_mm(every) - start) @ np.array(vector)
    assert np.allclose(sum(parts), expected, atol=1e-6 * (1 + np.abs(expected).max()))


@given(grids(), spacings)
def test_another_spacing_keeps_the_near_corner_and_covers_the_far_one(grid, spacing):
    other = grid.with_spacing(spacing)
    assert np.allclose(other.to_mm((-0.5,) * 3), grid.to_mm((-0.5,) * 3), atol=1e-6)
    extent, old = (np.multiply(g.shape[::-1], g.spacing_mm) for g in (other, grid))
    assert (extent >= old - 1e-4 * np.array(spacing)).all() and (extent < old + spacing).all()


def test_grids_match_within_the_tolerance_and_not_beyond():
    grid = Grid((4, 4, 4), (1, 1, 1))
    assert grid.matches(Grid((4, 4, 4), (1, 1, 1), (0.0005, 0, 0)))
    assert not grid.matches(Grid((4, 4, 4), (1, 1, 1), (0.01, 0, 0)))
    assert not grid.matches(Grid((4, 4, 4), (1, 1, 1.01)))  # same first voxel, another last one
    assert not grid.matches(Grid((4, 4, 5), (1, 1, 1)))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (((0, 3, 3), (1, 1, 1)), "shape"),
        (((3, 3, 3), (1, 0, 1)), "spacing"),
        (((3, 3, 3), (1, float("nan"), 1)), "spacing"),
        (((3, 3, 3), (1, 1, 1), (0, float("inf"), 0)), "origin"),
        (((3, 3, 3), (1, 1, 1), (0, 0, 0), ((1, 0.2, 0), (0, 1, 0), (0, 0, 1))), "orthonormal"),
        (((3, 3, 3), (1, 1, 1), (0, 0, 0), ((2, 0, 0), (0, 1, 0), (0, 0, 1))), "orthonormal"),
    ],
)
def test_geometry_is_refused_rather_than_guessed(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Grid(*arguments)
