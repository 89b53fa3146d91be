"""A cohort in any format gets its scores: the challenges' arithmetic, splits, resume, tables and a page."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from patients import phantom_of

import anydose as ad
from anydose.case.volume import Volume
from anydose.deliver.evaluation import write_evaluation
from anydose.evaluate import evaluate
from anydose.io import nifti, openkbp
from anydose.io.splits import read_splits
from anydose.score import challenge
from anydose.score.cohort_scores import paired_models


def with_dose(seed):
    case = phantom_of(seed)
    gy = np.where(case.body, 20.0, 0.0)
    for name, level in sorted(case.prescription.levels_gy.items()):
        gy[case.structures[name]] = level
    return replace(case, dose=Volume((gy * case.body).astype(np.float32), case.grid, "Gy"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two patients with a dose in two formats, one without, and doses that are 1 Gy and 2 Gy too high."""
    root = tmp_path_factory.mktemp("cohort")
    openkbp.write_case(with_dose(0), root / "patients" / "pt_1")
    nifti.write_case(with_dose(1), root / "patients" / "two")
    nifti.write_case(phantom_of(2), root / "patients" / "without_dose")
    for name, seed in (("pt_1", 0), ("two", 1)):
        case = with_dose(seed)
        for excess in (1, 2):
            off = Volume(case.dose.array + np.float32(excess) * case.body, case.grid, "Gy")
            (root / f"plus{excess}").mkdir(exist_ok=True)
            nifti.write_volume(off, root / f"plus{excess}" / f"{name}.nii.gz")
    return root


def test_predictions_of_two_formats_are_scored_and_a_case_without_dose_is_said(cohort, tmp_path):
    found = evaluate(
        cohort / "patients",
        metrics=("openkbp", "gdphmm", "paper"),
        predictions=cohort / "plus1",
        folder=tmp_path,
    )
    assert {case.case for case in found.cases} == {"two", "pt_1"}, found.failed
    assert "no dose named without_dose" in found.failed["without_dose"]
    means = found.summary()
    assert means["dose_score"] == pytest.approx(1.0, abs=2e-3)
    assert means["dvh_score"] == pytest.approx(1.0, abs=0.05)  # structures end a little outside the body
    assert means["mae_gy"] == pytest.approx(1.0, abs=2e-3)
    case = with_dose(1)
    normal = challenge.normalise_to_d97(case.dose.array, case.structures["PTV70"], 70.0)
    own = challenge.gdp_hmm_mae(normal, case.dose.array + np.float32(1) * case.body, case.body)
    row = next(c for c in found.cases if c.case == "two")
    assert row.figures["gdphmm_mae_gy"] == pytest.approx(own, abs=2e-3)
    names = write_evaluation(found, tmp_path)
    with (tmp_path / "scores.csv").open() as file:
        assert {r["case"] for r in csv.DictReader(file)} == {"pt_1", "two"}
    page = (tmp_path / "report.html").read_text()
    assert "Content-Security-Policy" in page and "without_dose" in page
    assert json.loads((tmp_path / "summary.json").read_text())["summary"]["patients"] == 2
    assert "report.html" in names


def test_a_second_run_reads_what_was_scored_and_another_dose_is_scored_anew(cohort, tmp_path):
    how = {"predictions": cohort / "plus1", "folder": tmp_path}
    first = evaluate(cohort / "patients" / "two", **how)
    kept = next((tmp_path / "cases").iterdir())
    text = json.loads(kept.read_text())
    text["score"]["figures"]["openkbp_dose_gy"] = 42.0
    kept.write_text(json.dumps(text))
    assert evaluate(cohort / "patients" / "two", **how).cases[0].figures["openkbp_dose_gy"] == 42.0
    anew = evaluate(cohort / "patients" / "two", predictions=cohort / "plus2", folder=tmp_path)
    assert anew.cases[0].figures["openkbp_dose_gy"] == pytest.approx(2.0, abs=2e-3)
    table = paired_models(first, anew)["openkbp_dose_gy"]
    assert table["difference"] == pytest.approx(1.0, abs=2e-3)
    with pytest.raises(ValueError, match="different cases"):
        paired_models(first, replace(first, cases=()))


def test_splits_of_a_file_and_what_is_wrong_with_them(cohort, tmp_path):
    (tmp_path / "splits.csv").write_text("case,split\ntwo,test\npt_1,train\n")
    (tmp_path / "splits.yaml").write_text("test: [two]\ntrain: [pt_1]\n")
    assert read_splits(tmp_path / "splits.csv") == read_splits(tmp_path / "splits.yaml")
    found = evaluate(
        cohort / "patients", split="test", splits=tmp_path / "splits.csv", predictions=cohort / "plus1"
    )
    assert [case.case for case in found.cases] == ["two"]
    for text, words in (("case\ntwo\n", "case and split"), ("case,split\na,test\n", "no case a")):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match=words):
            evaluate(cohort / "patients", split="test", splits=tmp_path / "bad.csv")
    with pytest.raises(ValueError, match="openkbp, gdphmm, paper"):
        evaluate(cohort / "patients", metrics=("mse",))


def test_score_from_python_takes_a_volume_or_a_file(cohort):
    case = with_dose(1)
    one = ad.score(case.dose, case)
    two = ad.score(str(cohort / "plus1" / "two.nii.gz"), str(cohort / "patients" / "two"))
    assert one.percent >= 0 and two.percent >= 0
