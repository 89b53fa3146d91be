"""A cohort in any format gets its scores: the challenges' arithmetic, splits, resume, tables and a page."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from patients import phantom_of
from typer.testing import CliRunner

import anydose as ad
from anydose.case.names import NameMap
from anydose.case.volume import Volume
from anydose.cli.app import app
from anydose.deliver.evaluation import write_evaluation
from anydose.evaluate import evaluate
from anydose.io import nifti, openkbp
from anydose.io.splits import read_splits
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.score import challenge
from anydose.score.cohort_scores import paired_models
from anydose.score.dvh_bands import AT_GY, bands

UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))


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
    assert len(repr(one)) < 1000 and repr(one).startswith("Score(")


def test_a_cross_validation_is_scored_in_parts_and_its_page_has_bands(cohort, tmp_path):
    (tmp_path / "folds.yaml").write_text("fold_1: [pt_1]\nfold_2: [two]\n")
    found = evaluate(
        cohort / "patients",
        split="all",
        splits=tmp_path / "folds.yaml",
        predictions=cohort / "plus2",
        folder=tmp_path / "out",
    )
    assert {c.case: c.split for c in found.cases} == {"pt_1": "fold_1", "two": "fold_2"}
    assert [len(part.cases) for part in found.splits().values()] == [1, 1]
    assert set(found.to_json()["splits"]) == {"fold_1", "fold_2"}
    for case in found.cases:
        high = case.curves["PTV 70 Gy"]
        assert high["reference"][70] > 99 and high["reference"][71] == 0, "70 Gy everywhere in it"
        assert high["predicted"][71] > 99 and high["predicted"][73] == 0, "and 2 Gy more predicted"
        assert "Parotid_L" in case.curves
    write_evaluation(found, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "PTV 70 Gy, 2 cases" in page and "standard deviation over the splits" in page
    assert '"curves": {}' in (tmp_path / "out" / "summary.json").read_text()
    (tmp_path / "folds.yaml").write_text("fold_1: [pt_1]\nfold_2: [pt_1, two]\n")
    with pytest.raises(ValueError, match="pt_1 stands in fold_1 and in fold_2"):
        evaluate(cohort / "patients", split="all", splits=tmp_path / "folds.yaml")


def test_a_band_holds_the_middle_of_the_cases():
    cases = [
        {"Cord": {"predicted": [float(k)] * len(AT_GY), "reference": [50.0] * len(AT_GY)}} for k in range(11)
    ]
    (band,) = bands([*cases, {"Larynx": cases[0]["Cord"]}])
    assert band.structure == "Cord" and band.cases == 11
    assert band.predicted[:, 0].tolist() == [1.0, 5.0, 9.0] and band.reference[:, 9].tolist() == [50.0] * 3


def test_a_persons_word_on_names_changes_what_is_scored(cohort, tmp_path):
    """OpenKBP's DVH metrics need the organ's name: a parotid called something else has none."""
    case = with_dose(1)
    names = {"LeftParotid": "Organ X"} if "LeftParotid" in case.structures else {"Parotid_L": "Organ X"}
    other = replace(case, structures={names.get(n, n): mask for n, mask in case.structures.items()})
    nifti.write_case(other, tmp_path / "in" / "two")
    how = {"predictions": cohort / "plus1", "folder": tmp_path / "out"}
    plain = evaluate(tmp_path / "in", **how)
    told = evaluate(tmp_path / "in", names=NameMap.of(["Organ X=Parotid_L"]), **how)
    assert "Parotid_L" not in plain.cases[0].curves and "Parotid_L" in told.cases[0].curves
    assert plain.about.get("names") is None and told.about["names"]


def test_two_evaluations_are_compared_by_one_command(cohort, tmp_path, monkeypatch):
    """`--versus`: the second model's rows beside the first's, paired; the cases that both have."""
    torch.manual_seed(0)
    save_model(Any2Any(UNET), tmp_path / "tiny.safetensors", {})
    line = ["evaluate", "--cohort", str(cohort / "patients" / "two"), "--predictions", str(cohort / "plus1")]
    line += ["--versus", str(tmp_path / "tiny.safetensors"), "--workers", "1", "--json"]
    done = CliRunner().invoke(app, [*line, "--looks", "1", "--no-mimic", "--tables", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    row = found["paired"]["openkbp_dose_gy"]
    assert found["patients"] == 1 and row["first"] == pytest.approx(1.0, abs=2e-3)
    assert row["difference"] == pytest.approx(row["second"] - row["first"])
    assert (tmp_path / "out" / "versus" / "scores.csv").is_file()
