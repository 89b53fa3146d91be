"""Checkpoints, run states, recipes and commands of earlier versions hold earlier names, and keep working."""

import csv
import json
from dataclasses import asdict, replace

import torch
from safetensors import safe_open

from anydose.model import registry
from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict
from anydose.model.checkpoint import describe, load_model, save_model
from anydose.model.network.unet import UNetConfig
from anydose.model.tensors import load_tensors, save_tensors
from anydose.model.weights import SEAL
from anydose.train import recipes
from anydose.train.config import TrainConfig, train_config_from_dict
from anydose.train.tasks import ANY2ANY
from anydose.train.trainer import Trainer

BACKBONE = UNetConfig(
    widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16, sigma_data=0.25, bev_exchange=4
)
MODEL = ModelConfig(BACKBONE, keep_laterality=True)


def former_config():
    """MODEL as version 0.1 wrote it."""
    values = json.loads(json.dumps(asdict(MODEL)))
    values["sided"] = values.pop("keep_laterality")
    backbone = values["backbone"]
    backbone["spread"], backbone["rays"] = backbone.pop("sigma_data"), backbone.pop("bev_exchange")
    return values


def with_former_names(path, key, change):
    """Rewrite a file's tensors under their former names, and the JSON under `key` of its metadata."""
    tensors, metadata = load_tensors(path)
    former = {name.replace("bev_exchange.", "rays."): tensor for name, tensor in tensors.items()}
    assert former.keys() != tensors.keys()
    about = {k: v for k, v in metadata.items() if k != SEAL}
    save_tensors(former, path, about | {key: json.dumps(change(json.loads(about[key])))})


def test_a_config_under_former_names_is_the_same_config():
    assert config_from_dict(former_config()) == MODEL


def test_a_checkpoint_of_former_names_is_the_same_model_and_says_the_present_ones(tmp_path):
    torch.manual_seed(0)
    model, path = Any2Any(MODEL), tmp_path / "m.safetensors"
    save_model(model, path, {"step": 7})
    with_former_names(path, "config", lambda config: former_config())
    again = load_model(path)
    assert again.config == MODEL
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert describe(path)["config"] == json.loads(json.dumps(asdict(MODEL)))


def test_the_shipped_weights_are_of_former_names_and_load():
    path = registry.find("compact-hn")
    with safe_open(path, "pt") as file:
        stored, names = json.loads(file.metadata()["config"]), set(file.keys())
    assert stored["sided"] and stored["backbone"]["rays"] and any(".rays." in name for name in names)
    config = load_model(path).config
    assert config.keep_laterality and config.backbone.bev_exchange == stored["backbone"]["rays"]
    assert config.backbone.sigma_data == stored["backbone"]["spread"]


def test_a_run_of_former_names_resumes_with_the_same_losses(cohort_folder, tmp_path):
    config = TrainConfig(
        name="t", model=MODEL, data=str(cohort_folder), steps=4, save_every=2, warmup=1, task=ANY2ANY
    )

    def former(state):
        stored = state["config"]
        stored["model"] = former_config()
        stored["task"]["at_one"] = stored["task"].pop("t1_probability")
        return state

    def losses(out):
        with (tmp_path / out / "t" / "log.csv").open() as file:
            return [(row["step"], row["loss"], row["grad"]) for row in csv.DictReader(file)]

    list(Trainer(replace(config, out=str(tmp_path / "whole"))).run())
    cut = replace(config, out=str(tmp_path / "cut"))
    killed = Trainer(cut).run()
    for _ in range(3):  # a step past the checkpoint
        next(killed)
    killed.close()
    with_former_names(tmp_path / "cut" / "t" / "state.safetensors", "state", former)
    again = Trainer(cut)
    again.resume()
    assert again.step == 2
    list(again.run())
    assert losses("cut") == losses("whole")


def test_a_recipe_file_and_a_command_of_former_names_are_taken(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {sided: true, backbone: {spread: 0.25, rays: 4, code: 16}}\n")
    found = recipes.find(str(path)).model
    assert found == ModelConfig(UNetConfig(sigma_data=0.25, bev_exchange=4, code=16), keep_laterality=True)
    changes = ["model.sided=true", "model.backbone.spread=0.25", "model.backbone.rays=4"]
    command = recipes.resolve("any2any", [*changes, "model.backbone.code=16"])
    assert command.model == found


def test_a_training_record_of_former_names_is_read():
    recipe = recipes.RECIPES["hn-beams-eye-view"]
    stored = json.loads(json.dumps(asdict(recipe)))
    stored["model"]["sided"] = stored["model"].pop("keep_laterality")
    stored["model"]["backbone"]["rays"] = stored["model"]["backbone"].pop("bev_exchange")
    assert train_config_from_dict(stored) == recipe
