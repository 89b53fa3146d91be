"""A training that is killed at any moment and resumed is the training that nobody touched."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_run import log_rows, tiny_run

from anydose.model.tensors import load_tensors
from anydose.train import log, run
from anydose.train.changes import write_yaml
from anydose.train.folder import SCRATCH, RunFolder
from anydose.train.trainer import Trainer


def config(cohort_folder, out, **changes):
    longer = {"steps": 40, "save_every": 10, "precision": "fp32", "threads": 1}
    return tiny_run(cohort_folder, out, **longer | changes)


def command(recipe, *words, ranks=1):
    python = [sys.executable, "-m"]
    if ranks > 1:
        python += ["torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone", "-m"]
    return [*python, "anydose.cli", "train", str(recipe), "--device", "cpu", *words]


def killed(line, folder, after_rows, delay_s, stdout):
    """Start a real training, kill it and all its children once its log has so many rows; True if it was not
    over by then."""
    process = subprocess.Popen(line, stdout=stdout, stderr=stdout, start_new_session=True)
    file, deadline = folder / "t" / "log.csv", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        count = file.read_text().count("\n") - 1 if file.is_file() else 0
        if count >= after_rows:
            time.sleep(delay_s)
            break
        time.sleep(0.002)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return was_running


def finished(line):
    found = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]


def same_tensors(one, two):
    (ours, _), (theirs, _) = load_tensors(one), load_tensors(two)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def assert_as_undisturbed(folder, undisturbed):
    assert log_rows(folder) == log_rows(undisturbed)
    for name in ("model.safetensors", "state.safetensors"):
        assert same_tensors(folder / "t" / name, undisturbed / "t" / name), name
    left = [path.name for path in (folder / "t").iterdir() if SCRATCH.fullmatch(path.name)]
    assert not left


@pytest.fixture(scope="module")
def undisturbed(cohort_folder, tmp_path_factory):
    """The training of `config` by the command, and its recipe file."""
    out = tmp_path_factory.mktemp("undisturbed")
    recipe = out / "recipe.yaml"
    write_yaml(config(cohort_folder, out), recipe)
    finished(command(recipe))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))  # tools/kills.py has more
@pytest.mark.parametrize("saved", [False, True])
def test_a_killed_training_goes_on_as_if_nothing_had_been(undisturbed, cohort_folder, tmp_path, seed, saved):
    random.seed(f"{saved} {seed}")
    after_rows = random.randint(10, 38) if saved else random.randint(0, 8)
    recipe = tmp_path / "recipe.yaml"
    write_yaml(config(cohort_folder, tmp_path), recipe)
    with (tmp_path / "said.txt").open("w") as said:
        killed(command(recipe), tmp_path, after_rows, random.uniform(0, 0.08), said)
    finished(command(recipe, "--resume"))
    assert_as_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("after_rows", [0, 6, 15])
def test_two_ranks_that_are_killed_go_on_as_if_nothing_had_been(cohort_folder, tmp_path, after_rows):
    for name in ("whole", "cut"):
        write_yaml(config(cohort_folder, tmp_path / name, steps=20), tmp_path / f"{name}.yaml")
    finished(command(tmp_path / "whole.yaml", ranks=2))
    with (tmp_path / "said.txt").open("w") as said:
        assert killed(command(tmp_path / "cut.yaml", ranks=2), tmp_path / "cut", after_rows, 0.02, said)
    finished(command(tmp_path / "cut.yaml", "--resume", ranks=2))
    assert_as_undisturbed(tmp_path / "cut", tmp_path / "whole")


def test_killed_before_the_first_save_resume_starts_again_and_a_fresh_start_is_refused(
    cohort_folder, tmp_path
):
    c = config(cohort_folder, tmp_path, steps=4, save_every=4)
    steps = Trainer(c).run()
    for _ in range(2):
        next(steps)
    steps.close()
    assert len(log_rows(tmp_path)) == 2
    with pytest.raises(ValueError, match="holds a run already"):
        run.start(c, resume=False, device="cpu")
    run.start(c, resume=True, device="cpu")
    assert [row["step"] for row in log_rows(tmp_path)] == ["1", "2", "3", "4"]


def test_from_python_a_run_without_resume_forgets_the_one_before(cohort_folder, tmp_path):
    list(Trainer(config(cohort_folder, tmp_path, steps=4, save_every=2)).run())
    steps = Trainer(config(cohort_folder, tmp_path, steps=4, save_every=4, seed=1)).run()
    next(steps)
    steps.close()
    assert [row["step"] for row in log_rows(tmp_path)] == ["1"]
    assert not RunFolder(tmp_path / "t").state.is_file()  # nor can one resume the other run into this log


def test_scratch_of_a_killed_run_goes_and_other_files_stay(tmp_path):
    place = RunFolder(tmp_path)
    scratch = (".tmpA1b2C3", ".model.safetensors.1234", ".99.recipe.yaml", ".state.safetensors.7")
    for name in (*scratch, "model.safetensors", "notes.txt", ".gitignore"):
        (tmp_path / name).write_text("x")
    with place.held():
        names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "notes.txt", ".gitignore", ".lock"}


def test_two_trainings_in_one_folder_are_refused(cohort_folder, tmp_path):
    c = config(cohort_folder, tmp_path, steps=4)
    first = Trainer(c).run()
    next(first)
    with pytest.raises(ValueError, match="another process is training here"):
        next(Trainer(c).run())
    with pytest.raises(ValueError, match="another process is training here"):
        Trainer(c).resume()  # which would cut the log of the first
    assert len(log_rows(tmp_path)) == 1
    first.close()


@pytest.mark.parametrize(
    ("torn", "kept"),
    [
        ("step,loss\r\n1,0.5\r\n2,0.4\r\n3,0.3\r\n", ["1", "2"]),
        ("step,loss\r\n1,0.5\r\n1", ["1"]),  # of 12, say
        ("step,loss\r\n1,0.5\r\n2,0.", ["1"]),
        ("step,lo", []),
        ("step,loss\r\n3,0.3\r\n", []),
        ("", []),
    ],
)
def test_a_log_goes_back_to_a_step_without_torn_rows(tmp_path, torn, kept):
    file = Path(tmp_path / "log.csv")
    file.write_text(torn, newline="")
    log.trim(file, 2)
    log.append(file, {"step": 9, "loss": 0.1})
    with file.open() as handle:
        assert [row["step"] for row in csv.DictReader(handle)] == [*kept, "9"]
