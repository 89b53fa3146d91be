"""anydose score, compare and report as a user starts them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import anydose
from patients import small_phantom_of

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io.nifti import write_case, write_volume


def dose_for(case: Case, scale: float = 1.0) -> Volume:
    """Each target's prescription where it is, half the lowest elsewhere in the body."""
    array = np.where(case.body, 28.0, 0.0).astype(np.float32)
    for name, gy in sorted(case.prescription.levels_gy.items(), key=lambda level: level[1]):
        array[case.structures[name]] = gy
    return Volume(array * np.float32(scale), case.grid, "Gy")


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small patients with a dose, and two predictions of each in folders a and b."""
    root = tmp_path_factory.mktemp("cohort")
    for seed in (0, 1):
        case = small_phantom_of(seed)
        name = f"pt_{seed}"
        write_case(replace(case, name=name, dose=dose_for(case)), root / "cases" / name)
        for model, scale in (("a", 0.99), ("b", 0.9)):
            write_volume(dose_for(case, scale), root / model / f"{name}.nii.gz")
    return root


def test_score_writes_total_maximum_items_and_missing(patients: Path, tmp_path: Path) -> None:
    case = patients / "cases" / "pt_0"
    done = anydose("score", case / "dose.nii.gz", "--case", case, "--out", tmp_path / "s.json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "s.json").read_text())
    assert {"total", "maximum", "items", "missing"} <= found.keys()
    assert found["total"] == pytest.approx(sum(i["score"] or 0 for i in found["items"]))
    assert "Head and neck" in done.stdout and "total" in done.stdout


def test_score_takes_a_dose_in_another_form(patients: Path, tmp_path: Path) -> None:
    case, folder = small_phantom_of(0), patients / "cases" / "pt_0"
    np.save(tmp_path / "pt_0_pred.npy", dose_for(case).array)
    doses = (tmp_path / "pt_0_pred.npy", folder / "dose.nii.gz", folder)
    first, *others = [anydose("score", dose, "--case", folder).stdout for dose in doses]
    assert "total" in first and others == [first, first]


def test_a_file_that_is_no_scorecard_is_one_sentence_and_exit_code_2(patients: Path, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{}")
    case = patients / "cases" / "pt_0"
    done = anydose("score", case, "--case", case, "--scorecard", tmp_path / "card.json")
    assert done.returncode == 2 and "card.json" in done.stderr and done.stderr.count("\n") == 1


def test_compare_two_models_on_a_cohort(patients: Path, tmp_path: Path) -> None:
    line = ("compare", patients / "a", "--case", patients / "cases", "--versus", patients / "b")
    done = anydose(*line, "--csv", tmp_path / "t.csv", "--out", tmp_path / "t.json")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "t.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["pt_0", "pt_1"]
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["dose_mae_gy"]["mean"] < found["dose_mae_gy"]["versus_mean"]
    assert found["normalised_mae_gy"]["mean"] == pytest.approx(0, abs=1e-3), (
        "a scale alone is normalised away"
    )


def test_report_and_its_printed_page(patients: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    line = ("report", patients / "a" / "pt_0.nii.gz", "--case", patients / "cases" / "pt_0")
    done = anydose(*line, "--out", tmp_path / "r.html", "--record", tmp_path / "r.pdf")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").stat().st_size < 8_000_000
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
