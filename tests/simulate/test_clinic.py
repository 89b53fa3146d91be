"""A simulated clinic: plans as a physicist wants them, of the clinic's own habit, through DICOM and back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from anydose.case.beams import beams_eye_views
from anydose.io.pelvis import make_pelvis
from anydose.io.read import read_case
from anydose.simulate.clinic import plan_figures, write_clinic
from anydose.simulate.habit import ARC, SEVEN_FIELDS, habit_of, set_up
from anydose.simulate.inverse import planned


@pytest.fixture(scope="module")
def patient():
    return make_pelvis(1)


@pytest.fixture(scope="module")
def plan(patient):
    return planned(patient, SEVEN_FIELDS, 1)


def test_targets_grow_by_the_margins_less_to_the_back(patient):
    case = set_up(patient, SEVEN_FIELDS)
    prostate, target = (np.argwhere(case.structures[n]) for n in ("Prostate", "PTV_6000"))
    spacing = np.array(case.grid.spacing_zyx_mm)
    before = (prostate.min(axis=0) - target.min(axis=0)) * spacing
    after = (target.max(axis=0) - prostate.max(axis=0)) * spacing
    # whole voxels within the margin: 7 mm are two slices of 3 mm and one row of 4 mm
    assert np.all(before <= 7.0) and np.all(before > 7.0 - spacing)
    assert after[1] <= 5.0 < after[1] + spacing[1]
    high, low = case.structures["PTV_6000"], case.structures["PTV_4800"]
    assert not (high & low).any() and (case.structures["SeminalVes"] <= (high | low)).all()
    assert case.prescription.levels_gy == {"PTV_6000": 60.0, "PTV_4800": 48.0}


def test_a_plan_is_one_that_a_physicist_would_sign(plan):
    """Coverage and homogeneity as of ICRU 83, rectum and femoral heads below the trials' limits."""
    found = plan_figures(plan, SEVEN_FIELDS)
    assert found["d95_percent"] > 93 and found["homogeneity"] < 0.12
    assert found["rectum_v83_percent"] < 15 and found["rectum_v67_percent"] < 30
    assert found["femoral_heads_d2_gy"] < 35
    dose, high = plan.dose.array, plan.structures["PTV_6000"]
    assert np.median(dose[high]) == pytest.approx(60.0, abs=0.01)
    assert dose.max() < 1.1 * 60 and (dose[~plan.body] == 0).all() and (dose >= 0).all()
    assert (dose >= 57).sum() < 1.3 * high.sum()  # nothing as high elsewhere


def test_what_a_clinic_weighs_more_gets_less_dose(patient, plan):
    spared = [
        replace(k, weight=20 * k.weight) if k.structure == "Bladder" else k for k in SEVEN_FIELDS.limits
    ]
    other = planned(patient, replace(SEVEN_FIELDS, limits=tuple(spared)), 1)
    bladder = plan.structures["Bladder"] & ~plan.structures["PTV_6000"] & ~plan.structures["PTV_4800"]
    assert other.dose.array[bladder].mean() < 0.95 * plan.dose.array[bladder].mean()


def test_the_arc_treats_from_all_around(patient):
    case = set_up(patient, ARC)
    assert len(case.beams) == 1 and case.beams[0].is_arc
    assert len(beams_eye_views(case.beams, case.patient_position)) == 24
    assert case.prescription.levels_gy == {"PTV_7800": 78.0} and case.prescription.fractions == 39


@pytest.mark.slow
def test_a_plan_of_the_arc_is_one_that_a_physicist_would_sign(patient):
    found = plan_figures(planned(patient, ARC, 1), ARC)
    assert found["d95_percent"] > 93 and found["homogeneity"] < 0.12 and found["rectum_v83_percent"] < 15


@pytest.mark.slow
def test_a_clinic_is_written_as_dicom_kept_and_read_back(tmp_path):
    assert [row["patient"] for row in write_clinic(tmp_path, 1, "prostate-imrt7")] == ["pelvis_0"]
    read = read_case(tmp_path / "pelvis_0")
    again = planned(make_pelvis(0), SEVEN_FIELDS, 0)
    assert np.abs(read.dose.array - again.dose.array).max() < 1e-4
    assert read.prescription.levels_gy == {"PTV_6000": 60.0, "PTV_4800": 48.0} and len(read.beams) == 7
    for name, mask in again.structures.items():
        assert (read.structures[name] ^ mask).sum() <= 0.02 * mask.sum(), name
    assert json.loads((tmp_path / "clinic.json").read_text())["patients"].keys() == {"pelvis_0"}
    stamp = (tmp_path / "pelvis_0" / "RTDOSE.dcm").stat().st_mtime_ns
    assert list(write_clinic(tmp_path, 1, "prostate-imrt7")) == []
    assert (tmp_path / "pelvis_0" / "RTDOSE.dcm").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="another folder is needed"):
        list(write_clinic(tmp_path, 1, "prostate-vmat"))


def test_refused_input_is_one_sentence(patient):
    with pytest.raises(ValueError, match="prostate-imrt7, prostate-vmat"):
        habit_of("proton")
    without = {name: mask for name, mask in patient.structures.items() if name != "Prostate"}
    with pytest.raises(ValueError, match="no Prostate"):
        set_up(replace(patient, structures=without), SEVEN_FIELDS)
    with pytest.raises(ValueError, match="head first supine"):
        set_up(replace(patient, patient_position="FFS"), SEVEN_FIELDS)
