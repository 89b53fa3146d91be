"""OpenKBP folders: back byte for byte, the right way round, and bad files named in one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anydose.case import beams
from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io import openkbp


def folder_of(root: Path, name: str) -> Path:
    return next(root.glob(f"provided-data/*/{name}"))


def centre(case: Case, name: str) -> np.ndarray:
    return case.grid.to_mm(np.argwhere(case.structures[name]).mean(axis=0))


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """The smallest folder that is a patient: 5 x 4 x 3 mm voxels, a mask of three, a target of one."""
    folder = tmp_path / "pt_7"
    folder.mkdir()
    (folder / "voxel_dimensions.csv").write_text("5.0\n4.0\n3.0\n")
    (folder / "possible_dose_mask.csv").write_text(",data\n0,\n1,\n129,\n")
    (folder / "PTV70.csv").write_text(",data\n1,\n")
    (folder / "ct.csv").write_text(",data\n1,1064.0\n129,24.0\n")
    (folder / "dose.csv").write_text(",data\n0,0.0\n1,70.125\n129,3.5\n")
    return folder


def test_axes_by_hand(patient):
    # their flat index is (y * 128 + x) * 128 + inferior: index 1 is one voxel down, 128 one to the left
    case = openkbp.read_case(patient)
    assert case.grid.shape == (128, 128, 128)
    assert case.grid.spacing_mm == (4.0, 5.0, 3.0)  # their first number is along y, ours along x
    assert np.argwhere(case.structures["PTV70"]).tolist() == [[126, 0, 0]]
    assert np.argwhere(case.body).tolist() == [[126, 0, 0], [126, 0, 1], [127, 0, 0]]
    assert case.ct.array[126, 0, 0] == 40 and case.ct.array[126, 0, 1] == -1000  # 1024 is 0 HU
    assert case.ct.array[0, 0, 0] == -1024
    assert case.dose.array[126, 0, 0] == np.float32(70.125)
    assert (case.name, case.rx_max_gy, case.prescription.fractions) == ("pt_7", 70.0, 35)


def test_the_small_patient_comes_back_byte_for_byte(patient, tmp_path):
    openkbp.write_case(openkbp.read_case(patient), tmp_path / "again")
    for file in sorted(patient.iterdir()):
        if file.stem == "voxel_dimensions":
            assert np.array_equal(np.loadtxt(file), np.loadtxt(tmp_path / "again" / file.name))
        else:
            assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["pt_201", "pt_1", "pt_8", "pt_153"])
def test_a_real_patient_comes_back_byte_for_byte(openkbp_root, tmp_path, name):
    source = folder_of(openkbp_root, name)
    openkbp.write_case(openkbp.read_case(source), tmp_path / name)
    assert {p.name for p in (tmp_path / name).iterdir()} == {p.name for p in source.iterdir()}
    for file in source.iterdir():
        assert (tmp_path / name / file.name).read_bytes() == file.read_bytes(), file.name


def test_real_patients_are_the_right_way_round(openkbp_root):
    case = openkbp.read_case(folder_of(openkbp_root, "pt_201"))
    x, y, z = range(3)
    right, left = centre(case, "RightParotid"), centre(case, "LeftParotid")
    stem, cord, larynx, jaw = (centre(case, n) for n in ("Brainstem", "SpinalCord", "Larynx", "Mandible"))
    assert right[x] < centre(case, "Larynx")[x] < left[x]  # LPS: x grows to the left
    assert stem[z] > jaw[z] > larynx[z] > centre(case, "Esophagus")[z]
    assert jaw[y] < larynx[y] < cord[y]  # y grows to the back
    bone, airway = (case.ct.array[case.structures[n]] for n in ("Mandible", "Larynx"))
    assert bone.mean() > 500 and airway.min() < -800
    soft = case.ct.array[case.structures["Brainstem"]].mean()
    assert 0 < soft < 60


@pytest.mark.parametrize("name", ["pt_201", "pt_1"])
def test_the_first_of_the_nine_beams_comes_from_the_front(openkbp_root, name):
    """Outside the targets the clinical dose follows plates of these nine fields better than of the same nine
    turned by 180 degrees."""
    case = openkbp.read_case(folder_of(openkbp_root, name))
    target = np.logical_or.reduce(list(case.targets.values()))
    shell = case.body & ~target

    def correlation(first_deg: float) -> float:
        views = beams.beams_eye_views(beams.equispaced(9, case.beams[0].isocentre_mm, first_deg))
        plate = np.mean([beams.beam_plate(v, target, case.grid) for v in views], axis=0)
        return float(np.corrcoef(plate[shell], case.dose.array[shell])[0, 1])

    assert [b.gantry_deg[0] for b in case.beams] == [40.0 * k for k in range(9)]
    assert correlation(0.0) > correlation(180.0) + 0.005


def test_patients_without_ct_or_dose_stay_usable(openkbp_root):
    no_ct = openkbp.read_case(folder_of(openkbp_root, "pt_8"))
    assert no_ct.ct is None and no_ct.dose is not None and no_ct.targets
    neither = openkbp.read_case(folder_of(openkbp_root, "pt_153"))
    assert neither.ct is None and neither.dose is None and neither.body.any()


def test_a_patient_without_a_dose_mask_is_refused(openkbp_root):
    with pytest.raises(ValueError, match="pt_38.*possible_dose_mask.csv not found"):
        openkbp.read_case(folder_of(openkbp_root, "pt_38"))


def test_patients_come_by_number_and_from_both_folders(openkbp_root):
    found = [p.name for p in openkbp.patients(openkbp_root, "validation")]
    assert {"pt_201", "pt_210"} <= set(found)
    assert found == sorted(found, key=lambda n: int(n[3:]))
    assert found == [p.name for p in openkbp.patients(openkbp_root / "provided-data", "validation")]


def test_a_split_without_patients_is_named(tmp_path):
    with pytest.raises(ValueError, match="provided-data/test-pats/pt_N is accepted"):
        openkbp.patients(tmp_path, "test")


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("PTV70.csv", ",data\n2097152,\n", "index 2097152 is outside the grid; 0 to 2097151 is accepted"),
        ("PTV70.csv", ",data\n-1,\n", "index -1 is outside the grid"),
        ("PTV70.csv", ",data\n5,\n5,\n", "twice"),
        ("PTV70.csv", ",data\n", "a mask with no voxel"),
        ("PTV70.csv", ",data\n\n\n", "a mask with no voxel"),
        ("PTV70.csv", ",data\n5,\nsix,\n", "not 'index,value'"),
        ("PTV70.csv", ",data\n5.5,\n", "not 'index,value'"),
        ("PTV70.csv", "5,\n", "first line"),
        ("PTV70.csv", b"\x93NUMPY\x01data\n\xff\xfe\n", "first line"),
        ("PTV70.csv", b",data\n\xff\xfe\n", "not 'index,value'"),
        ("PTV70.csv", ",data\n5,0.5\n", "a mask with values"),
        ("dose.csv", ",data\n5,10,555\n", "lines of 3 columns"),
        ("dose.csv", ",data\n5,10,555\n6,10\n", "not 'index,value'"),
        ("dose.csv", ",data\r5,10.5\r6,10.5\r", "a carriage return alone"),
        ("dose.csv", ",data\n", "a volume with no voxel"),
        ("ct.csv", ",data\n", "a volume with no voxel"),
        ("ct.csv", ",data\n5,-3\n", "values from -3 to 0; 0 to 65535"),
        ("ct.csv", ",data\n5,1e30\n", "0 to 65535"),
        ("ct.csv", ",data\n5,nan\n", "a value that is not a number"),
        ("dose.csv", ",data\n5,inf\n", "a value that is not a number"),
        ("dose.csv", ",data\n5,\n", "not 'index,value'"),
        ("dose.csv", ",data\n5,1.0\n6\n", "not 'index,value'"),
        ("dose.csv", ",data\n5,1.0\n99999999,1.0\n", "index 99999999 is outside"),
        ("Liver.csv", ",data\n5,\n", "Liver.csv is no OpenKBP file; ct, dose, possible_dose_mask"),
        ("slice.dcm", "", "slice.dcm is no OpenKBP file"),
        ("voxel_dimensions.csv", "5.0\n4.0\n", "three numbers in mm"),
        ("voxel_dimensions.csv", "5.0\n4.0\nthick\n", "three numbers in mm"),
        ("voxel_dimensions.csv", "5.0\n4.0\n0\n", "5.0, 4.0, 0.0 found; three positive numbers"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_it(patient, file, text, complaint):
    (patient / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=complaint) as error:
        openkbp.read_case(patient)
    assert "pt_7" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "complaint"),
    [("PTV70.csv", "no target found.*PTV56, PTV63, PTV70"), ("possible_dose_mask.csv", "not found")],
)
def test_what_no_patient_can_do_without(patient, file, complaint):
    (patient / file).unlink()
    with pytest.raises(ValueError, match=complaint):
        openkbp.read_case(patient)


def test_a_prediction_is_read_back_to_a_thousandth_of_a_gray(patient, tmp_path):
    case = openkbp.read_case(patient)
    rng = np.random.default_rng(0)
    dose = Volume(rng.uniform(0, 80, case.grid.shape).astype(np.float32) * case.body, case.grid, "Gy")
    openkbp.write_dose(dose, case, tmp_path / "pt_7.csv")
    again = openkbp.read_dose(tmp_path / "pt_7.csv", case.grid)
    assert np.abs(again.array - dose.array).max() <= 0.00051
    assert np.array_equal(again.array != 0, case.body)


def test_a_dose_of_another_shape_or_unit_is_not_written(patient, tmp_path):
    case = openkbp.read_case(patient)
    part = case.block((0, 0, 0), (2, 2, 2))
    with pytest.raises(ValueError, match=r"\(2, 2, 2\)"):
        openkbp.write_dose(part.dose, case, tmp_path / "out.csv")
    with pytest.raises(ValueError, match="Gy is needed"):
        openkbp.write_dose(case.ct, case, tmp_path / "out.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["pt_7"]


def test_what_the_format_cannot_hold_is_not_written(patient, tmp_path):
    case = openkbp.read_case(patient)
    heart = replace(case, structures={**case.structures, "Heart": case.body})
    with pytest.raises(ValueError, match="structure Heart; OpenKBP has Brainstem"):
        openkbp.write_case(heart, tmp_path / "out")
    with pytest.raises(ValueError, match="128"):
        openkbp.write_case(case.block((0, 0, 0), (2, 2, 2)), tmp_path / "out")
