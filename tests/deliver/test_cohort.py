"""Many patients in: each its own folder, kept when nothing changed, failures alone."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from patients import slice_of, write_openkbp

from anydose.case.names import NameMap
from anydose.deliver.cohort import Request, predict_cohort
from anydose.io import nifti, run_folder
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.predict import Options

UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
QUICK = Options(looks=1, mimic=False)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three patients in two formats, one of them broken, and a model."""
    root = tmp_path_factory.mktemp("cohort")
    torch.manual_seed(0)
    save_model(Any2Any(UNET), root / "tiny.safetensors", {})
    write_openkbp(1, root / "patients" / "pt_1")
    nifti.write_case(slice_of(2), root / "patients" / "two")
    write_openkbp(3, root / "patients" / "pt_3")
    (root / "patients" / "pt_3" / "ct.csv").write_text(",data\n5,nan\n")
    return root


def states(outcomes):
    return {outcome.case: outcome.state for outcome in outcomes}


@pytest.mark.slow
def test_every_case_has_its_folder_and_a_second_run_keeps_what_is_there(cohort, tmp_path):
    request = Request(model=str(cohort / "tiny.safetensors"), options=QUICK)
    told = []
    first = predict_cohort([cohort / "patients"], tmp_path, request, on_case=told.append)
    assert states(first) == {"pt_1": "written", "pt_3": "failed", "two": "written"}
    assert told == first
    assert "not a number" in next(o.why for o in first if o.case == "pt_3")
    assert not (tmp_path / "pt_3").exists()
    assert all(run_folder.damage(tmp_path / name) == [] for name in ("pt_1", "two"))
    again = predict_cohort([cohort / "patients"], tmp_path, request)
    assert states(again) == {"pt_1": "kept", "pt_3": "failed", "two": "kept"}
    (tmp_path / "two" / "dvh.csv").write_text("spoilt")
    other = replace(request, options=replace(QUICK, seed=1))
    assert states(predict_cohort([cohort / "patients" / "two"], tmp_path, request)) == {"two": "written"}
    assert states(predict_cohort([cohort / "patients" / "pt_1"], tmp_path, other)) == {"pt_1": "written"}


def test_what_structures_were_said_to_be_stands_in_the_record(cohort, tmp_path):
    request = Request(model=str(cohort / "tiny.safetensors"), options=QUICK)
    place, out = cohort / "patients" / "two", tmp_path / "out"
    named = [replace(request, read={"names": NameMap({"Larynx": name})}) for name in ("ignore", "Esophagus")]
    states_of = [states(predict_cohort([place], out, which))["two"] for which in (named[0], *named)]
    assert states_of == ["written", "kept", "written"]
    record = json.loads((out / "two" / "run.json").read_text())
    assert record["asked"]["read"] == {"names": {"Larynx": "Esophagus"}}


def test_two_cases_of_one_name_are_refused(cohort, tmp_path):
    write_openkbp(1, tmp_path / "other" / "pt_1")
    places = [cohort / "patients" / "pt_1", tmp_path / "other" / "pt_1"]
    with pytest.raises(ValueError, match="both would be called pt_1"):
        predict_cohort(places, tmp_path / "out", Request(model=str(cohort / "tiny.safetensors")))


@pytest.mark.slow
def test_the_command_takes_a_folder_of_patients_with_both_cores(cohort, tmp_path):
    line = [sys.executable, "-m", "anydose.cli", "predict", cohort / "patients", "--out", tmp_path / "out"]
    line += ["--model", cohort / "tiny.safetensors", "--no-mimic", "--looks", 1, "--workers", 2, "--json"]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert {row["case"]: row["state"] for row in rows} == {
        "pt_1": "written",
        "pt_3": "failed",
        "two": "written",
    }
