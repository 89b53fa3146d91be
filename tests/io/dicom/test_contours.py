"""Contours to masks: analytic volumes, holes, gaps, and the mask that comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anydose.case.grid import Grid
from anydose.io.dicom.contours import coverage, outlines, rasterise

TURN = np.radians(33)
OBLIQUE = np.array([[np.cos(TURN), 0, np.sin(TURN)], [0, -1, 0], [-np.sin(TURN), 0, np.cos(TURN)]])
GRIDS = {
    "axial": Grid((40, 90, 80), (1.0, 0.9, 2.0), (-40, -40, -39)),
    "oblique": Grid((40, 90, 80), (1.0, 0.9, 2.0), (-20.3, 45.0, -45.0), OBLIQUE),
}


def circle(centre, radius, u, v, points=180):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)[:, None]
    return np.asarray(centre) + radius * (np.cos(angle) * np.asarray(u) + np.sin(angle) * np.asarray(v))


def sphere(grid: Grid, radius: float, step_mm: float | None = None, first_mm: float = 0.0):
    """Contours of a sphere round the middle of the grid, in planes `step_mm` apart (default: the slices)."""
    axes = np.asarray(grid.direction).T
    middle = grid.to_mm((np.array(grid.shape) - 1) / 2)
    step = step_mm or grid.spacing_mm[2]
    half = (grid.shape[0] - 1) / 2 * grid.spacing_mm[2]
    heights = np.arange(-half + first_mm, half, step)
    inside = heights[np.abs(heights) < radius]
    return [circle(middle + h * axes[2], np.sqrt(radius**2 - h * h), axes[0], axes[1]) for h in inside]


def shoelace_cc(contours, step_mm: float) -> float:
    area = 0.0
    for c in contours:
        spokes = c - c.mean(axis=0)
        area += np.linalg.norm(np.cross(spokes, np.roll(spokes, -1, axis=0)).sum(axis=0)) / 2
    return area * step_mm / 1000


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("radius", [8.0, 12.0, 20.0, 30.0])
def test_a_sphere_has_its_volume(name, radius):
    grid = GRIDS[name]
    contours = sphere(grid, radius)
    mask, found = rasterise(contours, grid)
    assert found == []
    volume = mask.sum() * grid.voxel_cc
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
    assert volume == pytest.approx(shoelace_cc(contours, 2.0), rel=0.01)
    partial = coverage(contours, grid)
    assert partial.sum() * grid.voxel_cc == pytest.approx(shoelace_cc(contours, 2.0), rel=5e-4)


@pytest.mark.parametrize(("step", "first"), [(1.0, 0.3), (0.5, 0.0), (5.0, 1.0), (3.0, 0.5), (2.0, 0.7)])
def test_planes_between_finer_and_coarser_than_the_slices(step, first):
    grid = GRIDS["axial"]
    mask, _ = rasterise(sphere(grid, 25.0, step, first), grid)
    assert mask.sum() * grid.voxel_cc == pytest.approx(4 / 3 * np.pi * 25.0**3 / 1000, rel=0.02)
    centre = np.argwhere(mask).mean(axis=0)
    assert np.abs(grid.to_mm(centre) - grid.to_mm([19.5, 44.5, 39.5])).max() < max(0.8, step / 3)


def square(z, low, high):
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]], dtype=float)


FLAT = Grid((3, 20, 20), (1, 1, 1))


def picture(mask):
    return ["".join(".#"[v] for v in row) for row in mask[1, 1:9, 1:9].astype(int)]


RING = ["........", ".######.", ".######.", ".##..##.", ".##..##.", ".######.", ".######.", "........"]


def test_a_hole_whatever_its_winding():
    outer, inner = square(1, 1.5, 7.5), square(1, 3.5, 5.5)
    assert picture(rasterise([outer, inner], FLAT)[0]) == RING
    assert picture(rasterise([outer, inner[::-1]], FLAT)[0]) == RING


def test_a_keyhole_leaves_no_line():
    outer, inner = square(1, 1.5, 7.5), square(1, 3.5, 5.5)[::-1]
    for bridge in (0.0, 0.123):  # the bridge runs through voxel centres, and beside them
        start = np.array([[1.5, 4.0 + bridge, 1.0]])
        entry = np.array([[3.5, 4.0 + bridge, 1.0]])
        loop = np.concatenate([start, outer[[3, 2, 1, 0]], start, entry, inner[[3, 0, 1, 2]], entry])
        assert picture(rasterise([loop], FLAT)[0]) == RING


def test_a_contour_given_twice_counts_once():
    outer = square(1, 1.5, 7.5)
    mask, found = rasterise([outer, np.roll(outer, 2, axis=0)], FLAT)
    assert mask.sum() == 36
    assert found == ["1 contour standing there twice taken once"]


def test_what_encloses_nothing_or_climbs_is_told():
    climbing = square(1, 1.5, 7.5) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    mask, found = rasterise([square(1, 1.5, 7.5), square(1, 0, 9)[:2], climbing, square(40, 1, 5)], FLAT)
    assert mask.sum() == 36
    assert found == [
        "1 contour with fewer than three points ignored",
        "1 contour not parallel to the slices ignored",
        "1 slices in a gap too wide to interpolate left empty",
        "1 contour planes beyond the image ignored",
    ]


def test_a_gap_of_two_slices_is_filled_and_a_wide_one_is_not():
    grid = Grid((20, 20, 20), (1, 1, 1))
    near, far = [square(z, 4.5, 12.5) for z in (2, 3, 4, 7, 8, 9)], [square(z, 4.5, 12.5) for z in (16, 17)]
    mask, found = rasterise([*near, *far], grid)
    assert mask.any(axis=(1, 2)).tolist() == [z in range(2, 10) or z in (16, 17) for z in range(20)]
    assert mask[5:7].sum() == 2 * 64
    assert found == [
        "2 slices without a contour interpolated between their neighbours",
        "6 slices in a gap too wide to interpolate left empty",
    ]


def test_a_lens_smaller_than_a_voxel_is_kept():
    grid = Grid((5, 8, 8), (4, 4, 4))
    mask, found = rasterise([square(8, 9.0, 11.0)], grid)
    assert mask.sum() >= 1
    assert mask[2, 2:4, 2:4].sum() == mask.sum()
    assert "covers no voxel centre" in found[0]


def test_a_contour_beyond_the_image_is_cut_and_told():
    mask, found = rasterise([square(1, -10, 9.5)], FLAT)
    assert mask.sum() == 100
    assert found == ["reaches outside the image and is cut there"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_coordinate_that_is_none_is_refused(value):
    bad = square(1, 1, 5)
    bad[2, 0] = value
    with pytest.raises(ValueError, match="not finite or beyond 10 m"):
        rasterise([bad], FLAT)


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, (3, 9, 11), elements=st.booleans(), fill=st.booleans()))
def test_outlines_give_the_mask_back(mask):
    for grid in (
        Grid(mask.shape, (0.7, 1.3, 2.5), (3.3, -7.1, 11.7)),
        Grid(mask.shape, (1, 1, 3), direction=OBLIQUE),
    ):
        contours = [np.round(c, 4) for c in outlines(mask, grid)]  # as written with four decimals
        if not mask.any():
            assert contours == []
            continue
        back, _ = rasterise(contours, grid)
        slices = mask.any(axis=(1, 2))
        assert (back[slices] == mask[slices]).all()
