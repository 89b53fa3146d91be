"""What a model made is marked wherever it is written, and never stands for the clinic's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from linear_patient import patient

from anydose.io.dicom.marks import PREDICTED
from anydose.io.dicom.write import write_rtdose, write_study
from anydose.io.format import Beside, DVHCurve, Generated
from anydose.io.read import read_case

HASH = "ab" * 32


def contributing(dataset: pydicom.Dataset) -> tuple[str, str]:
    (equipment,) = dataset.ContributingEquipmentSequence
    return str(equipment.ManufacturerModelName), str(equipment.DeviceSerialNumber)


def test_a_predicted_dose_never_refers_to_the_clinics_plan(study: Path, tmp_path: Path) -> None:
    case = read_case(study)
    plan_uid = pydicom.dcmread(study / "RTPLAN.dcm").SOPInstanceUID
    for placeholder in (False, True):
        path = tmp_path / f"dose_{placeholder}.dcm"
        write_rtdose(case.dose, case, path, beside=Beside("compact-hn", HASH), placeholder_plan=placeholder)
        dataset = pydicom.dcmread(path)
        assert str(plan_uid) not in str(dataset)
        assert dataset.DoseSummationType == ("PLAN" if placeholder else "PLAN_OVERVIEW")
        assert dataset.SeriesDescription == PREDICTED and dataset.SeriesNumber
        assert contributing(dataset) == ("compact-hn", HASH)
    plan = pydicom.dcmread(tmp_path / "dose_True_plan.dcm")
    assert dataset.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert "BeamSequence" not in plan and plan.ApprovalStatus == "UNAPPROVED"


def test_generated_structures_are_marked_and_the_patient_stays_himself(study: Path, tmp_path: Path) -> None:
    ct = pydicom.dcmread(study / "CT" / "CT_0001.dcm")
    case = read_case(study)
    made = next(iter(case.structures))
    write_study(case, tmp_path / "out", Generated("oar", (made,), "compact-hn-any", HASH))
    struct = pydicom.dcmread(tmp_path / "out" / "RTSTRUCT.dcm")
    assert struct.StructureSetLabel == "AI GENERATED" and "AI GENERATED" in struct.SeriesDescription
    by_name = {str(roi.ROIName): roi.ROIGenerationAlgorithm for roi in struct.StructureSetROISequence}
    assert by_name.pop(made) == "AUTOMATIC" and set(by_name.values()) == {""}
    assert contributing(struct) == ("compact-hn-any", HASH)
    for path in (tmp_path / "out").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert dataset[keyword].value == ct[keyword].value
        assert dataset.SeriesNumber is not None
    assert "AI" not in pydicom.dcmread(tmp_path / "out" / "CT" / "CT_0001.dcm").SeriesDescription


@pytest.mark.parametrize("target", ["ct", "dose"])
def test_a_generated_ct_or_dose_is_marked(study: Path, target: str, tmp_path: Path) -> None:
    write_study(read_case(study), tmp_path / "out", Generated(target, (), "compact-hn-any", HASH))
    file = {"ct": "CT/CT_0003.dcm", "dose": "RTDOSE.dcm"}[target]
    dataset = pydicom.dcmread(tmp_path / "out" / file)
    assert dataset.SeriesDescription.startswith("AI ") and contributing(dataset) == ("compact-hn-any", HASH)
    if target == "dose":
        assert dataset.DoseSummationType == "PLAN_OVERVIEW"


def test_an_rtdose_holds_the_dvhs_of_the_structures_in_its_structure_set(study: Path, tmp_path: Path) -> None:
    case = read_case(study)
    curve = DVHCurve(0.25, np.array([3.5, 3.5, 1.25]), 0.3, 0.6, 0.41)
    write_rtdose(
        case.dose, case, tmp_path / "dose.dcm", beside=Beside(dvhs={"PTV_60": curve, "elsewhere": curve})
    )
    dose, struct = (pydicom.dcmread(path) for path in (tmp_path / "dose.dcm", study / "RTSTRUCT.dcm"))
    numbers = {str(roi.ROIName): roi.ROINumber for roi in struct.StructureSetROISequence}
    (row,) = dose.DVHSequence
    assert row.DVHReferencedROISequence[0].ReferencedROINumber == numbers["PTV_60"]
    assert dose.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == struct.SOPInstanceUID
    assert (row.DVHType, row.DoseUnits, row.DVHVolumeUnits) == ("CUMULATIVE", "GY", "CM3")
    assert [float(v) for v in row.DVHData] == [0.25, 3.5, 0.25, 3.5, 0.25, 1.25]
    assert (row.DVHNumberOfBins, row.DVHMeanDose, row.DVHMaximumDose) == (3, 0.41, 0.6)
    write_rtdose(case.dose, patient(), tmp_path / "foreign.dcm", beside=Beside(dvhs={"PTV_60": curve}))
    assert "DVHSequence" not in pydicom.dcmread(tmp_path / "foreign.dcm")  # no structure set to refer to
