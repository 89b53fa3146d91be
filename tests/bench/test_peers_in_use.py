"""Networks in use: each predicts to its files and trains, and the machine's own rate stands beside."""

from dataclasses import replace

import numpy as np
import pytest
from patients import phantom_of

from anydose.bench import peers_in_use
from anydose.bench.peers_in_use import Settings, constant, measure
from anydose.case.volume import Volume
from anydose.io import openkbp
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.network.baselines import BaselineConfig
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options
from anydose.predict import predict

SMALL = UNetConfig(widths=(8, 8), down_blocks=(1, 1), up_blocks=(1,), code=16)


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """One validation patient, and one network in the place of all."""
    monkeypatch.setattr(peers_in_use, "networks", lambda: {"unet": Any2Any(ModelConfig(SMALL)).eval()})
    case = phantom_of(0)
    dose = np.where(case.body, np.float32(30), np.float32(0))
    planned = replace(case, dose=Volume(dose, case.grid, "Gy"))
    openkbp.write_case(planned, tmp_path / "provided-data" / "validation-pats" / "pt_201")
    return tmp_path


def test_training_is_a_share_of_what_the_machine_multiplies(cohort):
    (row,) = measure(Settings(cohort, limit=1, predicts=False))
    assert row["trained"] == "unet" and row["gflop_an_example"] > 0.1
    rate = row["gflop_an_example"] * row["examples_a_second"] / row["machine_gflop_a_second"]
    assert row["share_of_the_machine"] == pytest.approx(rate, rel=0.1, abs=0.002)
    assert 0 < row["share_of_the_machine"] < 1


@pytest.mark.slow
def test_a_prediction_is_timed_from_start_to_files(cohort):
    with pytest.MonkeyPatch.context() as only:
        only.setattr(peers_in_use, "SAMPLINGS", {"one look": ("--looks", "1", "--no-mimic")})
        (row,) = measure(Settings(cohort, limit=1, trains=False))
    assert row["start_to_files_seconds"] > row["of_it_network_seconds"] > 0
    assert row["peak_memory_mb"] > 100


def test_a_peer_without_training_gives_a_dose_that_predict_accepts(cohort):
    """Random weights of the real size gave doses below zero that `predict` refused."""
    peer = constant(Any2Any(ModelConfig(BaselineConfig(widths=(8, 8, 8)))).eval())
    (folder,) = openkbp.patients(cohort, "validation")
    found = predict(openkbp.read_case(folder), peer, Options(looks=1, mimic=False))
    dose = found.mean[0][openkbp.read_case(folder).body]
    assert np.ptp(dose) < 0.01 and 30 < dose.mean() < 50
