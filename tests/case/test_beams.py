"""Beams against the geometry that defines them: IEC 61217, rays, the inverse square law, water."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from anydose.case import beams
from anydose.case.beams import Beam
from anydose.case.grid import Grid
from anydose.case.volume import bounding_box

LEFT, RIGHT, FRONT, BACK = (1, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 1, 0)
HEAD, FEET = (0, 0, 1), (0, 0, -1)


def from_where(gantry: float, position: str = "HFS", couch: float = 0.0) -> np.ndarray:
    beam = Beam((gantry,), (5.0, -3.0, 20.0), couch_deg=couch)
    return (beams.beams_eye_view(beam, gantry, position).source_mm - beam.isocentre_mm) / beam.sad_mm


@pytest.mark.parametrize(
    ("position", "at_0", "at_90"),
    [
        ("HFS", FRONT, LEFT),
        ("HFP", BACK, RIGHT),
        ("FFS", FRONT, RIGHT),
        ("FFP", BACK, LEFT),
        ("HFDL", RIGHT, FRONT),
        ("HFDR", LEFT, BACK),
        ("FFDL", RIGHT, BACK),
        ("FFDR", LEFT, FRONT),
    ],
)
def test_the_source_stands_where_the_patient_position_puts_it(position, at_0, at_90):
    # gantry 0 is above the couch, gantry 90 to the right of one who faces the gantry
    assert np.allclose(from_where(0, position), at_0, atol=1e-12)
    assert np.allclose(from_where(90, position), at_90, atol=1e-12)
    assert np.allclose(from_where(180, position), -np.array(at_0), atol=1e-12)


@pytest.mark.parametrize("position", beams.PATIENT_FROM_TABLE)
def test_a_patient_is_turned_never_mirrored(position):
    assert np.linalg.det(np.array(beams.PATIENT_FROM_TABLE[position])) == pytest.approx(1)


def test_the_couch_turns_counter_clockwise_seen_from_above():
    # head first supine, couch 90: the head turns to the left of one who faces the gantry, the feet to the
    # right, so the source at gantry 90 is at the feet; at gantry 270 it is over the head
    assert np.allclose(from_where(90, couch=90), FEET, atol=1e-12)
    assert np.allclose(from_where(270, couch=90), HEAD, atol=1e-12)
    assert np.allclose(from_where(0, couch=37), FRONT, atol=1e-12)
    half = np.sqrt(0.5)
    assert np.allclose(from_where(90, couch=45), (half, 0, -half), atol=1e-12)


@pytest.mark.parametrize("position", beams.PATIENT_FROM_TABLE)
def test_a_view_s_axes_are_a_right_handed_frame_that_looks_at_the_isocentre(position):
    beam = Beam((33.0,), (5.0, -3.0, 20.0), couch_deg=20, sad_mm=800)
    v = beams.beams_eye_view(beam, 33.0, position)
    frame = np.stack([v.u, v.v, v.w])
    assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.allclose(np.cross(v.u, v.v), -v.w, atol=1e-12)  # IEC: z points back to the source
    assert np.allclose(v.source_mm + 800 * v.w, beam.isocentre_mm)


@pytest.mark.parametrize(("gantry", "azimuth"), [(0, 0), (90, 90), (180, 180), (320, 320)])
def test_azimuth_is_the_gantry_angle_head_first_supine(gantry, azimuth):
    assert beams.beams_eye_view(Beam((gantry,), (0, 0, 0)), gantry).azimuth_deg == pytest.approx(azimuth)


def test_an_unknown_patient_position_is_refused():
    with pytest.raises(ValueError, match="SITTING.*HFS"):
        beams.beams_eye_view(Beam((0.0,), (0, 0, 0)), 0.0, "SITTING")


@pytest.mark.parametrize("angles", [(), (float("nan"),)])
def test_a_beam_without_an_angle_is_refused(angles):
    with pytest.raises(ValueError, match="gantry angle"):
        Beam(angles, (0, 0, 0), name="B1")


def test_an_arc_is_drawn_at_every_second_control_point():
    arc = Beam(tuple(np.arange(0.0, 360.0, 2.0)), (0, 0, 0))
    assert [v.azimuth_deg for v in beams.beams_eye_views([arc])] == pytest.approx(
        list(np.arange(0.0, 360.0, 4.0))
    )


def test_projection_of_a_point_by_hand():
    # gantry 0: source 1000 mm in front; a point 100 mm behind the isocentre is seen smaller by 1000 / 1100
    grid = Grid((1, 1, 1), (1, 1, 1), (22.0, 100.0, -33.0))
    u, v, w = beams.project(beams.beams_eye_view(Beam((0.0,), (0, 0, 0)), 0.0), grid)
    assert (u.item(), v.item(), w.item()) == pytest.approx((20.0, -30.0, 1100.0), rel=1e-5)


def shadow(
    v: beams.BeamsEyeView, boxes: list[tuple[np.ndarray, np.ndarray]], grid: Grid, grow: float
) -> np.ndarray:
    """Ray by ray, voxel by voxel: whose line from the source hits one of `boxes` (index corners) grown by
    `grow` mm."""
    out = np.zeros(grid.shape, dtype=bool)
    source = grid.to_index(v.source_mm)
    rim = grow / np.array(grid.spacing_zyx_mm)
    for index in np.ndindex(*grid.shape):
        direction = np.subtract(index, source)
        for low, high in boxes:
            a, b = (low - rim - source) / direction, (high + rim - source) / direction
            if np.minimum(a, b).max() <= np.maximum(a, b).min():
                out[index] = True
    return out


@pytest.mark.parametrize(("gantry", "couch"), [(13.0, 0.0), (102.0, 0.0), (245.0, 0.0), (77.0, 31.0)])
def test_a_plate_is_the_shadow_of_the_target_ray_by_ray(gantry, couch):
    turn = Rotation.from_euler("xyz", (5, -4, 9), degrees=True).as_matrix()
    grid = Grid((24, 26, 28), (4.0, 4.0, 3.0), (-55, -50, -35), tuple(map(tuple, turn)))
    target = np.zeros(grid.shape, dtype=bool)
    target[8:16, 9:13, 8:20] = target[8:13, 9:19, 8:13] = True  # an L
    half = 0.5
    boxes = [
        (np.array([8, 9, 8]) - half, np.array([15, 12, 19]) + half),
        (np.array([8, 9, 8]) - half, np.array([12, 18, 12]) + half),
    ]
    v = beams.beams_eye_view(Beam((gantry,), tuple(grid.to_mm((12, 13, 14))), couch_deg=couch), gantry)
    plate = beams.beam_plate(v, target, grid)
    every = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) - v.source_mm
    full = v.sad_mm**2 / (every**2).sum(axis=-1)
    inner, outer = shadow(v, boxes, grid, -2.5), shadow(v, boxes, grid, 2.5)
    assert inner.sum() > 500 and (~outer).sum() > 500
    assert np.allclose(plate[inner], full[inner], rtol=1e-4)
    assert not plate[~outer].any()
    assert (plate <= full * 1.0001).all() and (plate >= 0).all()


@pytest.mark.parametrize("seed", range(12))
def test_a_plate_drawn_box_by_box_is_that_of_the_whole_grid(monkeypatch, seed):
    """Any direction of grid, couch and gantry, and a source among the voxels: equal to the last bit."""
    chance = np.random.default_rng(seed)
    shape = tuple(int(n) for n in chance.integers(8, 50, 3))
    direction = np.eye(3) if seed % 3 == 0 else Rotation.random(random_state=seed).as_matrix()
    grid = Grid(shape, tuple(chance.uniform(1, 5, 3)), tuple(chance.uniform(-99, 99, 3)), direction=direction)
    target = np.zeros(shape, dtype=bool)
    middle = [int(chance.integers(3, n - 3)) for n in shape]
    target[tuple(slice(at - 3, at + 4) for at in middle)] = True
    near = seed % 4 == 3
    isocentre = tuple(grid.to_mm(np.array(middle, dtype=float)) + chance.normal(size=3) * 10)
    beam = Beam(
        (float(chance.uniform(0, 360)),), isocentre, float(chance.uniform(-90, 90)), 0.0, 120 if near else 900
    )
    seen = beams.beams_eye_view(beam, beam.gantry_deg[0])
    boxed = beams.beam_plate(seen, target, grid)
    monkeypatch.setattr(beams, "_shadow_boxes", lambda *_: [(slice(None), slice(None), slice(None))])
    assert np.array_equal(boxed, beams.beam_plate(seen, target, grid)) and boxed.any()


def test_the_inverse_square_law_is_exact_on_the_axis():
    grid = Grid((9, 61, 9), (4.0, 5.0, 4.0))
    iso = grid.to_mm((4, 30, 4))
    target = np.zeros(grid.shape, dtype=bool)
    target[2:7, 28:33, 2:7] = True
    plate = beams.beam_plate(beams.beams_eye_view(Beam((0.0,), tuple(iso)), 0.0), target, grid)
    distance = 1000.0 + 5.0 * (np.arange(61) - 30)
    assert plate[4, :, 4] == pytest.approx((1000.0 / distance) ** 2, rel=1e-5)


def path_in_box(v: beams.BeamsEyeView, low: np.ndarray, high: np.ndarray, points: np.ndarray):
    """Exact length of source -> point inside the box `low` to `high` (LPS mm), for points inside it, and how
    far before its surface the ray is already within all other faces (small where it enters at an edge)."""
    d = points - v.source_mm
    enter = np.sort(np.minimum((low - v.source_mm) / d, (high - v.source_mm) / d), axis=-1)
    length = np.linalg.norm(d, axis=-1)
    return (1 - enter[:, 2]) * length, (enter[:, 2] - enter[:, 1]) * length


@pytest.mark.parametrize("gantry", [0.0, 25.0, 90.0, 160.0])
@pytest.mark.parametrize("density", [1.0, 1.5])
def test_depth_in_water_is_the_length_of_the_ray_in_it(gantry, density):
    grid = Grid((40, 60, 60), (4.0, 4.0, 3.0), (-118, -118, -58.5))
    water = np.zeros(grid.shape, dtype=np.float32)
    water[5:35, 10:50, 10:50] = density
    low, high = grid.to_mm((4.5, 9.5, 9.5)), grid.to_mm((34.5, 49.5, 49.5))
    v = beams.beams_eye_view(Beam((gantry,), (0, 0, 0)), gantry)
    inside = np.argwhere(water[12:28, 14:46, 14:46]) + (12, 14, 14)
    path, clear = path_in_box(v, low, high, grid.to_mm(inside))
    exact = path * density
    found = beams.radiological_depth(v, water, grid)[tuple(inside.T)]
    deep = (path > 30) & (clear > 12)
    assert deep.sum() > 1000
    assert np.abs(found[deep] / exact[deep] - 1).max() < 0.01


def test_air_has_no_depth_and_a_cavity_takes_its_length_away():
    grid = Grid((16, 64, 16), (4.0, 4.0, 4.0), (-30, -126, -30))
    v = beams.beams_eye_view(Beam((0.0,), (0, 0, 0)), 0.0)
    assert not beams.radiological_depth(v, np.zeros(grid.shape, dtype=np.float32), grid).any()
    solid = np.ones(grid.shape, dtype=np.float32)
    hollow = solid.copy()
    hollow[:, 20:30] = 0  # 40 mm of air across the beam
    missing = beams.radiological_depth(v, solid, grid) - beams.radiological_depth(v, hollow, grid)
    assert missing[8, 40:, 8] == pytest.approx(40.0, rel=0.01)
    assert missing[8, :18, 8] == pytest.approx(0.0, abs=0.01)


def test_relative_density_of_air_water_and_bone():
    density = beams.relative_density(np.array([-2000, -1000, -500, 0, 1000, 9000]))
    assert density.tolist() == [0, 0, 0.5, 1, 1.5, 2.5]


def small_head() -> tuple[Grid, np.ndarray, np.ndarray]:
    """An asymmetric target and body on a grid whose middle is the origin."""
    grid = Grid((20, 30, 30), (4, 4, 3), (-58, -58, -28.5))
    z, y, x = np.indices(grid.shape)
    body = ((y - 14.5) / 13) ** 2 + ((x - 14.5) / 11) ** 2 < 1
    target = ((z - 11) / 5) ** 2 + ((y - 12) / 5) ** 2 + ((x - 18) / 4) ** 2 < 1
    density = np.where(x > 16, 1.3, 0.9) * body
    return grid, target, density.astype(np.float32)


ISO = np.array([13.0, -9.0, 5.0])


def draw(isocentre, target, density, grid, angles=tuple(range(0, 360, 40))):
    field = [Beam((float(a),), tuple(isocentre)) for a in angles]
    return beams.draw_beams(beams.beams_eye_views(field), target, grid, density)


@pytest.mark.parametrize("angles", [range(0, 360, 40), (180,), (20, 335), (0, 50, 130, 200, 300)])
def test_a_mirrored_patient_has_the_mirrored_beams_with_their_sectors_exchanged(angles):
    grid, target, density = small_head()
    here = draw(ISO, target, density, grid, angles)
    across = [(-a) % 360 for a in angles]
    there = draw(ISO * (-1, 1, 1), target[..., ::-1], density[..., ::-1], grid, across)
    assert np.abs(here).max() > 0.1
    assert np.allclose(there, here[list(beams.mirrored_sectors())][..., ::-1], atol=1e-5)


def test_a_beam_between_two_sectors_is_shared_and_nothing_of_it_is_lost():
    grid, target, density = small_head()
    alone = draw(ISO, target, density, grid, (10,))
    assert np.flatnonzero(alone[1:].any(axis=(1, 2, 3))).tolist() == [0, 1]  # centres at 0 and 40 degrees
    assert np.allclose(alone[1], 3 * alone[2], rtol=1e-4)
    v = beams.beams_eye_view(Beam((10.0,), tuple(ISO)), 10.0)
    plate = beams.beam_plate(v, target, grid)
    whole = plate * np.exp(-beams.MU_PER_MM * beams.radiological_depth(v, density, grid))
    assert np.allclose(alone[1:].sum(axis=0), 9 * whole, atol=1e-4)


def test_head_and_feet_exchanged_leave_coplanar_beams_in_their_sectors():
    grid, target, density = small_head()
    here = draw(ISO, target, density, grid)
    there = draw(ISO * (1, 1, -1), target[::-1], density[::-1], grid)
    assert np.allclose(there, here[:, ::-1], atol=1e-5)


def test_a_crop_to_the_body_changes_nothing_in_it():
    grid, target, density = small_head()
    start, shape = bounding_box(density > 0)
    cut = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    whole = draw(ISO, target, density, grid)[(slice(None), *cut)]
    assert np.allclose(draw(ISO, target[cut], density[cut], grid.crop(start, shape)), whole, atol=1e-5)


def test_the_beam_channels_are_the_mean_plate_and_each_attenuated_beam():
    grid, target, density = small_head()
    field = beams.equispaced(9, ISO)
    drawn = draw(ISO, target, density, grid)
    views = beams.beams_eye_views(field)
    plates = [beams.beam_plate(v, target, grid) for v in views]
    assert np.allclose(drawn[0], np.mean(plates, axis=0), atol=1e-5)
    for k in (0, 2, 7):
        depth = beams.radiological_depth(views[k], density, grid)
        expected = plates[k] * np.exp(-beams.MU_PER_MM * depth)
        assert np.allclose(drawn[1 + k], expected, atol=1e-5)


def test_an_arc_counts_like_its_equispaced_beams_together():
    grid, target, density = small_head()
    still = draw(ISO, target, density, grid)
    arc = Beam(tuple(np.arange(0.0, 360.0, 20.0)), tuple(ISO))  # every second one: the same nine angles
    turned = beams.draw_beams(beams.beams_eye_views([arc]), target, grid, density)
    assert np.allclose(turned, still, atol=1e-5)


def test_a_target_with_no_voxel_casts_no_shadow():
    grid, target, density = small_head()
    with pytest.raises(ValueError, match="no voxel"):
        draw(ISO, np.zeros_like(target), density, grid)


def test_the_angle_plate_points_from_the_isocentre_to_each_source():
    grid = Grid((30, 121, 121), (2.5, 2.5, 2.0))
    iso = grid.to_mm((15, 60, 60))
    plate = beams.angle_plate(
        beams.beams_eye_views([Beam((0.0,), tuple(iso)), Beam((90.0,), tuple(iso))]), iso, grid
    )
    assert set(np.unique(plate)) == {0.0, 1.0}
    assert np.flatnonzero(plate.any(axis=(1, 2))).tolist() == list(range(10, 20))  # ten slices
    h, w = np.nonzero(plate[15])
    forward, left = w <= 62, h >= 58
    assert (forward | left).all()
    assert h[forward].min() == 10 and w[left].max() == 110  # 50 voxels towards the front and the left
    assert plate[15, 11:60, 60].all() and plate[15, 60, 61:110].all()
    assert not plate[15, 64:, :58].any()  # nothing behind on the right


def test_a_rotation_by_one_sector_moves_every_attenuated_plate_to_the_next_azimuth():
    channels = np.eye(1 + beams.SECTORS, dtype=np.float32)
    moved = beams.rotated_sectors(360.0 / beams.SECTORS) @ channels
    assert np.array_equal(moved[0], channels[0])  # the mean plate stays
    for sector in range(beams.SECTORS):
        assert np.array_equal(moved[1 + (sector + 1) % beams.SECTORS], channels[1 + sector])


def test_the_angle_plate_points_from_the_isocentre_towards_the_source_alone():
    grid = Grid((20, 121, 121), (2.5, 2.5, 2.0))
    isocentre = tuple(grid.to_mm((10, 60, 60)))
    plate = beams.angle_plate(beams.beams_eye_views([Beam((0.0,), isocentre)]), isocentre, grid)
    _, rows, _ = np.nonzero(plate)
    assert rows.max() == 60  # nothing posterior of the isocentre
    assert rows.min() == 10  # fifty voxels to the front
