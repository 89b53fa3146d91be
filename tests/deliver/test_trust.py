"""What `predict` says of how far it can be trusted: intervals beside the dose, warnings in every place."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from patients import slice_of, write_openkbp

from anydose.bench.trust import REMOVED, calibration_rows, condition_rows, removals
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.deliver.dose import predict_to
from anydose.deliver.trust import trust, trust_files
from anydose.io import nifti
from anydose.io.files import write_json
from anydose.io.read import read_case
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.predict import Options, predict
from anydose.score import calibration
from anydose.score import training_ranges as guard
from anydose.score.calibration import FEATURES, Calibration

UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
OPTIONS = Options(steps=1, looks=2, mimic=False)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    net = Any2Any(UNET)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.02) if p.abs().sum() == 0 else None
    save_model(net, tmp_path / "tiny.safetensors", {})
    write_openkbp(1, tmp_path / "pt_1")
    return tmp_path / "tiny.safetensors"


def test_intervals_that_nobody_calibrated_are_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(ValueError, match="bench calibration --fit"):
        predict_to(tmp_path / "pt_1", tmp_path / "out", str(model), OPTIONS, intervals=True)
    assert not (tmp_path / "out").exists()


def test_intervals_lie_beside_the_dose_and_warnings_in_the_record(model, tmp_path):
    kinds = {
        f"{role} {kind}": {"0.5": 0.5, "0.8": 1.0, "0.95": 2.0}
        for role in ("ptv", "oar")
        for kind in ("D_95", "mean")
    }
    weights = dict.fromkeys(FEATURES, 0.0) | {f"level_{k}": 1.0 + k for k in range(5)}
    about = {"sha256": "another", "steps": 1, "looks": 2, "samples": 1, "mimic": False}
    fitted = Calibration(weights, {"0.5": 0.5, "0.8": 1.5, "0.95": 3.0}, kinds, about)
    write_json(calibration.as_json(fitted), trust_files(model).uncertainty)
    write_json(guard.as_json(guard.learn([slice_of(1)])), trust_files(model).ranges)
    out = tmp_path / "out"
    run = predict_to(tmp_path / "pt_1", out, str(model), OPTIONS, read={"beams": "1"}, intervals=True)
    assert any("beam directions: 1;" in sentence for sentence in run["warnings"])
    assert any("other weights" in sentence for sentence in run["warnings"])
    assert not any("steps" in sentence for sentence in run["warnings"])
    assert json.loads((out / "run.json").read_text())["warnings"] == run["warnings"]
    assert {"uncertainty.nii.gz", "dvh_bands.csv"} <= set(run["outputs"])
    case = read_case(tmp_path / "pt_1")
    half = nifti.read_volume(out / "uncertainty.nii.gz", "Gy").array
    dose = nifti.read_volume(out / "dose.nii.gz", "Gy").array
    assert not half[~case.body].any()
    band = np.searchsorted(calibration.LEVELS, dose / 70.0)
    assert np.allclose(half[case.body], 1.5 * (1 + band[case.body]), atol=1e-4)
    with (out / "dvh_bands.csv").open() as file:
        rows = {(r["structure"], r["point"]): r for r in csv.DictReader(file)}
    mean = rows["PTV70", "mean"]
    inside = case.structures["PTV70"]
    assert float(mean["gy"]) == pytest.approx(dose[inside].mean(), abs=0.01)
    assert float(mean["high_80"]) - float(mean["gy"]) == pytest.approx((1 + band[inside]).mean(), abs=0.01)


def test_a_usual_case_has_no_warning(model, tmp_path):
    write_json(guard.as_json(guard.learn([slice_of(1)])), trust_files(model).ranges)
    assert predict_to(tmp_path / "pt_1", tmp_path / "out", str(model), OPTIONS)["warnings"] == []


def test_the_bench_measures_coverage_and_leaves_what_predict_reads(model):
    cases = []
    for seed in range(4):
        case = slice_of(seed)
        noise = np.random.default_rng(seed).normal(30, 10, case.grid.shape).astype(np.float32)
        cases.append(replace(case, dose=Volume(np.abs(noise) * case.body, case.grid, "Gy")))
    rows = calibration_rows(cases, str(model), OPTIONS, "cpu", fitted=True)
    by_scale = {row["scale"]: row for row in rows if "scale" in row}
    assert by_scale["dose level, gradient, spread"]["voxel_0.8"] == pytest.approx(0.8, abs=0.05)
    assert by_scale["spread as it is, as if normal"]["voxel_0.8"] < 0.5
    again = calibration.read(trust_files(model).uncertainty)
    assert again.about["patients"] == 4
    with pytest.raises(ValueError, match="at least 4"):
        calibration_rows(cases[:2], str(model), OPTIONS, "cpu")


def test_conditions_are_taken_away_alone_and_one_after_the_other(model, monkeypatch):
    """Every set is asked for once a patient, rows are paired with the full set, and a patient without CT, who
    cannot lose it, is left out."""
    cases = []
    for seed in range(2):
        case = slice_of(seed)
        cases.append(replace(case, dose=Volume(20 * case.body.astype(np.float32), case.grid, "Gy")))
    asked = []

    def predicted(network, case, options):
        assert case.dose is None
        asked.append(options.given)
        off = 1.0 + ("ct" not in options.given) + (case.name == cases[1].name)
        return SimpleNamespace(mean=((20 + off) * case.body.astype(np.float32))[None])

    monkeypatch.setattr("anydose.bench.trust.predict", predicted)
    rows = condition_rows([*cases, replace(cases[0], ct=None)], str(model), OPTIONS, "cpu")
    assert len(asked) == 2 * len(rows) == 2 * len(removals(REMOVED)) == 2 * len(set(asked))
    by_removed = {tuple(row["without"]): row for row in rows}
    assert by_removed[()]["dose_score"] == 1.5
    assert by_removed[()]["change"] == by_removed[("oar",)]["change"] == 0
    assert by_removed[("ct",)]["change"] == by_removed[("angle", "beam", "ct", "oar")]["change"] == 1.0
    assert by_removed[("ct",)]["standard_error"] == 0 and by_removed[("ct",)]["patients"] == 2
    assert ("angle", "beam", "ct", "oar", "body") in by_removed  # the targets alone
    with pytest.raises(ValueError, match="nothing to take away"):
        condition_rows([replace(cases[0], ct=None)], str(model), OPTIONS, "cpu")


def test_a_fine_ct_is_judged_on_the_grid_that_the_model_works_on(model, tmp_path):
    patient = slice_of(1)
    d, h, w = patient.grid.shape
    x_mm, y_mm, z_mm = patient.grid.spacing_mm
    origin_mm = patient.grid.origin_mm
    coarse = patient.on(Grid((d, h, w), (1.1 * x_mm, 1.1 * y_mm, 1.1 * z_mm), origin_mm))
    usual = guard.learn([patient, coarse])
    write_json(guard.as_json(usual), trust_files(model).ranges)
    fine = patient.on(Grid((d, 2 * h, 2 * w), (x_mm / 2, y_mm / 2, z_mm), origin_mm))
    found = predict(fine, str(model), OPTIONS)
    assert found.work.grid.spacing_mm != fine.grid.spacing_mm
    assert any("voxels of" in sentence for sentence in guard.warnings(fine, usual))
    assert not any("voxels of" in sentence for sentence in trust(found, intervals=False).warnings)
