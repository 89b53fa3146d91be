"""One table of names: nothing stands in it twice, everything derived from it agrees with it."""

from __future__ import annotations

from collections import Counter

import pytest

from anydose.case import names


def test_no_name_or_alias_means_two_structures():
    owners = Counter()
    for row in names.TABLE:
        owners.update({names._key(alias) for alias in (row.tg263, *row.aliases)})
    assert [key for key, count in owners.items() if count > 1] == []


def test_mirroring_is_its_own_inverse_and_keeps_the_role():
    for row in names.TABLE:
        if row.mirror:
            other = names.find(row.mirror)
            assert other is not None and other.mirror == row.tg263 and other.role == row.role


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("RightParotid", "Parotid_R"),  # OpenKBP
        ("PAROTID_L", "Parotid_L"),  # TG-263 in capitals
        ("spinal cord", "SpinalCord"),
        ("Mandible", "Bone_Mandible"),
        ("possible_dose_mask", "External"),
        ("LarynxGlottis", "Larynx"),
    ],
)
def test_known_spellings_are_found(written, meant):
    assert names.find(written).tg263 == meant


@pytest.mark.parametrize(
    "name", ["Parotid", "Parotids", "Brainstem_PRV", "SpinalCord_05", "Parotid_Lopt", ""]
)
def test_a_near_miss_is_never_matched(name):
    assert names.find(name) is None
    assert names.role(name) == "unknown"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("PTV70", "ptv"),
        ("PTVHighOPT", "ptv"),
        ("ptv_low", "ptv"),
        ("zPTV_5600", "ptv"),
        ("ITV", "ctv"),
        ("CTV_High", "ctv"),
        ("GTVp", "gtv"),
        ("Body", "body"),
        ("CouchSurface", "support"),
        ("PTV70_Ring", "unknown"),
        ("PTV56 minus PTV63", "unknown"),
        ("NS_PTV", "unknown"),
        ("Larynx", "oar"),
    ],
)
def test_roles(name, role):
    assert names.role(name) == role


def test_every_openkbp_organ_has_a_channel_of_its_own():
    organs = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
    assert [names.organ_channel(o) for o in organs] == list(range(7))
    assert names.organ_channel("OpticChiasm") == names.organ_channel("something else") == 7


def test_mirrored_channels_exchange_the_parotids_alone():
    right, left = (names.ORGAN_CHANNELS.index(n) for n in ("Parotid_R", "Parotid_L"))
    expected = list(range(8))
    expected[right], expected[left] = left, right
    assert list(names.mirrored_channels()) == expected
