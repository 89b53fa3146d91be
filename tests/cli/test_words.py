"""One meaning of --json, words of the last release, and what is said of an error."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from patients import slice_of, write_openkbp
from typer.testing import CliRunner

from anydose.case.volume import Volume
from anydose.cli.app import app, main
from anydose.io.openkbp import write_dose
from anydose.io.phantom import write_phantom

RUN = CliRunner()


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "pt_1"
    case = slice_of(0)
    write_openkbp(0, folder)
    write_dose(Volume((case.body * 70.0).astype(np.float32), case.grid, "Gy"), case, folder / "dose.csv")
    return folder


def test_json_prints_and_out_writes_the_same(patient: Path, tmp_path: Path) -> None:
    line = ["score", str(patient / "dose.csv"), "--case", str(patient)]
    printed = RUN.invoke(app, [*line, "--json", "--out", str(tmp_path / "new.json")])
    found = json.loads(printed.stdout)
    assert found["items"] and printed.stderr == ""
    assert json.loads((tmp_path / "new.json").read_text()) == found


@pytest.mark.parametrize("word", ["--json {}", "--json={}"])
def test_a_file_after_json_is_written_for_one_release_and_said(patient: Path, tmp_path: Path, word) -> None:
    file = tmp_path / "old.json"
    words = word.format(file).split(" ")
    done = RUN.invoke(app, ["score", str(patient / "dose.csv"), *words, "--case", str(patient)])
    assert done.exit_code == 0, done.output
    assert "deprecated" in done.stderr and "--out" in done.stderr and done.stderr.count("\n") == 1
    assert json.loads(file.read_text())["items"]
    assert "total" in done.stdout


def test_a_dose_after_json_is_the_dose(patient: Path) -> None:
    done = RUN.invoke(app, ["score", "--json", str(patient / "dose.csv"), "--case", str(patient)])
    assert json.loads(done.stdout)["items"] and done.stderr == ""


def test_options_of_the_root_stand_anywhere() -> None:
    for line in (["-v", "info"], ["info", "-v"], ["info", "--json", "--verbose"]):
        assert RUN.invoke(app, line).exit_code == 0
        assert logging.getLogger("anydose").level == logging.INFO
    assert RUN.invoke(app, ["info", "-q"]).exit_code == 0
    assert logging.getLogger("anydose").level == logging.ERROR
    assert RUN.invoke(app, ["info"]).exit_code == 0
    assert logging.getLogger("anydose").level == logging.WARNING


def test_version_and_short_help() -> None:
    from importlib.metadata import version

    assert RUN.invoke(app, ["--version"]).stdout.strip() == f"anydose {version('anydose')}"
    helped = RUN.invoke(app, ["-h"]).stdout
    assert helped.index("Predict and score") < helped.index("Data") < helped.index("Measure")
    assert helped.index("│ predict") < helped.index("│ score") < helped.index("│ train")
    assert "Exit codes" in helped
    assert RUN.invoke(app, ["predict", "-h"]).exit_code == 0


class OutOfMemoryError(RuntimeError):
    """torch's name for it on a GPU."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 39.9 GiB"), "not enough memory: Unable to allocate 39.9 GiB"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deep"),
        (OutOfMemoryError("CUDA out of memory"), "not enough memory: CUDA"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory: Default"),
        (ValueError("x:\n  two\n  lines"), "x: two lines"),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: no such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(error, said, capsys, monkeypatch) -> None:
    def fail(*given, **named):
        raise error

    monkeypatch.setattr("anydose.deliver.record.about", fail)
    for extra, lines in ((), 1), (("--debug",), None):
        monkeypatch.setattr("sys.argv", ["anydose", "info", *extra])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        text = capsys.readouterr().err
        assert said in text and ("Traceback" in text) == bool(extra)
        assert lines is None or text.count("\n") == lines


def test_a_fault_of_the_program_is_not_called_a_bad_input(monkeypatch) -> None:
    def fail(*given, **named):
        raise RuntimeError("a fault")

    monkeypatch.setattr("anydose.deliver.record.about", fail)
    monkeypatch.setattr("sys.argv", ["anydose", "info"])
    with pytest.raises(RuntimeError, match="a fault"):
        main()


def test_fast_refuses_what_is_not_fast(tmp_path: Path) -> None:
    line = ["predict", str(tmp_path), "--out", str(tmp_path / "out"), "--fast"]
    for slow in (["--samples", "4"], ["--steps", "2"], ["--looks", "4"]):
        found = RUN.invoke(app, [*line, *slow]).exception
        assert isinstance(found, ValueError) and "--fast" in str(found)


@pytest.mark.slow  # two predictions
def test_verbose_says_what_is_done_and_nothing_of_the_patient(tmp_path: Path) -> None:
    """Neither the folder's name nor what DICOM says of the patient is in the log, at any level."""
    import pydicom

    folder = tmp_path / "DOE_JANE_19470203"
    write_phantom(0, folder, "dicom")
    for file in folder.rglob("*.dcm"):
        data = pydicom.dcmread(file)
        data.PatientName, data.PatientID = "Roe^Richard", "MRN-4711"
        data.save_as(file)
    done = RUN.invoke(app, ["predict", str(folder), "--out", str(tmp_path / "out"), "-vv"])
    assert done.exit_code == 0, done.output
    assert "INFO anydose.deliver" in done.stderr and "sample: " in done.stderr
    for word in ("DOE", "JANE", "1947", "Roe", "Richard", "4711"):
        assert word not in done.stderr
    quiet = RUN.invoke(app, ["predict", str(folder), "--out", str(tmp_path / "two"), "-q", "--json"])
    assert quiet.stderr == ""
    record = json.loads(quiet.stdout)
    assert len(quiet.stdout.splitlines()) == 1 and "dose.dcm" in record["outputs"]
