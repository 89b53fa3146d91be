"""The paper's whole way on stand-ins for its data and its priors, by the documented commands: a GDP-HMM
cohort of both sites -> store -> prior -> latents -> any2any -> dose -> ScardNFT -> scores -> submission. Two
processes train and are killed; one goes on. Minutes each on a quiet core."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import challenge_plans
import numpy as np
import pytest
import tiny_priors

from anydose.case.naming.vocabulary import GDPHMM
from anydose.io import store
from anydose.model.checkpoint import describe, load_model

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ANYDOSE = (sys.executable, "-m", "anydose.cli")
TWO_RANKS = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port")
QUICK = ("threads=1", "precision=fp32", "save_every=2", "lora=4", "crop=[]")
PLANS = 24


class Chain:
    """Runs commands in one folder; a failed one ends the test with what it said."""

    def __init__(self, folder, prior):
        self.folder, self.prior, self.seconds = folder, prior, {}

    def __call__(self, *words, of=ANYDOSE):
        begin = time.monotonic()
        line = [*map(str, (*of, *words))]
        done = subprocess.run(
            line, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        self.seconds[" ".join(map(str, words[:2]))] = time.monotonic() - begin
        return done.stdout + done.stderr

    def start(self, *words, of):
        line = [*map(str, (*of, *words))]
        return subprocess.Popen(line, cwd=self.folder, env=ENVIRONMENT, start_new_session=True)

    def log(self, run):
        with (self.folder / "runs" / run / "log.csv").open(newline="") as file:
            return list(csv.DictReader(file))


def ranks(port):
    return (*TWO_RANKS, str(port), "-m", "anydose.cli")


def imported(run, prior):
    """A prior in its release's layout, as a model of the cohort's organs."""
    if prior == "wan":
        run("prior", "train-tiny", "tiny", "--steps", 4)
        said = run("prior", "check", "tiny")
    else:
        tiny_priors.write_maisi(run.folder / "tiny")
        said = run("prior", "check", "tiny")
    assert prior in said
    run("prior", "import", prior, "tiny", f"runs/{prior}", "--vocabulary", "store")
    return run.folder / "runs" / prior / "model.safetensors"


def killed(run, prior, port):
    """Train on two ranks until four steps are there, then kill both."""
    process = run.start("train", "any2any", "--prior", prior, *task(prior), of=ranks(port))
    begin, log = time.monotonic(), run.folder / "runs" / f"any2any-{prior}" / "log.csv"
    try:
        while not log.is_file() or len(log.read_text().splitlines()) < 6:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() - begin < 300, "no step in five minutes"
            time.sleep(0.2)
    finally:
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for one in (*workers, process.pid):  # torchrun's workers are no part of its group
            os.kill(int(one), signal.SIGKILL)
        process.wait()
    time.sleep(1)


def task(prior):
    return ("data=store", "epochs=1", *QUICK)


@pytest.fixture(scope="module", params=["wan", "maisi"])
def trained(request, tmp_path_factory):
    """The cohort, and a model that was trained on it in both stages."""
    prior, tmp_path = request.param, tmp_path_factory.mktemp(request.param)
    run, port = Chain(tmp_path, prior), 29611 + 10 * (prior == "maisi")
    plans = challenge_plans.write_cohort(tmp_path / "GDP", each_site=5)
    assert len(plans) >= PLANS

    said = run("data", "convert", "GDP", "store", "--vocabulary", "gdphmm", "--workers", 1)
    assert f"{len(plans)} written, 0 kept, 0 refused" in said and "Total Lung-GTV" in said
    assert store.organs(tmp_path / "store") == GDPHMM.organs
    drawn = next(line for line in said.splitlines() if line.startswith("drawn, of"))
    assert len(drawn.split(",")) - 1 >= 38  # nearly all of the 43 organs occur in ten patients

    model = imported(run, prior)
    assert tuple(describe(model)["config"]["organs"]) == GDPHMM.organs
    said = run("prior", "encode", "store", model, "--workers", 1)
    assert f"{len(plans)} files written" in said and f"{len(plans)} cases left" in said

    killed(run, prior, port)
    run("train", "any2any", "--prior", prior, *task(prior), "--resume")
    log = run.log(f"any2any-{prior}")
    steps = [int(row["step"]) for row in log]
    assert steps == list(range(1, len(steps) + 1))
    record = describe(tmp_path / "runs" / f"any2any-{prior}" / "model.safetensors")["record"]
    assert record["processes"] == 1 and len(plans) / 2 < len(steps) < len(plans)
    assert all(np.isfinite(float(row["loss"])) for row in log)

    run("train", "dose", "--prior", prior, *task(prior), "sampling_steps=2", "mimic=false")
    dose = tmp_path / "runs" / f"dose-{prior}" / "model.safetensors"
    assert {row["target"] for row in run.log(f"dose-{prior}")} >= {"dose"}
    spacing = describe(dose)["config"]["working_mm"]
    assert spacing == [2.5, 2.5, 2.0]  # the cohort's, so that predict works on it
    return run, dose, plans, port


@pytest.mark.slow
def test_a_challenge_cohort_goes_from_download_to_a_dose_model(trained):
    run, dose, _, _ = trained
    model = load_model(dose)
    assert model.config.organs == GDPHMM.organs and "dose" in model.trained_for
    assert (model.config.sampling_steps, model.config.mimic) == (2, False)


@pytest.mark.slow
def test_the_dose_model_goes_on_to_a_submission(trained):
    run, dose, plans, port = trained
    tmp_path = run.folder
    run("data", "convert", "GDP/HaN", "head_neck", "--vocabulary", "gdphmm", "--workers", 1)
    run("render", "head_neck", "rendered", "--workers", 1)
    post = (
        "base=" + str(dose),
        "data=rendered",
        "cases=head_neck",
        "reward=head_neck_any_levels",
        "name=scard",
    )
    post += ("steps=1", "candidates=2", "sampling_steps=2", "rank=2", "alpha=2", "patients=2", "watch=2")
    run("train", "paper-posttrain", *post, "watch_every=1", "threads=1", "warmup=0", of=ranks(port + 1))
    adapter = tmp_path / "runs" / "scard" / "adapter.safetensors"
    assert load_model(adapter).config.sampling_steps == 2

    quick = ("--looks", 1, "--precision", "fp32", "--workers", 1)
    run(
        "evaluate",
        "--cohort",
        "GDP",
        "--model",
        adapter,
        "--metrics",
        "gdphmm,paper",
        "--limit",
        2,
        "--out",
        "e.json",
        *quick,
    )
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["about"]["options"]["steps"] == 2 and not found["failed"]
    assert {"gdphmm_mae_gy", "psnr_db", "ssim"} <= found["cases"][0]["figures"].keys()

    few = [plans[0], plans[1], plans[-1]]
    run("predict", *few, "--model", adapter, "--out", "predicted", "--zip", "submission.zip", *quick)
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert sorted(archive.namelist()) == sorted(
            f"{path.name.removesuffix('.npz')}_pred.npy" for path in few
        )
        with archive.open(archive.namelist()[0]) as file:
            assert np.load(file).shape == challenge_plans.SHAPE
    record = json.loads((tmp_path / "predicted" / few[-1].stem / "run.json").read_text())
    assert not [s for s in record["inferred"] if "worked on a grid" in s]
    assert sum(run.seconds.values()) < 3600, run.seconds
