"""What the fourth seed of tools/fuzz found: inputs that were used without a word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from patients import phantom_of

from anydose.case.volume import Volume
from anydose.io import openkbp
from anydose.io.plausible import suspicious
from anydose.io.splits import read_splits


def test_ct_numbers_of_twice_their_size_are_said():
    case = phantom_of(0)
    assert not [said for said in suspicious(case) if said.startswith("ct:")]
    twice = replace(case, ct=Volume(case.ct.array * 2, case.grid, "HU"))
    assert any("less than air" in said for said in suspicious(twice))


@pytest.mark.parametrize("blank", ["", " ", "\t "])
def test_a_blank_line_of_a_mask_is_refused(tmp_path, blank):
    openkbp.write_case(phantom_of(0), tmp_path / "pt_1")
    mask = tmp_path / "pt_1" / "SpinalCord.csv"
    lines = mask.read_text().splitlines()
    assert len(lines) > 20
    lines[10] = blank
    mask.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"SpinalCord\.csv: an empty line"):
        openkbp.read_case(tmp_path / "pt_1")


def test_a_split_without_cases_is_refused(tmp_path):
    file = tmp_path / "splits.yaml"
    file.write_text("train: [a, b]\nvalidation: []\n")
    with pytest.raises(ValueError, match="no case in the split 'validation'"):
        read_splits(file)
