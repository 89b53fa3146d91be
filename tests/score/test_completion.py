"""Generated modalities: levels snap, masks carry names, and figures are those worked out by hand."""

import numpy as np
import pytest
from patients import phantom_of

from anydose.score import completion
from anydose.score.report.completion import write_completion

BODY = np.ones((2, 2, 2), dtype=bool)


def full(value, channels=1):
    return np.full((channels, 2, 2, 2), value, dtype=np.float32)


def test_a_level_snaps_to_the_nearest_prescription_and_to_none():
    raw = np.array([-3.0, 27.9, 28.1, 59.4, 59.6, 66.4, 66.6, 90.0])
    assert list(completion.snapped(raw, (70, 63, 56, 70))) == [0, 0, 56, 56, 63, 63, 70, 70]


def test_dice_of_halves():
    a, b = BODY.copy(), BODY.copy()
    b[0] = False
    assert completion.dice(a, b) == pytest.approx(2 / 3)
    assert completion.dice(~BODY, ~BODY) == 1
    assert completion.dice(BODY, ~BODY) == 0


def test_figures_are_mean_errors_inside_the_body_alone():
    made, body = full(30.0), BODY.copy()
    made[0, 1] = 500.0
    body[1] = False
    assert completion.figures("ct", full(-10.0), made, body) == {"ct_mae_hu": 40.0}
    assert completion.figures("dose", full(70.0), full(67.5), BODY) == {"dose_mae_gy": 2.5}
    assert completion.naive("ct", full(40.0), BODY) == {"ct_mae_hu": 40.0}
    corner = np.zeros((4, 4, 4), dtype=bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True  # two voxels in a box of eight
    assert completion.naive("body", corner[None].astype(np.float32), corner) == {"body_dice": 0.4}


def test_target_levels_count_one_by_one_and_together():
    truth, made = full(56.0), full(70.0)
    truth[0, 0] = 70.0
    found = completion.figures("ptv", truth, made, BODY, (56.0, 70.0))
    assert found == {"ptv_dice": 1.0, "ptv_level_dice": pytest.approx((0 + 2 / 3) / 2)}


def test_organs_that_are_not_there_do_not_count():
    truth, made = full(0.0, 8), full(0.0, 8)
    truth[1], made[1], made[4] = 1.0, 0.7, 0.9
    assert completion.figures("oar", truth, made, BODY) == {"oar_dice": 1.0, "SpinalCord_dice": 1.0}


def test_masks_are_named_and_never_empty():
    made = full(0.2, 8)
    made[1] = 0.6
    found = completion.masks("oar", made, {0: "Brainstem", 1: "Cord"}, {})
    assert list(found) == ["Cord"] and found["Cord"].all()
    levels = completion.masks("ptv", full(61.0), {}, {"PTV70": 70.0, "PTV63": 63.0})
    assert list(levels) == ["PTV63"]


@pytest.mark.parametrize("target", ["ct", "oar", "ptv", "angle"])
def test_a_page_is_drawn_with_and_without_the_truth(tmp_path, target):
    from matplotlib import image

    from anydose.case import modality

    case = phantom_of(0).block((40, 30, 30), (60, 64, 64))
    truth = modality.TABLE[target].draw(case)
    write_completion(case, target, truth, truth, tmp_path / "two.png", "two")
    write_completion(case, target, truth, None, tmp_path / "one.png", "one")
    two, one = (image.imread(tmp_path / name) for name in ("two.png", "one.png"))
    assert two.shape[0] > 1.5 * one.shape[0]
    assert two.std() > 0.05
