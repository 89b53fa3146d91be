"""The phantom is a patient: the right way round, of a patient's size, different for every seed."""

from __future__ import annotations

import numpy as np
import pytest
from patients import phantom_of
from scipy import ndimage

from anydose.io import openkbp
from anydose.io.phantom import make_phantom, write_patient, write_phantom

# half the 10th percentile to 1.5 times the 90th of OpenKBP validation patients, in cc
VOLUMES_CC = {
    "possible_dose_mask": (1000, 16000),
    "Brainstem": (5, 47),
    "SpinalCord": (7, 61),
    "RightParotid": (7, 60),
    "LeftParotid": (7, 56),
    "Esophagus": (4, 33),
    "Larynx": (8, 67),
    "Mandible": (25, 130),
    "PTV56": (48, 925),
    "PTV63": (5, 395),
    "PTV70": (74, 1200),
}


@pytest.fixture(scope="module", params=range(6))
def patient(request):
    return phantom_of(request.param)


def centre(case, name):
    return case.grid.to_mm(np.argwhere(case.structures[name]).mean(axis=0))


def test_it_has_what_a_patient_has_and_no_invented_dose(patient):
    assert patient.grid.shape == (128, 128, 128)
    assert set(patient.structures) == set(VOLUMES_CC)
    assert patient.prescription.levels_gy == {"PTV56": 56.0, "PTV63": 63.0, "PTV70": 70.0}
    assert len(patient.beams) == 9 and patient.dose is None


@pytest.mark.parametrize("name", VOLUMES_CC)
def test_organs_are_of_a_patient_s_size_and_in_one_piece(patient, name):
    mask = patient.structures[name]
    low, high = VOLUMES_CC[name]
    assert low < mask.sum() * patient.grid.voxel_cc < high
    if not name.startswith("PTV"):
        sizes = np.bincount(ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel())[1:]
        assert sizes.max() > 0.98 * mask.sum()


def test_it_lies_the_right_way_round(patient):
    x, y, z = range(3)
    assert (
        centre(patient, "RightParotid")[x] < centre(patient, "Larynx")[x] < centre(patient, "LeftParotid")[x]
    )
    order = ("Brainstem", "Mandible", "Larynx", "Esophagus")
    heights = [centre(patient, name)[z] for name in order]
    assert heights == sorted(heights, reverse=True)
    assert centre(patient, "Mandible")[y] < centre(patient, "Larynx")[y] < centre(patient, "SpinalCord")[y]


def test_targets_share_no_voxel_with_each_other_or_with_cord_and_brainstem(patient):
    s = patient.structures
    levels = [s["PTV56"], s["PTV63"], s["PTV70"]]
    assert np.sum(levels, axis=0).max() == 1
    assert not (np.logical_or.reduce(levels) & (s["SpinalCord"] | s["Brainstem"])).any()
    assert not (np.logical_or.reduce(levels) & ~patient.body).any()


def test_its_tissues_have_their_ct_numbers(patient):
    hu = {name: patient.ct.array[mask] for name, mask in patient.structures.items()}
    assert 500 < hu["Mandible"].mean() < 1200
    assert hu["Larynx"].min() < -900  # the airway runs through it
    for name in ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid"):
        assert -60 < hu[name].mean() < 60
    assert -300 < np.median(patient.ct.array[patient.body]) < 80
    assert (patient.ct.array[:, :5] == -1024).all()  # air in front of the patient
    assert np.array_equal(patient.ct.array, np.rint(patient.ct.array))


def test_bone_lies_around_the_cord(patient):
    cord = patient.structures["SpinalCord"]
    neck = np.argwhere(cord)[:, 0].mean().astype(int)
    around = ndimage.binary_dilation(cord[neck - 4 : neck + 4], iterations=3)
    assert np.percentile(patient.ct.array[neck - 4 : neck + 4][around], 80) > 250


def test_the_same_seed_is_the_same_patient_and_another_is_another():
    a, b, c = make_phantom(4), make_phantom(4), make_phantom(5)
    assert np.array_equal(a.ct.array, b.ct.array) and a.grid == b.grid and a.beams == b.beams
    assert all(np.array_equal(a.structures[n], b.structures[n]) for n in a.structures)
    assert a.grid != c.grid and not np.array_equal(a.structures["PTV70"], c.structures["PTV70"])


def test_it_comes_back_from_openkbp_files_as_it_was(tmp_path):
    written = write_phantom(2, tmp_path / "pt_2")
    read = openkbp.read_case(tmp_path / "pt_2")
    assert read.grid.matches(written.grid)
    assert np.array_equal(read.ct.array, written.ct.array)
    assert read.structures.keys() == written.structures.keys()
    assert all(np.array_equal(read.structures[n], m) for n, m in written.structures.items())
    assert read.beams == written.beams
    assert read.prescription == written.prescription


def test_it_comes_back_from_nifti_files_as_it_was(tmp_path):
    from anydose.io import nifti

    written = write_patient(lambda: phantom_of(2), tmp_path / "two", "nifti")
    read = nifti.read_case(tmp_path / "two")
    assert read.grid.matches(written.grid)
    assert np.array_equal(read.ct.array, written.ct.array)
    assert all(np.array_equal(read.structures[n], m) for n, m in written.structures.items())
    assert read.prescription.levels_gy == written.prescription.levels_gy


def test_it_comes_back_from_a_dicom_study_in_its_place(tmp_path):
    from anydose.io.read import read_case

    written = write_patient(lambda: phantom_of(2), tmp_path / "two", "dicom")
    read = read_case(tmp_path / "two")
    assert read.grid.matches(written.grid)
    assert np.array_equal(read.ct.array, written.ct.array)
    for name, mask in written.structures.items():  # through contours: a rim voxel may differ
        assert (read.structures[name] ^ mask).sum() <= 0.02 * mask.sum(), name
    assert [b.gantry_deg for b in read.beams] == [b.gantry_deg for b in written.beams]
    assert np.allclose(read.beams[0].isocentre_mm, written.beams[0].isocentre_mm, atol=0.1)


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="a new or empty folder is accepted"):
        write_phantom(0, tmp_path / "file")
    with pytest.raises(ValueError, match="openkbp, nifti, dicom"):
        write_phantom(0, tmp_path / "new", "mhd")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
