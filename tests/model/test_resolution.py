"""A model works on the voxels that it was trained on, and takes that knowledge along."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_cohort import small_case

from anydose.case.grid import Grid
from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict
from anydose.model.checkpoint import describe, export, load_model, save_adapted, save_model
from anydose.model.lora import adapt
from anydose.model.network.unet import UNetConfig
from anydose.model.registry import find
from anydose.model.sample import working_case
from anydose.train.data import render
from anydose.train.trainer import TrainConfig, Trainer

TINY = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
FINE_MM = (2.5, 2.5, 2.0)


def fine_case(name):
    """A patient with the challenge's voxels, 2.5 x 2.5 x 2 mm."""
    case = small_case(int(name.name))
    size = case.grid.shape[::-1] * np.array(case.grid.spacing_mm) / FINE_MM
    x, y, z = (int(n) for n in size)
    return case.on(Grid((z, y, x), FINE_MM, case.grid.origin_mm))


@pytest.fixture(scope="module")
def fine_cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine")
    done, refused = render(fine_case, [Path("0"), Path("1")], folder)
    assert len(done) == 2 and not refused
    return folder


def trained(cohort, out, **changes):
    config = TrainConfig(name="t", model=TINY, data=str(cohort), out=str(out), steps=1, warmup=1)
    trainer = Trainer(replace(config, **changes))
    list(trainer.run())
    return trainer.folder / "model.safetensors"


def round_trip_gy(case, config):
    """Mean error in the body of the true dose through the grid that a model works on, and back."""
    work = working_case(case, config.trained_mm, config.working_mm)
    back = work.dose.resample(case.grid, outside=0.0).array
    return float(np.abs(back - case.dose.array)[case.body].mean())


def test_training_records_the_cohorts_voxels_and_prediction_keeps_them(fine_cohort, tmp_path):
    path = trained(fine_cohort, tmp_path)
    config = load_model(path).config
    assert config.working_mm == FINE_MM
    for (low, high), mm in zip(config.trained_mm, FINE_MM, strict=True):
        assert low < mm < high < 1.03 * mm
    case = fine_case(Path("1"))
    assert round_trip_gy(case, config) <= 0.02
    assert round_trip_gy(case, ModelConfig()) > 0.1  # what the default of OpenKBP's voxels would cost
    coarse = replace(small_case(1), dose=None)
    moved = working_case(coarse, config.trained_mm, config.working_mm)
    assert moved.grid.spacing_mm == FINE_MM and "worked on a grid" in moved.inferred[-1]
    export(path, tmp_path / "half.safetensors")
    assert load_model(tmp_path / "half.safetensors").config == config


def test_a_zoom_widens_what_was_seen_and_a_second_cohort_stands_beside_the_first():
    model = Any2Any(TINY)
    model.saw([FINE_MM, (3.0, 3.0, 2.0)], zoom=0.1)
    (low, high), _, (thin, thick) = model.config.trained_mm
    assert low == pytest.approx(0.99 * 2.5 / 1.1, abs=1e-3) and high == pytest.approx(
        1.01 * 3 / 0.9, abs=1e-3
    )
    assert thin < 2 < thick and model.config.working_mm == (2.75, 2.75, 2.0)
    model.was_trained = True
    model.saw([(4.0, 4.0, 3.0)])
    assert model.config.trained_mm[0] == (low, 4.04) and model.config.working_mm == (4.0, 4.0, 3.0)


def test_a_prior_forgets_the_default_and_an_adapter_brings_its_voxels_along(fine_cohort, tmp_path):
    save_model(Any2Any(TINY), tmp_path / "prior.safetensors", {"prior": "wan, original names"})
    path = trained(fine_cohort, tmp_path, init=str(tmp_path / "prior.safetensors"))
    assert load_model(path).config.trained_mm[0][1] < 2.6
    base = tmp_path / "base.safetensors"
    save_model(Any2Any(TINY), base, {"recipe": {"task": {"dose_share": 1.0}}, "step": 1})
    model = load_model(base)
    adapt(model, 2, 0.0, ())
    model.saw([FINE_MM])
    save_adapted(model, (), base, tmp_path / "adapter.safetensors", {"step": 1})
    again = load_model(tmp_path / "adapter.safetensors").config
    assert again.working_mm == FINE_MM and again.trained_mm[0] == (2.475, 5.5)
    assert load_model(base).config == TINY
    assert describe(tmp_path / "adapter.safetensors")["resolution"]["working_mm"] == list(FINE_MM)


def test_checkpoints_without_a_record_keep_the_voxels_that_they_always_had():
    config = load_model(find("compact-hn")).config
    assert config.trained_mm == ((2.7, 5.5), (2.7, 5.5), (1.4, 3.4))
    assert config.working_mm == (4.2, 4.2, 2.5)
    assert load_model(find("compact-hn-scard")).config == config
    old = {"backbone": {"kind": "unet"}, "codec": "identity:2"}
    assert config_from_dict(old).trained_mm == config.trained_mm
