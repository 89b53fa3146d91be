"""The pelvis is a patient: the right way round, of a patient's size, different for every seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from anydose.case import anatomy
from anydose.cli.app import app
from anydose.io.pelvis import Traits, make_pelvis
from anydose.io.read import read_case

VOLUMES_CC = {
    "BODY": (8000, 20000),
    "Prostate": (20, 120),
    "Rectum": (40, 260),
    "SeminalVes": (2, 25),
    "PenileBulb": (0.8, 6),
    "Bladder": (50, 480),
    "Bag_Bowel": (200, 1000),
    "Femur_Head_L": (35, 95),
    "Femur_Head_R": (35, 95),
}


@pytest.fixture(scope="module", params=(0, 3, 11))
def patient(request):
    return make_pelvis(request.param)


def centre(case, name):
    return case.grid.to_mm(np.argwhere(case.structures[name]).mean(axis=0))


def test_organs_are_of_a_patient_s_size_in_one_piece_and_apart(patient):
    assert set(patient.structures) == set(VOLUMES_CC) and patient.dose is None and not patient.beams
    for name, (low, high) in VOLUMES_CC.items():
        mask = patient.structures[name]
        assert low < mask.sum() * patient.grid.voxel_cc < high, name
        pieces = ndimage.label(mask, np.ones((3, 3, 3)))[1]
        assert pieces == 1 or (name, pieces) == ("SeminalVes", 2)
    organs = [mask for name, mask in patient.structures.items() if name != "BODY"]
    assert np.sum(organs, axis=0).max() == 1
    assert not (np.logical_or.reduce(organs) & ~patient.body).any()
    assert anatomy.warnings(patient) == []


def test_it_lies_the_right_way_round(patient):
    x, y, z = range(3)
    assert centre(patient, "Femur_Head_R")[x] < centre(patient, "Prostate")[x]
    assert centre(patient, "Prostate")[x] < centre(patient, "Femur_Head_L")[x]
    from_the_front = ("Bladder", "Prostate", "Rectum")
    assert sorted(from_the_front, key=lambda name: centre(patient, name)[y]) == list(from_the_front)
    upwards = ("PenileBulb", "Prostate", "SeminalVes", "Bladder", "Bag_Bowel")
    assert sorted(upwards, key=lambda name: centre(patient, name)[z]) == list(upwards)


def test_its_tissues_have_their_ct_numbers(patient):
    hu = patient.ct.array
    for name, (low, high) in {"Bladder": (-10, 25), "Prostate": (25, 65), "Femur_Head_L": (280, 760)}.items():
        assert low < np.median(hu[patient.structures[name]]) < high, name
    assert 8 < hu[ndimage.binary_erosion(patient.structures["Bladder"], iterations=2)].std() < 30  # noise
    assert (hu[~ndimage.binary_dilation(patient.body, iterations=3)] == -1024).all()  # neither table nor skin
    assert np.array_equal(hu, np.rint(hu))


def test_bladders_and_rectums_differ_much_from_patient_to_patient():
    drawn = [Traits.draw(np.random.default_rng([seed, 263])) for seed in range(60)]
    bladder_cc, ampulla_mm = [t.bladder_cc for t in drawn], [t.rectum_mm[1] for t in drawn]
    assert max(bladder_cc) > 5 * min(bladder_cc) and max(ampulla_mm) > 1.7 * min(ampulla_mm)


def test_a_bladder_has_the_volume_that_was_drawn_and_a_seed_is_one_patient(patient):
    seed = int(patient.name.removeprefix("pelvis_"))
    traits = Traits.draw(np.random.default_rng([seed, 263]))
    cc = patient.structures["Bladder"].sum() * patient.grid.voxel_cc / traits.size**3
    assert 0.8 * traits.bladder_cc < cc < 1.1 * traits.bladder_cc  # the prostate's base dents it
    again = make_pelvis(seed)
    assert np.array_equal(again.ct.array, patient.ct.array) and again.grid == patient.grid


def test_the_command_writes_it_with_targets_and_beams_as_dicom(tmp_path):
    done = CliRunner().invoke(app, ["phantom", str(tmp_path / "p"), "--site", "pelvis", "--seed", "3"])
    assert done.exit_code == 0, done.output
    read = read_case(tmp_path / "p")
    assert read.prescription.levels_gy == {"PTV_6000": 60.0, "PTV_4800": 48.0}
    assert [beam.gantry_deg for beam in read.beams][:2] == [(0.0,), (50.0,)] and read.dose is None
    assert np.array_equal(read.structures["Rectum"], make_pelvis(3).structures["Rectum"])
    refused = CliRunner().invoke(
        app, ["phantom", str(tmp_path / "q"), "--site", "pelvis", "--format", "openkbp"]
    )
    assert isinstance(refused.exception, ValueError) and "pelvis as nifti or dicom" in str(refused.exception)
