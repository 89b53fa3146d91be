"""How a model was trained says how it is sampled; what a user asks for stands above it."""

import json
from dataclasses import replace

import pytest
from tiny_cohort import small_case

from anydose.evaluate import evaluate
from anydose.io import store
from anydose.model import registry
from anydose.model.any2any import ModelConfig
from anydose.model.checkpoint import export, load_model
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options
from anydose.predict import predict
from anydose.train.config import TrainConfig
from anydose.train.recipes import PAPER_DOSE, with_prior
from anydose.train.trainer import Trainer

TINY = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16), "identity:2")


@pytest.fixture(scope="module")
def trained(cohort_folder, tmp_path_factory):
    """A model of three sampling steps whose doses are not moved, as its training said."""
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        data=str(cohort_folder),
        model=TINY,
        steps=1,
        warmup=0,
        precision="fp32",
        out=str(out),
        sampling_steps=3,
    )
    list(Trainer(replace(config, mimic=False)).run())
    return out / "any2any" / "model.safetensors"


def test_a_model_is_sampled_as_it_was_trained_unless_told_otherwise(trained):
    case, model = replace(small_case(0), dose=None), load_model(trained)
    calls = []
    inner = model.backbone.forward
    model.backbone.forward = lambda *inputs, **named: calls.append(1) or inner(*inputs, **named)
    found = predict(case, model, Options(looks=1, precision="fp32"))
    assert (len(calls), found.options.steps, found.options.mimic, found.mimicked) == (3, 3, False, False)
    told = predict(case, model, Options(looks=1, precision="fp32", steps=1, mimic=True))
    assert (len(calls), told.options.steps, told.mimicked) == (4, 1, True)


def test_export_and_a_further_training_keep_it(trained, cohort_folder, tmp_path):
    export(trained, tmp_path / "small.safetensors")
    assert registry.options_for(Options(), tmp_path / "small.safetensors") == Options(steps=3, mimic=False)
    config = TrainConfig(data=str(cohort_folder), init=str(trained), steps=1, out=str(tmp_path), lora=2)
    taught = Trainer(
        replace(config, adapter=True, lora=2, task=replace(config.task, targets=("ct",)), mimic=True)
    )
    assert (taught.model.config.sampling_steps, taught.model.config.mimic) == (1, True)  # as the new one says


def test_models_without_a_record_take_one_step_and_their_doses_are_moved():
    for name in registry.shipped():
        assert registry.options_for(Options(), name) == Options(steps=1, mimic=True)
    assert registry.options_for(Options(steps=4, mimic=False), "compact-hn") == Options(steps=4, mimic=False)


def test_the_paper_s_recipes_take_ten_steps_and_move_nothing():
    for recipe in (
        PAPER_DOSE,
        with_prior(PAPER_DOSE, "wan", "80gb"),
        with_prior(PAPER_DOSE, "maisi", "24gb"),
    ):
        assert (recipe.sampling_steps, recipe.mimic) == (10, False)


def test_a_cohort_s_scores_say_how_it_was_sampled(trained, tmp_path):
    store.write_stored(small_case(0), tmp_path / "cohort", "one")
    options = Options(looks=1, precision="fp32")
    found = evaluate(tmp_path / "cohort", trained, metrics=("paper",), options=options, device="cpu")
    assert not found.failed
    about = json.loads(json.dumps(found.to_json()))["about"]
    assert (about["options"]["steps"], about["options"]["mimic"]) == (3, False)
