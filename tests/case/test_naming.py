"""Names on a case: what the RTSTRUCT states, what a person says, what is drawn, what is said aloud."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anydose.case import anatomy, modality
from anydose.case.case import Case, Prescription, Source
from anydose.case.grid import Grid
from anydose.case.names import NameMap, apply_names, naming_table, naming_warnings, parse
from anydose.case.naming.evidence import read
from anydose.case.naming.mapping import file_text, read_file
from anydose.case.naming.propose import proposals
from anydose.case.naming.vocabulary import BUILT_IN, GDPHMM, HEAD_NECK, Vocabulary, built_in

GRID = Grid((8, 12, 16), (5.0, 5.0, 5.0), (-37.5, -27.5, 0))


def box(x0: int, x1: int, y0: int = 4, y1: int = 8) -> np.ndarray:
    out = np.zeros(GRID.shape, dtype=bool)
    out[2:6, y0:y1, x0:x1] = True
    return out


def patient(**structures: np.ndarray) -> Case:
    body = np.zeros(GRID.shape, dtype=bool)
    body[:, 1:11, 1:15] = True
    return Case("p", GRID, {"Body": body, "PTV70": box(7, 9), **structures}, Prescription({"PTV70": 70.0}))


@pytest.mark.parametrize(
    ("name", "kind", "code", "tg263", "role"),
    [
        ("Rumpf", "EXTERNAL", "", "External", "body"),
        ("Zielgebiet", "PTV", "", "PTV", "ptv"),
        ("Gestell", "SUPPORT", "", "", "support"),
        ("Punkt 1", "MARKER", "", "", "derived"),
        ("Organ 7", "ORGAN", "59798", "Parotid_L", "oar"),  # FMA: left parotid gland
        ("Organ 7", "ORGAN", "", "", "unknown"),
        ("Parotid_L", "ORGAN", "59798", "Parotid_L", "oar"),
        ("Parotid_L", "ORGAN", "59797", "", "unknown"),  # its code says right
        ("Parotid", "ORGAN", "59797", "Parotid_R", "oar"),
        ("Lump L", "ORGAN", "59797", "", "unknown"),
        ("Parotid_L", "PTV", "", "", "unknown"),
        ("PTV70_ring", "PTV", "", "", "derived"),
    ],
)
def test_types_and_codes_speak_where_the_name_does_not_and_contradictions_are_not_settled(
    name, kind, code, tg263, role
):
    found = read(name, kind, code)
    assert (found.tg263, found.role) == (tg263, role)


def test_a_case_reads_the_types_of_its_source():
    case = patient(Klumpen=box(2, 4))
    typed = replace(case, source=Source("dicom", structure_types={"Klumpen": "ORGAN"}), naming=())
    assert typed.meaning("Klumpen").kind == "ORGAN"
    assert any("'Klumpen'" in sentence and "--name" in sentence for sentence in naming_warnings(typed))


def test_a_person_s_word_stands_above_every_rule_and_is_kept():
    case = apply_names(
        patient(Klumpen=box(2, 4), Parotid_R=box(10, 13)),
        NameMap.of(["klumpen=Parotid_R", "Parotid_R=ignore"]),
    )
    assert set(case.of_role("oar")) == {"Klumpen"}
    right = HEAD_NECK.organs.index("Parotid_R")
    assert (modality.TABLE["oar"].draw(case)[right] == case.structures["Klumpen"]).all()
    assert case.block((0, 0, 0), GRID.shape).naming == case.naming
    assert case.on(Grid(GRID.shape, (5.0, 5.0, 5.0), (-37.5, -27.5, 0))).naming == case.naming
    assert case.find("Parotid_R") is case.structures["Klumpen"]


@pytest.mark.parametrize(
    "pair", ["Klumpen", "=Parotid_L", "Klumpen=", "Klumpen=Paroitd_L", "Klumpen=Parotid_L_ring"]
)
def test_an_answer_that_means_nothing_is_refused(pair):
    with pytest.raises(ValueError, match="accepted"):
        NameMap.of([pair])


def test_a_clinic_s_file_is_written_for_a_person_to_fill_in(tmp_path):
    path = tmp_path / "clinic.yaml"
    rois = {"Ohrspei: li # x": "Parotid_L", "Klumpen": None, '"q"': "ignore", "yes": None}
    path.write_text(file_text(rois, {"Klumpen": ("Heart", "Liver")}), encoding="utf-8")
    assert read_file(path) == rois
    assert "# Heart, Liver?" in path.read_text()
    assert NameMap.load(path).names == {"Ohrspei: li # x": "Parotid_L", '"q"': "ignore"}


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "names: 3",
        "name: {}",
        "names: {a: 3}",
        "names: {1: Heart}",
        "names: {a: Herzle}",
        "a: b: c",
        "!!python/x 1",
    ],
)
def test_a_clinic_s_file_of_another_form_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "clinic.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"clinic\.yaml.*accepted|clinic\.yaml: no YAML"):
        NameMap.load(path)


def test_likeness_proposes_and_never_decides():
    assert "Parotid_L" in proposals("Paroitd_L") and "Parotid_R" not in proposals("Paroitd_L")
    assert parse("Paroitd_L").role == "unknown"
    assert set(proposals("parotit")) >= {"Parotid_L", "Parotid_R"}
    assert proposals("Xq") == ()


def test_the_table_says_what_became_of_every_structure():
    case = patient(Ohrspeicheldruese_li=box(10, 13), Ring=box(5, 11), Klumpen=box(2, 4), Herz=box(3, 5))
    rows = {row["roi"]: row for row in naming_table(case)}
    channels = {roi: row["channel"] for roi, row in rows.items()}
    assert channels == {
        "Body": "body", "PTV70": "target 70 Gy", "Ohrspeicheldruese_li": "Parotid_L", "Ring": "ignored",
        "Klumpen": "ignored", "Herz": "other",
    }  # fmt: skip
    assert rows["Ring"]["why"] == "ring"


def test_two_structures_of_one_meaning_are_told():
    case = patient(Parotid_L=box(10, 12), Left_Parotid=box(11, 13))
    assert any("both mean Parotid_L" in sentence for sentence in naming_warnings(case))
    assert not naming_warnings(patient(Parotid_L=box(10, 12)))


def test_a_derived_structure_is_drawn_only_where_the_vocabulary_names_it():
    case = patient(**{"Parotids-PTV": box(10, 13)})
    assert modality.TABLE["oar"].draw(case) is None
    drawn = modality.table(GDPHMM)["oar"].draw(case)
    place = GDPHMM.organs.index("Parotids-PTV")
    assert (drawn[place] == case.structures["Parotids-PTV"]).all() and drawn.sum() == drawn[place].sum()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_vocabulary_is_of_names_that_mean_themselves_and_its_mirror_is_its_own_inverse(name):
    vocabulary = built_in(name)
    mirror = np.array(vocabulary.mirrored())
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    for place, organ in enumerate(vocabulary.organs):
        if organ != "other" and "Ipsi" not in organ and "Contra" not in organ:
            assert vocabulary.channel(parse(organ)) == place


def test_a_vocabulary_is_built_from_a_cohort_s_names():
    found = Vocabulary.from_cohort(["Blase", "Rektum", "Hüftkopf li", "PTV", "Ring", "Bladder-PTV", "xyz"])
    assert found.organs == ("Bladder", "Bladder-PTV", "Femur_Head_L", "Femur_Head_R", "Rectum")
    with pytest.raises(ValueError, match="at least one"):
        Vocabulary.from_cohort(["PTV"])
    with pytest.raises(ValueError, match="accepted"):
        built_in("feet")


def test_another_vocabulary_draws_its_own_channels():
    case = patient(Blase=box(2, 4), Heart=box(10, 12))
    drawn = modality.render(case, ["oar"], built_in("prostate"))["oar"]
    organs = built_in("prostate").organs
    assert drawn.shape[0] == len(organs)
    assert ((drawn[organs.index("Bladder")] > 0) == case.structures["Blase"]).all()
    assert ((drawn[organs.index("other")] > 0) == case.structures["Heart"]).all()


def test_a_pair_on_exchanged_sides_is_told():
    left, right = box(12, 14), box(2, 4)  # x points to the patient's left
    assert not anatomy.warnings(
        patient(Lens_L=left[:, :, :] & box(12, 13, 4, 5), Lens_R=right & box(2, 3, 4, 5))
    )
    said = anatomy.warnings(patient(Lens_L=right & box(2, 3, 4, 5), Lens_R=left & box(12, 13, 4, 5)))
    assert sum("sides or orientation" in sentence for sentence in said) == 2
    lone = anatomy.warnings(patient(Lens_R=left & box(12, 13, 4, 5)))
    assert any("on the patient's left, not on the right" in sentence for sentence in lone)


def test_a_cord_or_target_outside_the_body_is_told():
    inside = patient(SpinalCord=box(7, 9, 8, 10))
    assert not anatomy.warnings(inside)
    moved = patient(SpinalCord=box(7, 9, 10, 12))
    assert any("'SpinalCord' lies by 50 %" in sentence for sentence in anatomy.warnings(moved))
    case = patient()
    gone = replace(case, structures={**case.structures, "PTV70": box(0, 2)})
    assert any("'PTV70' lies by 50 %" in sentence for sentence in anatomy.warnings(gone))


def test_an_organ_of_a_volume_that_nobody_has_is_told():
    whole = np.ones(GRID.shape, dtype=bool)
    assert any("is it that organ?" in sentence for sentence in anatomy.warnings(patient(Lens_L=whole)))


def test_a_case_is_one_line():
    case = patient(Parotid_L=box(10, 13))
    assert "1 oar" in repr(case) and "\n" not in repr(case) and len(repr(case)) <= 300
    assert len(repr(replace(case, name="n" * 999))) <= 300
