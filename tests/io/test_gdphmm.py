"""GDP-HMM plans: written from our own patients, read back as the challenge reads them; a hostile pickle does
nothing."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from linear_patient import patient

from anydose.io import gdphmm, gdphmm_meta, openkbp
from anydose.io.read import read_case, read_dose

NAME = "7+A4Ac+MOS_1.npz"


def beside(folder, **targets):
    (folder / "PTV_DICT.json").write_text(json.dumps({"007": targets}))


def test_a_plan_comes_back_with_its_places(tmp_path):
    case = patient()
    gdphmm.write_case(case, tmp_path / NAME)
    back = read_case(tmp_path / NAME, rx=["PTV_60=60"])
    assert back.grid.matches(case.grid)
    assert all((back.structures[n] == case.structures[n]).all() for n in case.structures)
    assert np.abs(back.dose.array - case.dose.array).max() < 1e-4
    assert (back.ct.array == case.ct.array).all()
    (arc,) = back.beams
    assert list(arc.gantry_deg) == [2, 40, 100, 179, 300, 320]
    assert np.abs(np.array(arc.isocentre_mm) - case.beams[0].isocentre_mm).max() <= 1.5


def test_d97_of_the_high_target_is_its_prescription(tmp_path):
    gdphmm.write_case(patient(), tmp_path / NAME)
    beside(
        tmp_path,
        PTV_High={"OPTName": "PTV_60", "PDose": 66},
        PTV_Low={"OPTName": "x", "StructName": "Shell", "PDose": 54},
        PTV_Mid={"OPTName": "x", "StructName": "absent", "PDose": 60},
    )
    case = read_case(tmp_path / NAME)
    assert case.prescription.levels_gy == {"PTV_60": 66.0, "Shell": 54.0}
    in_target = np.sort(case.dose.array[case.structures["PTV_60"]])
    assert (in_target >= 66.0 - 1e-3).mean() == pytest.approx(0.97, abs=2 / len(in_target))
    assert any(s.startswith("dose: scaled by") for s in case.inferred)


def test_the_baselines_crop_is_round_the_isocentre(tmp_path):
    gdphmm.write_case(patient(), tmp_path / NAME)
    cropped = gdphmm.crop(read_case(tmp_path / NAME))
    assert cropped.grid.shape == (96, 128, 144)
    assert (np.rint(cropped.grid.to_index(cropped.beams[0].isocentre_mm)) == (48, 64, 72)).all()
    assert cropped.dose.array[0, 0, 0] == 0
    assert cropped.ct.array[0, 0, 0] == -1000


def test_a_prediction_is_written_as_the_challenge_takes_it(tmp_path):
    case = patient()
    path = gdphmm.write_prediction(case.dose, case, tmp_path)
    assert path.name == "patient_pred.npy"
    assert np.load(path).shape == case.grid.shape
    assert (read_dose(path, case).array == case.dose.array).all()
    np.save(path, np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="that of the plan"):
        read_dose(path, case)


def test_a_real_patient_becomes_a_plan(openkbp_root, tmp_path):
    case = openkbp.read_case(openkbp_root / "provided-data" / "validation-pats" / "pt_201")
    gdphmm.write_case(case, tmp_path / NAME)
    back = read_case(tmp_path / NAME)
    assert np.abs(back.dose.array - case.dose.array).max() < 1e-4
    assert len(back.beams) == 9
    assert back.prescription == type(back.prescription)({"PTV56": 56.0, "PTV63": 63.0, "PTV70": 70.0})


class Bomb:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (type(self.folder).touch, (self.folder / "touched",))


def put(path, value):
    np.savez_compressed(path, np.array(value, dtype=object))


def test_a_hostile_pickle_does_nothing(tmp_path):
    put(tmp_path / NAME, {"img": Bomb(tmp_path)})
    with pytest.raises(ValueError, match="the pickle asks for"):
        read_case(tmp_path / NAME)
    assert not (tmp_path / "touched").exists()
    np.load(tmp_path / NAME, allow_pickle=True)["arr_0"]  # numpy's own loader runs it
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"img": 3, "spacing": (1, 1, 1), "origin": (0, 0, 0)},
        {"img": np.zeros((2, 2)), "spacing": (1, 1, 1), "origin": (0, 0, 0)},
        {"img": np.zeros((2, 2, 2)), "spacing": (1, 1), "origin": (0, 0, 0)},
        {"img": np.zeros((2, 2, 2)), "spacing": (0, 1, 1), "origin": (0, 0, 0)},
        {"img": np.zeros((2, 2, 2)), "spacing": (1, 1, 1), "origin": (0, 0, 0), "dose": np.zeros((2, 2, 2))},
        {"img": np.zeros((2, 2, 2)), "spacing": (1, 1, 1), "origin": (0, 0, 0), "Body": np.ones((3, 2, 2))},
        {"img": np.full((2, 2, 2), np.nan), "spacing": (1, 1, 1), "origin": (0, 0, 0)},
        {3: 4},
        [1, 2],
    ],
)
def test_another_dictionary_is_refused(value, tmp_path):
    put(tmp_path / NAME, value)
    with pytest.raises(ValueError, match="MOS_1"):
        read_case(tmp_path / NAME)


def test_a_member_that_unpacks_to_more_than_it_states_is_read_to_what_it_states(tmp_path):
    path, asked = tmp_path / "plan.npz", 2**26
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        magic = b"\x93NUMPY\x01\x00v\x00" + head
        pickled = b"\x80\x04\x8e" + asked.to_bytes(8, "little")  # so many bytes follow
        archive.writestr("arr_0.npy", magic.ljust(127) + b"\n" + pickled + bytes(asked))
    data = bytearray(path.read_bytes())
    size_at = data.rfind(b"PK\x01\x02") + 24
    data[size_at : size_at + 4] = (2**16).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"plan\.npz"):
        read_case(path)


def test_a_pickle_that_asks_for_gigabytes_is_read_a_piece_at_a_time():
    class Asked(io.BytesIO):
        most = 0

        def read(self, count=-1, /):
            self.most = max(self.most, count)
            return super().read(count)

    file = Asked(bytes(3 * gdphmm.PIECE_BYTES + 5))
    assert len(gdphmm._InPieces(file).read(2**33)) == 3 * gdphmm.PIECE_BYTES + 5
    assert file.most == gdphmm.PIECE_BYTES


def test_another_file_is_refused(tmp_path):
    for content in (b"", b"no zip", pickle.dumps({})):
        (tmp_path / NAME).write_bytes(content)
        with pytest.raises(ValueError, match="MOS_1"):
            read_case(tmp_path / NAME)
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        archive.writestr("../../arr_0.npy", b"x")
    with pytest.raises(ValueError, match=r"one arr_0.npy is accepted"):
        read_case(tmp_path / NAME)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "text", ["[]", '{"007": {"PTV_High": 3}}', '{"007": {"PTV_High": {"OPTName": 3}}}', "{"]
)
def test_a_bad_side_file_is_one_sentence(tmp_path, text):
    gdphmm.write_case(patient(), tmp_path / NAME)
    (tmp_path / "PTV_DICT.json").write_text(text)
    with pytest.raises(ValueError, match="PTV_DICT.json: "):
        read_case(tmp_path / NAME)


def rewritten(path, **changes):
    """The plan at `path` with other values, and as another numpy would pickle it."""
    plan = gdphmm._load(path) | changes
    np.savez_compressed(path, np.array(plan, dtype=object))


def test_isocentres_in_a_list_and_two_bodies(tmp_path):
    path = tmp_path / NAME
    gdphmm.write_case(patient(), path)
    plain = read_case(path)
    one = gdphmm._load(path)["isocenter"].tolist()
    body = np.ones(plain.grid.shape, dtype=np.uint8)
    rewritten(path, isocenter=[one, one], BODY=body, Body=body, angle_plate=body.astype(np.float32))
    case = read_case(path)
    assert case.beams == plain.beams
    assert "Body" in case.structures and "BODY (not the body)" in case.structures
    assert "angle_plate" not in case.structures
    assert "angle_plate: passed over, drawn anew from the beams" in case.inferred
    rewritten(path, isocenter=[one, [value + 1 for value in one]])
    with pytest.raises(ValueError, match="one voxel for all beams"):
        read_case(path)


def test_plans_are_listed_by_site_phase_and_split(tmp_path):
    for name in ("a+P1+MOS_1.npz", "b+P2+MOS_2.npz"):
        gdphmm.write_case(patient(), tmp_path / name)
    meta = tmp_path / "meta_files" / "meta_data.csv"
    meta.parent.mkdir()
    meta.write_text(
        "PID,PlanID,isVMAT,cohort,site,phase,dev_split,npz_path\n"
        "a,P1,False,1,1,train,valid,/x/HaN/train/a+P1+MOS_1.npz\n"
        "b,P2,True,1,2,train,train,/x/Lung/train/b+P2+MOS_2.npz\n"
        "c,P3,True,1,2,train,train,/x/Lung/train/c+P3+MOS_3.npz\n"
    )
    assert [plan.patient for plan, _ in gdphmm_meta.cohort(tmp_path)] == ["a", "b"]
    ((plan, path),) = gdphmm_meta.cohort(tmp_path, site="lung")
    assert (plan.plan, plan.is_vmat, path.name) == ("P2", True, "b+P2+MOS_2.npz")
    with pytest.raises(ValueError, match="no plan .test. among 2"):
        gdphmm_meta.cohort(tmp_path, dev_split="test")
    meta.write_text("PID,PlanID\n")
    with pytest.raises(ValueError, match="no column dev_split"):
        gdphmm_meta.cohort(tmp_path)
