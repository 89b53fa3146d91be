"""One folder holds one result of one case, whole or not at all, whoever kills what."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from patients import write_openkbp

from anydose.deliver import folder as folders
from anydose.deliver.dose import predict_to
from anydose.deliver.folder import COMPLETE, LOCK, WRITING, one_result
from anydose.io import run_folder
from anydose.io.read import read_case, read_dose
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.predict import Options

UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
QUICK = Options(looks=1, mimic=False)
QUICKLY = ("--looks", "1", "--no-mimic")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a model that was never trained and two patients."""
    root = tmp_path_factory.mktemp("places")
    torch.manual_seed(0)
    model = Any2Any(UNET)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.02) if p.abs().sum() == 0 else None
    save_model(model, root / "tiny.safetensors", {})
    for name, seed in (("pt_1", 1), ("pt_2", 2)):
        write_openkbp(seed, root / name)
    return root


def write(folder, files, case="pt_1", inputs=None, target="dose", overwrite=False, source=None):
    """One small result by the same door as a prediction."""
    record = {"case": case, "target": target, "options": {}, "inputs": inputs or {"a": case}}
    with one_result(folder, source, overwrite) as place:
        place.refuse_other(target, record["inputs"], case)
        for name, text in files.items():
            (place.scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (place.scratch / name).write_text(text)
        return place.finish(record)


def content(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_holds_the_files_of_one_result_and_their_hashes(tmp_path):
    out = tmp_path / "deep" / "out"
    write(out, {"dose.nii.gz": "1", "dose_1.nii.gz": "2", "patient/ct.csv": "3"})
    record = write(out, {"dose.nii.gz": "4", "patient/other.csv": "5"})
    assert content(out) == {"dose.nii.gz", "patient/other.csv", "run.json"}
    assert json.loads((out / "run.json").read_text()) == record
    assert run_folder.damage(out) == []
    (out / "dose.nii.gz").write_text("6")
    (out / "more").write_text("7")
    (out / "patient" / "other.csv").unlink()
    said = run_folder.damage(out)
    assert said == ["patient/other.csv: missing", "more: not listed", "dose.nii.gz: altered"]
    with pytest.raises(ValueError, match="sha256 differs"):
        run_folder.dose_file(out)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"case": "pt_2"}, "another case than pt_2"),
        ({"inputs": {"a": "changed"}}, "made from other files"),
        ({"target": "ct"}, "the dose of pt_1 found, no ct"),
    ],
)
def test_another_result_is_refused_without_overwrite(tmp_path, other, words):
    write(tmp_path / "out", {"dose.nii.gz": "1", "pt_1.csv": "1"})
    before = (tmp_path / "out" / "run.json").read_text()
    with pytest.raises(ValueError, match=words):
        write(tmp_path / "out", {"dose.nii.gz": "2"}, **other)
    assert (tmp_path / "out" / "run.json").read_text() == before
    assert content(tmp_path / "out") == {"dose.nii.gz", "pt_1.csv", "run.json"}
    write(tmp_path / "out", {"dose.nii.gz": "2"}, overwrite=True, **other)
    assert content(tmp_path / "out") == {"dose.nii.gz", "run.json"}


def test_something_else_is_refused_and_patients_are_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis.txt found.*--overwrite"):
        write(tmp_path / "out", {"dose.nii.gz": "1"})
    assert content(tmp_path / "out") == {"thesis.txt"}
    write(tmp_path / "out", {"dose.nii.gz": "1"}, overwrite=True)
    assert content(tmp_path / "out") == {"dose.nii.gz", "run.json"}
    write_openkbp(0, tmp_path / "cohort" / "pt_3")
    for place in (tmp_path / "cohort", tmp_path / "cohort" / "pt_3"):
        with pytest.raises(ValueError, match="holds the case pt_3"):
            write(place, {"dose.nii.gz": "1"}, overwrite=True)
    assert (tmp_path / "cohort" / "pt_3" / "ct.csv").is_file()


def test_a_place_in_the_case_around_it_or_of_a_file_is_refused(tmp_path):
    case = tmp_path / "cohort" / "pt_1"
    case.mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(case)
    for place in (case, case / "out", tmp_path / "link" / "out", tmp_path / "cohort"):
        with pytest.raises(ValueError, match="lies in"), one_result(place, case, overwrite=True):
            pass
    with pytest.raises(ValueError, match="a file is there"), one_result(tmp_path / "file", case):
        pass
    assert list(case.iterdir()) == []


def test_two_writers_at_once_are_refused_and_a_dead_one_is_not_waited_for(tmp_path):
    out = tmp_path / "out"
    with one_result(out) as place:
        with pytest.raises(ValueError, match="another run"), one_result(out):
            pass
        assert place.scratch.is_dir()  # the second has not tidied the first away
    assert not out.exists()  # nothing was finished, and the folder was new
    (out / WRITING).mkdir(parents=True)
    (out / WRITING / "half").write_text("x")
    (out / LOCK).write_text("")
    write(out, {"dose.nii.gz": "1"})
    assert content(out) == {"dose.nii.gz", "run.json"}


def test_a_failure_leaves_what_was_there(tmp_path):
    write(tmp_path / "out", {"dose.nii.gz": "1"})
    with pytest.raises(OSError, match="disk full"), one_result(tmp_path / "out") as place:
        (place.scratch / "dose.nii.gz").write_text("2")
        raise OSError("disk full")
    assert content(tmp_path / "out") == {"dose.nii.gz", "run.json"}
    assert run_folder.damage(tmp_path / "out") == []


@pytest.mark.parametrize("step", range(8))
def test_a_result_that_was_complete_is_put_in_place_by_the_next_run(tmp_path, monkeypatch, step):
    """The swap is stopped before each of its steps in turn: run.json never stands beside other files than its
    own, and the next start finishes."""
    out, left = tmp_path / "out", [step]
    write(out, {"dose.nii.gz": "1", "old.csv": "1", "patient/a": "1"})

    def stopping(real):
        def stopped(self, *args, **kwargs):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(self, *args, **kwargs)

        return stopped

    new = {"dose.nii.gz": "2", "patient/b": "2"}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopping(Path.rename))
        patch.setattr(folders, "_remove", stopping(folders._remove))
        with contextlib.suppress(KeyboardInterrupt):
            write(out, new)
    visible = {name for name in content(out) if not name.startswith((COMPLETE, WRITING, LOCK))}
    if "run.json" in visible:
        assert visible in ({"dose.nii.gz", "old.csv", "patient/a", "run.json"}, {*new, "run.json"})
    with one_result(out):
        pass
    assert not any((out / name).exists() for name in (COMPLETE, WRITING, LOCK))
    assert run_folder.damage(out) == []
    expected = "1" if step == 0 else "2"
    assert (out / "dose.nii.gz").read_text() == expected


def test_a_place_that_cannot_be_written_to_fails_before_any_work(places, tmp_path):
    for place in ("/proc/x", "/dev/null/x"):
        with pytest.raises(OSError):
            predict_to(places / "nowhere", Path(place), str(places / "tiny.safetensors"), QUICK)


def test_a_prediction_folder_is_read_as_its_dose_and_is_no_patient(places, tmp_path):
    out = tmp_path / "out"
    predict_to(places / "pt_1", out, str(places / "tiny.safetensors"), QUICK)
    case = read_case(places / "pt_1")
    assert read_dose(out, case).array.max() > 0
    with pytest.raises(ValueError, match="a result of anydose, no patient"):
        read_case(out)
    with pytest.raises(ValueError, match="another case|other files"):
        predict_to(places / "pt_2", out, str(places / "tiny.safetensors"), QUICK)
    predict_to(places / "pt_2", out, str(places / "tiny.safetensors"), QUICK, overwrite=True)
    assert "pt_1.csv" not in content(out)
    assert run_folder.damage(out) == []
    (out / "run.json").unlink()
    with pytest.raises(ValueError):
        read_dose(out, case)


def test_a_model_whose_dose_is_impossible_writes_nothing(places, tmp_path):
    from anydose.model.checkpoint import load_model

    model = load_model(places / "tiny.safetensors")
    for factor, words in ((10.0, "1.5 x the highest prescription"), (float("nan"), "not finite")):
        spoilt = replace_weights(model, factor)
        save_model(spoilt, tmp_path / "spoilt.safetensors", {})
        with pytest.raises(ValueError, match=words):
            predict_to(places / "pt_1", tmp_path / "out", str(tmp_path / "spoilt.safetensors"), QUICK)
        assert not (tmp_path / "out").exists()


def replace_weights(model, factor):
    torch.manual_seed(0)
    spoilt = Any2Any(model.config)
    weights = {k: v * factor if v.is_floating_point() else v for k, v in model.state_dict().items()}
    spoilt.load_state_dict(weights)
    return spoilt


@pytest.mark.slow
def test_kills_leave_the_old_prediction_or_the_new_one(places, tmp_path):
    """`predict` into a used folder, killed at any moment: a folder with a run.json is complete and of one
    case, the next run succeeds, and nothing of the dead ones stays."""
    out, model = tmp_path / "out", places / "tiny.safetensors"
    options = replace(QUICK, seed=0)
    predict_to(places / "pt_1", out, str(model), options)
    rng, line = random.Random(0), [sys.executable, "-m", "anydose.cli", "predict"]
    begin = time.monotonic()
    subprocess.run([*line, places / "pt_1", "--out", out, "--model", model, *QUICKLY], check=True)
    usual = time.monotonic() - begin
    for number in range(12):  # tools/kills.py has fifty
        case = places / ("pt_1" if number % 2 else "pt_2")
        command = [*map(str, [*line, case, "--out", out, "--model", model, *QUICKLY, "--overwrite"])]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.2, 1.1) * usual)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        record = run_folder.read_record(out)
        if record is not None:
            visible = [s for s in run_folder.damage(out) if not s.startswith((LOCK, WRITING, COMPLETE))]
            assert visible == []
            assert f"{record['case']}.csv" in record["outputs"]
        else:
            assert (out / COMPLETE).is_dir()
    predict_to(places / "pt_1", out, str(model), options, overwrite=True)
    assert run_folder.damage(out) == []
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
