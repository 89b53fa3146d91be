"""Names are read by rule: the organ, its side and what was made from it, never by likeness."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anydose.case import names
from anydose.case.naming import structures
from anydose.case.naming.lexicon import index
from anydose.case.naming.parse import parse

LIST = Path(__file__).with_name("structure_names.csv")
ORGANS = [row for row in names.TABLE if row.role == "oar"]


def listed() -> list[dict[str, str]]:
    with LIST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_no_spelling_means_two_structures():
    assert len(index.entries()) > 2500  # building it refuses a spelling with two meanings
    assert {entry.stem for entry in index.entries().values()} <= {
        *(row.tg263 for row in names.TABLE),
        *structures.pairs(),
    }


def test_mirroring_is_its_own_inverse_and_keeps_the_role():
    for row in names.TABLE:
        if row.mirror:
            other = names.find(row.mirror)
            assert other is not None and other.mirror == row.tg263 and other.role == row.role


@pytest.mark.parametrize("spelled", [str, str.upper, str.lower, lambda name: name.replace("_", " ")])
def test_every_name_of_tg263_is_read_as_itself(spelled):
    for row in ORGANS:
        found = parse(spelled(row.tg263))
        assert (found.tg263, found.role, found.side) == (row.tg263, "oar", row.side)


def test_the_list_of_real_names():
    rows = listed()
    wrong = [
        (row["name"], found.tg263, found.role)
        for row in rows
        if (found := parse(row["name"])).role != row["role"] or (row["tg263"] and found.tg263 != row["tg263"])
    ]
    assert len(rows) >= 500 and len(wrong) <= 0.03 * len(rows), wrong


def test_no_name_of_the_list_is_on_the_wrong_side_or_taken_for_what_it_was_made_from():
    for row in listed():
        found = parse(row["name"])
        expected = parse(row["tg263"]).side
        assert found.side in (expected, "") or row["role"] != "oar", row
        assert row["role"] not in ("derived", "unknown") or found.role in ("derived", "unknown"), row


@pytest.mark.parametrize(
    "mark",
    ["{}_PRV", "{}_PRV03", "{}+5mm", "{}_opt", "{}_ring", "z{}", "zz_{}", "{}_eval", "{}-PTV", "{} minus PTV",
     "{}_05", "PRV {}", "Ring_{}", "avoid_{}", "{} help", "~{}", "_{}", "PTV-{}", "PTV70_{}_ring", "{}&PTV",
     "{} ohne PTV", "{} sans PTV", "{}_expanded", "{} 5 mm", "NS_{}", "{} ctrl", "{}_crop", "{}2"],
)  # fmt: skip
def test_what_was_made_from_an_organ_is_never_the_organ(mark):
    for row in ORGANS:
        found = parse(mark.format(row.tg263))
        assert found.role in ("derived", "unknown"), found
        assert found.tg263 != row.tg263


@pytest.mark.parametrize("word", ["foo", "sup", "sub_region", "2nd", "old", "lobe", "x", "B"])
def test_one_word_too_many_and_nothing_is_certain(word):
    assert parse(f"Parotid_L_{word}").role in ("unknown", "derived")


@pytest.mark.parametrize(
    "name", ["Parotid", "Parotid_S", "Lung S", "Parotid L R", "Brainstme", "Paroitd_L", "", "???"]
)
def test_a_near_miss_is_never_matched(name):
    assert names.find(name) is None
    assert names.role(name) == "unknown"


@given(st.text(max_size=30))
def test_any_text_has_a_meaning_and_no_text_is_an_error(text):
    assert parse(text).role in structures.ROLES


@pytest.mark.parametrize(
    ("name", "role", "level_gy"),
    [
        ("PTV70", "ptv", 70), ("ptv_low", "ptv", None), ("PTV 63,0 Gy", "ptv", 63),
        ("PTV_5940cGy", "ptv", 59.4),
        ("p_PTV_7000", "ptv", 70),
        ("PTV_High_70", "ptv", 70), ("PTV_60Gy/30fx", "ptv", 60), ("ITV", "ctv", None),
        ("PTV_6000x30", "ptv", 60), ("CTV_High", "ctv", None), ("GTVp", "gtv", None),
        ("PTVHighOPT", "derived", None),
        ("zPTV_5600", "derived", None), ("PTV70_Ring", "derived", None),
        ("PTV56 minus PTV63", "derived", None),
        ("NS_PTV", "derived", None), ("PTV1", "ptv", None), ("PTV_500", "ptv", None), ("Body", "body", None),
        ("CouchSurface", "support", None), ("Larynx", "oar", None),
    ],
)  # fmt: skip
def test_roles_and_levels(name, role, level_gy):
    found = parse(name)
    assert (found.role, found.level_gy) == (role, level_gy)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Parotide D", "Parotid_R"),  # French and Italian: droite, destra
        ("Parotide G", "Parotid_L"),
        ("Parotis D", None),  # a German word has no French side
        ("Kidney G", None),
        ("Parotis li", "Parotid_L"),
        ("Kidney re", None),  # nor an English one a German side
        ("Parotida der", "Parotid_R"),
        ("Niere der", None),
        ("Linkerlong", "Lung_L"),
        ("cochlear", None),
    ],
)
def test_a_short_word_of_a_side_means_it_beside_an_organ_of_its_own_language(name, meant):
    assert parse(name).tg263 == (meant or "")


def test_every_openkbp_organ_has_a_channel_of_its_own():
    organs = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
    assert [names.organ_channel(o) for o in organs] == list(range(7))
    assert names.organ_channel("OpticChiasm") == names.organ_channel("something else") == 7


def test_mirrored_channels_exchange_the_parotids_alone():
    right, left = (names.ORGAN_CHANNELS.index(n) for n in ("Parotid_R", "Parotid_L"))
    expected = list(range(8))
    expected[right], expected[left] = left, right
    assert list(names.mirrored_channels()) == expected
