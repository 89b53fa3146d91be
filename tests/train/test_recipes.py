"""Recipes: every setting explained, names of before, YAML files that come back as what they were."""

import json
from dataclasses import asdict, replace

import pytest
import yaml

from anydose.train import changes, recipes, run, tasks
from anydose.train.codec import CodecConfig
from anydose.train.config import TrainConfig, train_config_from_dict
from anydose.train.posttrain.config import PostConfig, post_config_from_dict
from anydose.train.posttrain.reward import Anchor, Constraint, Reward, RewardConfig, StopRule
from anydose.train.settings import docstrings
from anydose.train.tasks import Augmentation, Draw, TaskConfig

CONFIGS = (TrainConfig, TaskConfig, PostConfig, CodecConfig, RewardConfig, Constraint, Anchor, StopRule)


@pytest.mark.parametrize("config", [*CONFIGS, Reward, Draw, Augmentation])
def test_every_field_has_a_docstring_of_its_own(config):
    assert set(docstrings(config)) == set(config.__dataclass_fields__)


def test_every_recipe_says_what_it_is():
    assert set(recipes.ABOUT) == set(recipes.RECIPES)
    assert all(words.endswith(".") for words in recipes.ABOUT.values())


@pytest.mark.parametrize(("former", "name"), recipes.FORMER_NAMES.items())
def test_a_former_name_is_the_recipe_in_the_folders_that_it_had(former, name):
    old, new = recipes.find(former), recipes.find(name)
    assert old.name == former
    assert replace(old, name=new.name, **({"init": new.init} if hasattr(new, "init") else {})) == new


def test_the_stages_of_former_names_start_from_each_other():
    chain = ("compact-hn-start", "compact-hn-whole", "compact-hn-turned", "compact-hn-bent")
    for before, after in zip(chain, chain[1:], strict=False):
        assert recipes.find(after).init == f"runs/{before}/model.safetensors"
    assert recipes.find("hn-rotated").init == "runs/hn-whole-bodies/model.safetensors"


def test_settings_of_former_names_are_taken_on_the_command_line():
    c = recipes.resolve("dose", ["task.at_one=0.25", "task.keep=[0.5, 0.75]", "task.tilt_deg=3"])
    assert (c.task.t1_probability, c.task.rotation_jitter_deg) == (0.25, 3.0)
    assert c.task.condition_keep_probability == (0.5, 0.75)
    assert recipes.resolve("posttrain", ["at_one=0.5"]).t1_probability == 0.5


def test_a_configuration_that_was_stored_under_former_names_is_the_same_configuration():
    config = recipes.RECIPES["hn-laterality"]
    stored = json.loads(json.dumps(asdict(config)))
    former = {new: old for old, new in tasks.FORMER_NAMES.items()}
    stored["task"] = {former.get(key, key): value for key, value in stored["task"].items()}
    assert "as_is" in stored["task"] and "unaugmented_probability" not in stored["task"]
    del stored["error"], stored["sampling_steps"], stored["task"]["shift"]  # younger than the run
    assert train_config_from_dict(stored) == config
    post = asdict(replace(recipes.POSTTRAIN, t1_probability=0.3))
    post["at_one"] = post.pop("t1_probability")
    assert post_config_from_dict(post) == replace(recipes.POSTTRAIN, t1_probability=0.3)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_written_as_yaml_is_the_recipe_when_it_is_read(name, tmp_path):
    recipe, path = recipes.find(name), tmp_path / "recipe.yaml"
    changes.write_yaml(recipe, path)
    if isinstance(recipe, PostConfig):
        path.write_text(f"recipe: posttrain\n{path.read_text()}")
    assert recipes.find(str(path)) == recipe
    assert "# Seed of" in path.read_text()


def test_a_recipe_file_changes_a_named_recipe_or_the_defaults(tmp_path):
    path = tmp_path / "mine.yaml"
    values = {
        "recipe": "dose",
        "steps": 7,
        "task": {"zoom": 0.1},
        "model": {"backbone": {"kind": "dit", "dim": 32}},
    }
    path.write_text(yaml.safe_dump(values))
    c = recipes.resolve(str(path), ["seed=3"])
    assert (c.name, c.steps, c.seed, c.task.zoom, c.task.dose_share) == ("dose", 7, 3, 0.1, 0.85)
    assert (c.model.backbone.kind, c.model.backbone.dim, c.model.backbone.depth) == ("dit", 32, 8)
    for text, why in (
        ("stepz: 1", "stepz"),
        ("steps: many", "int"),
        ("- 1", "a mapping"),
        ("task: 3", "TaskConfig"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"mine.yaml.*{why}"):
            recipes.find(str(path))
    with pytest.raises(ValueError, match="no recipe file"):
        recipes.find(str(tmp_path / "none.yaml"))


def test_the_papers_recipes_are_the_papers_settings():
    first, second = recipes.RECIPES["paper-any2any"], recipes.RECIPES["paper-dose"]
    for c in (first, second):
        assert (c.error, c.task.t1_probability, c.learning_rate, c.clip) == ("squared", 0.0, 1e-4, 0.1)
        assert (c.epochs, c.crop, c.sampling_steps, c.last_rate) == (100, (96, 128, 160), 10, 1.0)
    assert second.init == "runs/paper-any2any/model.safetensors"
    wan = recipes.resolve("paper-dose", prior="wan", machine="80gb")
    assert wan.init == "runs/paper-any2any-wan/model.safetensors"
    assert (wan.error, wan.latents, wan.task.t1_probability, wan.checkpointing) == (
        "squared",
        True,
        0.0,
        True,
    )
    third = recipes.RECIPES["paper-posttrain"]
    assert (third.candidates, third.rank, third.sampler, third.sampling_steps) == (24, 64, "ddim", 10)
    with pytest.raises(ValueError, match="takes no prior"):
        recipes.resolve("paper-posttrain", prior="wan")


def test_either_kind_of_recipe_starts_its_own_training(tmp_path):
    for name, why in (("dose", "no rendered case"), ("posttrain", "no rendered case")):
        recipe = recipes.resolve(
            name, [f"data={tmp_path}", f"out={tmp_path}"] + (["init="] if name == "dose" else [])
        )
        with pytest.raises(ValueError, match=why):
            run.start(recipe, resume=False, device="cpu")
