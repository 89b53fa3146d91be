"""One patient in another form holds the same patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from patients import slice_of, write_openkbp
from typer.testing import CliRunner

from anydose.cli.app import app
from anydose.io import nifti
from anydose.io.read import read_case

RUN = CliRunner()


@pytest.mark.parametrize("format", ["nifti", "store", "dicom"])
def test_the_converted_patient_reads_back_as_the_same(tmp_path: Path, format: str) -> None:
    case = slice_of(1)
    write_openkbp(1, tmp_path / "pt_1")
    line = ["convert", str(tmp_path / "pt_1"), "--out", str(tmp_path / "out"), "--format", format]
    done = RUN.invoke(app, line)
    assert done.exit_code == 0, done.output
    found = read_case(tmp_path / "out" / "pt_1" if format == "store" else tmp_path / "out")
    assert found.prescription.levels_gy == case.prescription.levels_gy
    assert {name for name in found.structures} >= {name for name in case.targets}
    for name in case.targets:
        ours, theirs = case.structures[name], found.structures[name]
        volume = ours.sum() * case.grid.voxel_cc
        assert theirs.sum() * found.grid.voxel_cc == pytest.approx(volume, rel=0.03)
    on_grid = found.ct.resample(case.grid).in_unit("HU")
    assert np.abs(on_grid - case.ct.in_unit("HU"))[case.body].max() <= 1.0, "rounded to whole HU at most"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_form_cannot_hold_and_an_unknown_one_leave_nothing(tmp_path: Path) -> None:
    nifti.write_case(slice_of(1), tmp_path / "pt_1")
    for format in ("pdf", "openkbp"):
        line = ["convert", str(tmp_path / "pt_1"), "--out", str(tmp_path / "out"), "--format", format]
        done = RUN.invoke(app, line)
        if format == "openkbp" and done.exit_code == 0:
            continue  # the phantom lies on OpenKBP's own grid
        assert isinstance(done.exception, ValueError) and format in str(done.exception)
        assert [path.name for path in tmp_path.iterdir()] == ["pt_1"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    write_openkbp(1, tmp_path / "pt_1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    done = RUN.invoke(app, ["convert", str(tmp_path / "pt_1"), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, ValueError) and "not empty" in str(done.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
