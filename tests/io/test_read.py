"""What lies at a path decides the reader; what the source does not state is given or read from names by
rule."""

import numpy as np
import pytest

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.io.files import file_name, whole
from anydose.io.formats import format_of
from anydose.io.plan_options import from_names, with_beams, with_prescription
from anydose.io.read import read_case


def bare(*names: str) -> Case:
    grid = Grid((5, 5, 5), (2, 2, 2), (10, 20, 30))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1:4, 1:4, 1:4] = True
    return Case("bare", grid, {name: mask for name in names})


def test_nothing_and_several_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="nothing found; a DICOM folder"):
        read_case(tmp_path)
    (tmp_path / "ct.csv").write_text("")
    assert format_of(tmp_path).name == "openkbp"
    (tmp_path / "ct.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="openkbp and nifti found together"):
        read_case(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        read_case(tmp_path / "absent")
    with pytest.raises(ValueError, match="one file"):
        read_case(tmp_path / "ct.csv")


def test_dicom_is_known_by_its_mark_not_its_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "000001").write_bytes(b"\0" * 128 + b"DICM")
    assert format_of(tmp_path).name == "dicom"


@pytest.mark.parametrize(
    ("name", "dose"),
    [
        ("PTV70", 70), ("PTV_7000", 70), ("PTV 59.4 Gy", 59.4), ("PTV-5940cGy", 59.4), ("PTV_70_eval", None),
        ("PTV", None), ("PTV_High", None), ("PTV1", None), ("PTV_500", None), ("CTV70", None),
        ("PTVn54", None),
        ("PTV_56cGy", None), ("PTV70a", None),
    ],
)  # fmt: skip
def test_levels_in_names(name, dose):
    assert from_names(bare(name)).prescription.levels_gy.get(name) == dose


def test_a_prescription_from_names_is_told():
    case = from_names(bare("PTV70", "PTV_5600", "PTV_boost", "Cord"))
    assert dict(case.prescription.levels_gy) == {"PTV70": 70.0, "PTV_5600": 56.0}
    assert case.inferred == ("prescription: PTV70 70 Gy, PTV_5600 56 Gy (from the names)",)
    given = with_prescription(case, ["PTV70=66", "PTV_boost=72"])
    assert dict(given.prescription.levels_gy) == {"PTV70": 66.0, "PTV_boost": 72.0}
    assert given.inferred == ("prescription: PTV70 66 Gy, PTV_boost 72 Gy (--rx)",)


@pytest.mark.parametrize("text", ["PTV70", "PTV70=", "PTV70=x", "PTV71=70", "=70", "PTV70=nan", "PTV70=-3"])
def test_a_prescription_in_another_form_is_refused(text):
    with pytest.raises(ValueError, match="accepted"):
        with_prescription(bare("PTV70"), [text])


def test_beams_by_count_and_by_angle():
    case = from_names(bare("PTV70"))
    nine = with_beams(case, "9")
    assert [b.gantry_deg[0] for b in nine.beams] == [40.0 * k for k in range(9)]
    assert nine.beams[0].isocentre_mm == (14.0, 24.0, 34.0)  # the centre of the target
    three = with_beams(nine, "0, 90.5,-10")
    assert [b.gantry_deg for b in three.beams] == [(0.0,), (90.5,), (350.0,)]
    assert [s.split(":")[0] for s in three.inferred] == ["prescription", "beams", "isocentre"]
    assert len(with_beams(case, "45,").beams) == 1


@pytest.mark.parametrize("text", ["", "0", "-3", "2.5", "nine", "nan", "0,inf", "1000"])
def test_beams_in_another_form_are_refused(text):
    with pytest.raises(ValueError, match="are accepted"):
        with_beams(from_names(bare("PTV70")), text)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "out.txt"
    with pytest.raises(RuntimeError), whole(path) as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with whole(path) as scratch:
        scratch.write_text("all")
    assert [p.name for p in path.parent.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", ".hidden", "a\0b", "C:\\x", "PTV 70"])
def test_a_name_stays_in_its_folder(name, tmp_path):
    try:
        path = tmp_path / file_name(name)
    except ValueError:
        assert name == ".."
        return
    assert path.resolve().parent == tmp_path.resolve()
    assert not path.name.startswith(".")
