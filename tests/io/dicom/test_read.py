"""Faulty and unusual studies: each is read right and told, or refused by a sentence that names the file."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from linear_patient import MIDDLE_MM, dose_at, patient
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from scipy import ndimage

from anydose.io.dicom.dose import read_rtdose
from anydose.io.dicom.write import write_rtdose
from anydose.io.read import read_case, read_dose


def edit(path, **attributes):
    """Set attributes of one file; None deletes."""
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(path)


def slices(study):
    return sorted((study / "CT").iterdir())


def hu_at_bone(case):
    """HU in the middle of the bone block of `patient()`, at its physical place."""
    point = patient().grid.to_mm([6.0, 9.5, 7.0])
    return ndimage.map_coordinates(case.ct.array, case.grid.to_index(point)[:, None], order=1)[0]


def test_names_and_folders_and_order_do_not_matter(study):
    clean = read_case(study)
    for k, path in enumerate(sorted(p for p in study.rglob("*.dcm"))):
        (study / f"deep{k % 3}").mkdir(exist_ok=True)
        path.rename(study / f"deep{k % 3}" / f"{(k * 7919) % 1000:03d}")
    (study / "notes.txt").write_text("not DICOM")
    case = read_case(study)
    assert (case.ct.array == clean.ct.array).all()
    assert case.beams == clean.beams
    assert case.source.dose_grid.matches(patient().grid)


def test_a_slice_stored_twice_counts_once(study):
    shutil.copy(slices(study)[3], study / "again.dcm")
    shutil.copy(slices(study)[4], study / "other_uid.dcm")
    edit(study / "other_uid.dcm", SOPInstanceUID=generate_uid())
    case = read_case(study)
    assert case.grid.matches(patient().grid)
    assert case.inferred == ("ct: 2 slice(s) standing there twice taken once",)


def test_two_slices_at_one_place_are_refused(study):
    shutil.copy(slices(study)[3], study / "other.dcm")
    edit(study / "other.dcm", SOPInstanceUID=generate_uid(), RescaleIntercept="5")
    with pytest.raises(ValueError, match="other pixels at the same place"):
        read_case(study)


def test_a_missing_slice_is_refused_or_filled_on_request(study):
    slices(study)[6].unlink()
    with pytest.raises(ValueError, match=r"6\.000 mm to the next slice.*--fill-gaps"):
        read_case(study)
    case = read_case(study, fill_gaps=True)
    assert case.grid.matches(patient().grid)
    assert "ct: 1 missing slice(s) interpolated (--fill-gaps)" in case.inferred
    assert hu_at_bone(case) == 900


def test_piecewise_spacing_is_resampled_from_true_places(study):
    for k, path in enumerate(slices(study)):
        if k >= 8 and k % 2:
            path.unlink()
    case = read_case(study)
    assert case.grid.spacing_mm == pytest.approx((2.0, 1.5, 3.0))
    assert case.inferred[0] == "ct: slice steps of 3 and 6 mm resampled to 3 mm"
    assert hu_at_bone(case) == 900


def test_jitter_is_no_gap(study):
    for k, path in enumerate(slices(study)):
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        edit(path, ImagePositionPatient=[x, y, f"{float(z) + 0.01 * (-1) ** k:.3f}"])
    assert np.abs(np.array(read_case(study).grid.spacing_mm) - (2.0, 1.5, 3.0)).max() < 0.01


def test_gantry_tilt_is_made_upright(study):
    """Slices shifted along y by tan(15 degrees) per mm of height: the bone stays where it is."""
    lean = np.tan(np.radians(15))
    for k, path in enumerate(slices(study)):
        dataset = pydicom.dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        shift = 3.0 * k * lean
        moved = ndimage.shift(dataset.pixel_array.astype(float), (-shift / 1.5, 0), order=1, cval=-1000)
        edit(
            path,
            ImagePositionPatient=[x, f"{y + shift:.4f}", z],
            PixelData=np.rint(moved).astype("<i2").tobytes(),
        )
    case = read_case(study)
    assert "ct: gantry tilt of 15.0 degrees resampled to upright columns" in case.inferred
    assert hu_at_bone(case) == pytest.approx(900, abs=5)
    assert np.abs(dose_at(MIDDLE_MM) - sample(case.dose, MIDDLE_MM)) < 0.02


def sample(dose, point):
    return ndimage.map_coordinates(dose.array, dose.grid.to_index(point)[:, None], order=1)[0]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"PixelSpacing": ["1.5", "2.2"]}, "PixelSpacing"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"ImagePositionPatient": ["0", "0", "440"]}, "sideways"),
        ({"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]}, "2 CT series"),
        ({"RescaleSlope": None}, "no RescaleSlope"),
        ({"RescaleType": "OD"}, "RescaleType OD; HU is accepted"),
        ({"Rows": 20}, "size"),
        ({"SeriesInstanceUID": "1.2.3"}, "2 CT series|mm to the next"),
        ({"FrameOfReferenceUID": "1.2.3"}, "2 CT series"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "enhanced"),
    ],
)
def test_one_odd_slice_is_refused_by_name(attributes, message, study):
    edit(slices(study)[5], **attributes)
    with pytest.raises(ValueError, match=message):
        read_case(study)


def test_truncated_pixels_are_refused(study):
    path = slices(study)[5]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="CT_0006"):
        read_case(study)


def test_two_series_are_listed_and_chosen(study):
    """A second scan of the same patient that the structure set does not refer to, and a structure set of
    it."""
    other = generate_uid()
    for path in slices(study):
        copy = study / f"second_{path.name}"
        shutil.copy(path, copy)
        edit(copy, SeriesInstanceUID=other, SOPInstanceUID=generate_uid(), RescaleIntercept="7")
    first = pydicom.dcmread(slices(study)[0]).SeriesInstanceUID
    assert hu_at_bone(read_case(study)) == 900  # the structure set says which
    struct = pydicom.dcmread(study / "RTSTRUCT.dcm")
    del struct.ReferencedFrameOfReferenceSequence
    struct.save_as(study / "RTSTRUCT.dcm")
    with pytest.raises(ValueError, match="choose one with --series") as refusal:
        read_case(study)
    assert first in str(refusal.value)
    assert other in str(refusal.value)
    assert hu_at_bone(read_case(study, series=[first])) == 900
    assert hu_at_bone(read_case(study, series=[other])) == 907
    with pytest.raises(ValueError, match="--series 1.2.3 is not there"):
        read_case(study, series=["1.2.3"])


def test_two_plans_are_chosen_by_uid(study):
    shutil.copy(study / "RTPLAN.dcm", study / "second.dcm")
    uid = generate_uid()
    edit(study / "second.dcm", SOPInstanceUID=uid)
    with pytest.raises(ValueError, match="2 RTPLAN objects"):
        read_case(study)
    assert read_case(study, series=[uid]).source.plan_uid == uid


def test_another_frame_of_reference_is_refused(study):
    for name in ("RTDOSE.dcm", "RTPLAN.dcm"):
        shutil.copy(study / name, study.parent / "kept")
        edit(study / name, FrameOfReferenceUID="1.2.3")
        with pytest.raises(ValueError, match=r"frame of reference 1\.2\.3"):
            read_case(study)
        (study.parent / "kept").replace(study / name)
    struct = pydicom.dcmread(study / "RTSTRUCT.dcm")
    struct.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    struct.save_as(study / "RTSTRUCT.dcm")
    with pytest.raises(ValueError, match="structure PTV_60 lies in frame of reference"):
        read_case(study)


def test_our_own_prediction_is_no_reference_dose(study):
    case = read_case(study)
    write_rtdose(case.dose, case, study / "predicted.dcm")
    assert read_case(study).source.dose_grid.matches(patient().grid)
    (study / "RTDOSE.dcm").unlink()
    assert read_case(study).dose is None
    assert np.abs(read_dose(study / "predicted.dcm", case).array - case.dose.array).max() < 1e-4


def test_without_a_plan_beams_and_prescription_are_inferred_and_told(study):
    (study / "RTPLAN.dcm").unlink()
    case = read_case(study, beams="5")
    assert len(case.beams) == 5
    assert case.inferred == (
        "prescription: PTV_60 60 Gy (from the names)",
        "beams: 5 equispaced coplanar fields from 0 degrees (--beams)",
        "isocentre: centroid of the targets",
    )
    assert np.abs(np.array(case.beams[0].isocentre_mm) - MIDDLE_MM).max() < 0.5
    assert read_case(study, rx=["Shell=45.5"]).prescription.levels_gy == {"Shell": 45.5}


def change_struct(study, change):
    struct = pydicom.dcmread(study / "RTSTRUCT.dcm")
    change(struct)
    struct.save_as(study / "RTSTRUCT.dcm")


def test_odd_structure_sets(study):
    def spoil(struct):
        names = struct.StructureSetROISequence
        names[1].ROIName, names[2].ROIName = "PTV_60 ", "PTV_60"
        names[0].ROIName = "Rumpf"
        point = pydicom.Dataset()
        point.ContourGeometricType, point.NumberOfContourPoints, point.ContourData = "POINT", 1, [0, 0, 0]
        struct.ROIContourSequence[2].ContourSequence.append(point)

    change_struct(study, spoil)
    case = read_case(study)
    assert set(case.structures) == {"External", "PTV_60", "PTV_60 (2)"}
    assert case.inferred == (
        "structure PTV_60 (2): 1 point or open contours ignored",
        "structure Rumpf: called External, as Rumpf is of type EXTERNAL",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c, "ContourData", [1, 2, 3, 4]), "not triplets"),
        (lambda c: setattr(c, "NumberOfContourPoints", 4000), "that states 4000"),
        (lambda c: setattr(c, "ContourData", [*c.ContourData[:-1], "1e30"]), "beyond 10 m"),
    ],
)
def test_broken_contours_are_refused(change, message, study):
    change_struct(study, lambda s: change(s.ROIContourSequence[1].ContourSequence[0]))
    with pytest.raises(ValueError, match=message):
        read_case(study)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"DoseUnits": "RELATIVE"}, "GY is accepted"),
        ({"DoseType": "ERROR"}, "PHYSICAL"),
        ({"GridFrameOffsetVector": [5, 10, 15]}, "starts at 5"),
        ({"GridFrameOffsetVector": [0, 3, 6]}, "14 frames and 3"),
        ({"GridFrameOffsetVector": [0] * 14}, "0.05 to 50 mm"),
        ({"DoseGridScaling": "0"}, "DoseGridScaling"),
        ({"DoseGridScaling": "1"}, "up to 1000 Gy"),
        ({"PixelRepresentation": 1}, "signed"),
        ({"NumberOfFrames": "1000000"}, "frames"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535"),
    ],
)
def test_a_dose_that_states_nonsense_is_refused(attributes, message, study):
    edit(study / "RTDOSE.dcm", **attributes)
    with pytest.raises(ValueError, match=message):
        read_case(study)


@pytest.mark.parametrize("form", ["absolute", "descending", "uneven"])
def test_frame_offsets_in_every_form(form, study):
    dataset = pydicom.dcmread(study / "RTDOSE.dcm")
    offsets = np.array(dataset.GridFrameOffsetVector, dtype=float)
    x, y, z = dataset.ImagePositionPatient
    array = dataset.pixel_array
    if form == "absolute":
        dataset.GridFrameOffsetVector = [f"{float(z) + o:.4f}" for o in offsets]
    elif form == "descending":
        dataset.GridFrameOffsetVector = (-offsets).tolist()
        dataset.ImagePositionPatient = [x, y, f"{float(z) + offsets[-1]:.4f}"]
        dataset.PixelData = array[::-1].tobytes()
    else:
        keep = [0, 1, 2, 4, 5, 6, 7, 9, 11, 13]
        dataset.GridFrameOffsetVector = offsets[keep].tolist()
        dataset.PixelData, dataset.NumberOfFrames = array[keep].tobytes(), len(keep)
    dataset.save_as(study / "RTDOSE.dcm")
    dose = read_rtdose(study / "RTDOSE.dcm")
    for height in np.linspace(-15, 15, 7):
        point = MIDDLE_MM + [0, 0, height]
        assert sample(dose, point) == pytest.approx(dose_at(point), abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: setattr(p.BeamSequence[0], "RadiationType", "ELECTRON"), "ELECTRON; PHOTON"),
        (
            lambda p: setattr(p.BeamSequence[0].ControlPointSequence[0], "IsocenterPosition", None),
            "IsocenterPosition",
        ),
        (
            lambda p: setattr(p.BeamSequence[0].ControlPointSequence[1], "PatientSupportAngle", "20"),
            "couch moves",
        ),
        (
            lambda p: setattr(p.BeamSequence[2].ControlPointSequence[0], "GantryRotationDirection", "NONE"),
            "CW or CC",
        ),
        (
            lambda p: setattr(p.BeamSequence[0].ControlPointSequence[0], "TableTopPitchAngle", 3.0),
            "TableTopPitchAngle",
        ),
        (lambda p: setattr(p.PatientSetupSequence[0], "PatientPosition", "SITTING"), "SITTING"),
        (lambda p: p.FractionGroupSequence.append(p.FractionGroupSequence[0]), "2 fraction groups"),
        (
            lambda p: setattr(
                p.BeamSequence[0].ControlPointSequence[0], "IsocenterPosition", ["0", "0", "5000"]
            ),
            "outside the scan",
        ),
    ],
)
def test_plans_we_do_not_read_are_refused(change, message, study):
    plan = pydicom.dcmread(study / "RTPLAN.dcm")
    change(plan)
    plan.save_as(study / "RTPLAN.dcm")
    with pytest.raises(ValueError, match=message):
        read_case(study)


def test_set_up_fields_and_fields_without_meterset_are_passed_over(study):
    plan = pydicom.dcmread(study / "RTPLAN.dcm")
    plan.BeamSequence[0].TreatmentDeliveryType = "SETUP"
    for item, meterset in zip(
        plan.FractionGroupSequence[0].ReferencedBeamSequence, (10, 0, 120.5), strict=True
    ):
        item.BeamMeterset = meterset
    plan.save_as(study / "RTPLAN.dcm")
    case = read_case(study)
    assert [beam.name for beam in case.beams] == ["arc"]
    assert case.inferred == ("beam 1: SETUP, passed over", "beam 2: TREATMENT, passed over")


def test_pydicoms_own_rt_files(tmp_path):
    """A vendor's dose in three encodings; its units are relative, which is refused before they are
    changed."""

    def in_gy(name):
        found = Path(get_testdata_file(name))
        with pytest.raises(ValueError, match="RELATIVE; GY is accepted"):
            read_rtdose(found)
        shutil.copy(found, tmp_path / name)
        edit(tmp_path / name, DoseUnits="GY")
        return read_rtdose(tmp_path / name)

    dose, big_endian, packed = (in_gy(n) for n in ("rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm"))
    stored = pydicom.dcmread(get_testdata_file("rtdose.dcm"))
    assert np.abs(dose.array - stored.pixel_array * float(stored.DoseGridScaling)).max() < 1e-6
    assert dose.grid == big_endian.grid == packed.grid
    assert (dose.array == big_endian.array).all()
    assert (dose.array == packed.array).all()
