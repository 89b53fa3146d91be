"""The paper's whole way on stand-ins for its data and its priors, by the documented commands: a GDP-HMM
cohort of both sites -> store -> prior -> latents -> any2any -> dose -> ScardNFT -> scores -> submission. Two
processes train and are killed; one goes on. Three to four minutes for each prior on one quiet core."""

import csv
import json
import logging
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

from anydose.case.naming.vocabulary import GDPHMM
from anydose.io import store
from anydose.model.checkpoint import describe, load_model

log = logging.getLogger(__name__)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ANYDOSE = (sys.executable, "-m", "anydose.cli")
TWO_RANKS = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port")
QUICK = ("threads=1", "precision=fp32", "save_every=2", "lora=4", "crop=[]")
PLANS = 24


class Chain:
    """Runs commands in one folder; a failed one ends the test with what it said."""

    def __init__(self, folder, prior):
        self.folder, self.prior = folder, prior

    def __call__(self, *words, of=ANYDOSE):
        begin = time.monotonic()
        line = [*map(str, (*of, *words))]
        name = " ".join(map(str, words[:2]))
        done = subprocess.run(
            line, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        log.info("%s: %s, %.1f s", self.prior, name, time.monotonic() - begin)
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
    run("prior", "train-tiny", "tiny", "--form", prior, "--steps", 4)
    assert prior in run("prior", "check", "tiny")
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
            time.sleep(0.05)
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
    assert len(plans) >= PLANS and len({patient.shape for patient in plans.values()}) > 6

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
    post = (f"base={dose}", "data=rendered", "cases=head_neck", "reward=head_neck_any_levels", "name=scard")
    post += ("steps=1", "candidates=2", "sampling_steps=2", "rank=2", "alpha=2", "patients=2", "watch=2")
    run("train", "paper-posttrain", *post, "watch_every=1", "threads=1", "warmup=0", of=ranks(port + 1))
    adapter = tmp_path / "runs" / "scard" / "adapter.safetensors"
    assert load_model(adapter).config.sampling_steps == 2

    quick = ("--looks", 1, "--precision", "fp32", "--workers", 1)
    scored = ("--split", "valid", "--limit", 2, "--metrics", "gdphmm,paper", "--out", "e.json")
    run("evaluate", "--cohort", "GDP", "--model", adapter, *scored, *quick)
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["about"]["options"]["steps"] == 2 and not found["failed"]
    assert {"gdphmm_mae_gy", "psnr_db", "ssim"} <= found["cases"][0]["figures"].keys()

    asked = [path for path in plans if "valid" in path.parts]
    odd = [list(plans)[k] for k in (challenge_plans.NO_ORGANS, challenge_plans.ONE_BEAM)]
    out = ("--out", "predicted", "--zip", "submission.zip")
    run("predict", "GDP/HaN/valid", "GDP/Lung/valid", *odd, "--model", adapter, *out, *quick)
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        names = {f"{path.name.removesuffix('.npz')}_pred.npy": path for path in (*asked, *odd)}
        assert sorted(archive.namelist()) == sorted(names) and len(asked) >= 5
        for name, path in names.items():
            with archive.open(name) as file:
                assert np.load(file).shape == plans[path].shape
    record = json.loads((tmp_path / "predicted" / asked[-1].stem / "run.json").read_text())
    assert not [s for s in record["inferred"] if "worked on a grid" in s]
