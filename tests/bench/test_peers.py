"""The bench of the network alone: every network answers the same question, and the ratio is to the first."""

import pytest
from patients import phantom_of

from anydose.bench.peers import compare
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.network.dit import DiTConfig
from anydose.model.network.unet import UNetConfig


def test_each_patient_is_timed_by_every_network_and_the_last_row_compares():
    small = UNetConfig(widths=(8, 8), down_blocks=(1, 1), up_blocks=(1,), code=16)
    models = {
        "unet": Any2Any(ModelConfig(small)).eval(),
        "dit": Any2Any(ModelConfig(DiTConfig(dim=32, depth=1, heads=2, ffn=32))).eval(),
    }
    *patients, summary = compare([phantom_of(0)], models)
    assert len(patients) == 1 and patients[0]["unet_seconds"] > 0 and patients[0]["dit_seconds"] > 0
    assert summary["unet_times_unet"] == 1.0
    ratio = summary["dit_seconds"] / summary["unet_seconds"]
    assert summary["dit_times_unet"] == pytest.approx(ratio, rel=0.1, abs=0.05)
    assert summary["unet_million_parameters"] > 0


def test_no_patient_is_an_error():
    with pytest.raises(ValueError, match="no patient"):
        compare([], {"unet": Any2Any(ModelConfig()).eval()})
