"""The guard: silent on what it was taught with, one sentence on every way of being another kind of case."""

import json
from dataclasses import replace

import numpy as np
import pytest
from patients import phantom_of

from anydose.case.beams import equispaced
from anydose.case.case import Prescription
from anydose.case.naming.vocabulary import HEAD_NECK, PROSTATE
from anydose.case.volume import Volume
from anydose.io.pelvis import make_pelvis
from anydose.score import training_ranges as guard
from anydose.simulate.habit import SEVEN_FIELDS, set_up


@pytest.fixture(scope="module")
def taught():
    return guard.learn(phantom_of(seed) for seed in range(4))


def test_it_is_silent_on_every_case_it_was_taught_with(taught, phantom):
    assert guard.warnings(phantom, taught) == []
    assert taught.patients == 4
    assert taught.numbers["beams"] == (9, 9, 9)
    assert taught.directions_deg == tuple(range(0, 360, 40))


def test_facts_are_in_millimetres_and_cubic_centimetres(phantom):
    found = guard.facts(phantom)
    body = phantom.body
    assert found["body_cc"] == pytest.approx(body.sum() * np.prod(phantom.grid.spacing_mm) / 1000)
    assert found["body_z_mm"] == body.any(axis=(1, 2)).sum() * 2.5
    assert found["lowest_level"] == pytest.approx(0.8)
    assert found["organs"] == 7 and found["other_organs"] == 0


def test_organs_are_those_of_the_model_s_vocabulary():
    """A pelvis has no organ of the head and neck; to a model of the prostate it is a usual patient."""
    pelvis = set_up(make_pelvis(0), SEVEN_FIELDS)
    found = guard.facts(pelvis, PROSTATE)
    assert found["organs"] == len(pelvis.of_role("oar")) - found["other_organs"] >= 6
    taught = guard.learn([pelvis], PROSTATE)
    assert guard.warnings(pelvis, taught) == []
    said = guard.warnings(pelvis, replace(taught, organs=HEAD_NECK.organs))
    assert any("another site than in training" in sentence for sentence in said)


def spoiled(case, what):
    isocentre = case.beams[0].isocentre_mm
    ct = case.ct.array
    changes = {
        "prescription": {
            "prescription": Prescription({n: 0.5 * g for n, g in case.prescription.levels_gy.items()})
        },
        "single beam": {"beams": equispaced(1, isocentre)},
        "seven beams": {"beams": equispaced(7, isocentre)},
        "turned beams": {"beams": equispaced(9, isocentre, first_deg=20.0)},
        "one level": {"prescription": Prescription({"PTV70": 70.0})},
        "shifted CT": {"ct": Volume(ct + 1000, case.grid, "HU")},
        "no CT": {"ct": None},
        "no beams": {"beams": ()},
        "other site": {
            "structures": {
                "Rectum" if n == "Larynx" else n: m
                for n, m in case.structures.items()
                if n == "Larynx" or n.startswith(("PTV", "possible"))
            }
        },
        "huge target": {"structures": {**case.structures, "PTV70": case.body}},
        "thick slices": {},
    }[what]
    return replace(case, **changes)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("prescription", "highest prescription of 35 Gy"),
        ("single beam", "beam directions: 1; the 4 training patients had 9"),
        ("seven beams", "beam directions: 7"),
        ("turned beams", "beams from 20, 60, 100"),
        ("one level", "target levels: 1"),
        ("shifted CT", "median CT number"),
        ("no CT", "no CT; 0 of the 4 training patients had none"),
        ("no beams", "no beam;"),
        ("other site", "another site than in training"),
        ("huge target", "targets that fill"),
    ],
)
def test_another_kind_of_case_is_named(taught, phantom, what, words):
    said = guard.warnings(spoiled(phantom, what), taught)
    assert any(words in sentence for sentence in said), said


def test_other_voxels_are_named_and_an_unturned_patient_is_not(taught, phantom):
    coarse = phantom.on(phantom.grid.with_spacing((6.0, 6.0, 5.0)))
    said = " ".join(guard.warnings(coarse, taught))
    assert "slices 5 mm apart" in said and "voxels of 6 mm" in said
    grid = phantom.grid
    turned = replace(
        grid,
        origin_mm=tuple(grid.to_mm(np.array(grid.shape) - 1.0)),
        direction=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    )
    assert guard.warnings(phantom.on(turned), taught) == []


def test_ranges_are_the_same_after_a_file(taught, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(guard.as_json(taught)))
    again = guard.read(tmp_path / "r.json")
    assert (again.numbers, again.patients, again.organs) == (dict(taught.numbers), 4, taught.organs)
    assert list(again.directions_deg) == list(taught.directions_deg)


def test_nothing_is_learned_from_nobody():
    with pytest.raises(ValueError, match="no case"):
        guard.learn([])


def test_angles_are_compared_round_the_circle():
    assert guard._nearest(355.0, [5.0, 90.0]) == pytest.approx(10.0)
    assert guard._nearest(5.0, [355.0, 90.0]) == pytest.approx(10.0)
