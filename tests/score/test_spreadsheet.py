"""Tables whose names a spreadsheet must not take for formulas."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from scored_phantom import CORD, GRID, case, dose_gy

from anydose.case.volume import Volume
from anydose.score.compare import Comparison
from anydose.score.compare import write_csv as write_comparison
from anydose.score.spreadsheet import cell


@pytest.mark.parametrize(
    "text", ['=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1"]
)
def test_what_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["PTV70", "-3.25", "+1e3", "", 0, -4.5, None, "a=b"])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert cell(value) == value


def test_the_tables_of_comparisons_and_histograms_hold_no_formula(tmp_path: Path) -> None:
    from anydose.deliver.dose import binned, write_dvh
    from anydose.score.dvh import structure_dvh

    evil = '=HYPERLINK("http://evil")'
    of = structure_dvh(case(**{evil: CORD}), Volume(dose_gy(), GRID, "Gy"), evil)
    write_dvh({evil: binned(of)}, tmp_path / "dvh.csv")
    write_comparison([Comparison(evil, {"mae": -1.0}, {f"{evil} D95": (1, 2)})], tmp_path / "t.csv")
    for name in ("dvh.csv", "t.csv"):
        with (tmp_path / name).open() as file:
            cells = [text for row in csv.reader(file) for text in row]
        assert any("HYPERLINK" in text for text in cells)
        assert not any(text.startswith("=") for text in cells)
    assert "-1.0" in cells
