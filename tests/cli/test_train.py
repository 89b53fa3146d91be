"""What can be trained is listed, with every setting."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from anydose.cli.app import app
from anydose.train.recipes import RECIPES, resolve
from anydose.train.settings import settings_of

RUN = CliRunner()


def test_recipes_lists_every_one_in_a_line() -> None:
    rows = {row["recipe"]: row["about"] for row in json.loads(RUN.invoke(app, ["recipes", "--json"]).stdout)}
    assert rows.keys() == RECIPES.keys()
    assert all(rows.values())
    lines = RUN.invoke(app, ["recipes"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(rows)


def test_help_settings_lists_every_setting_of_the_resolved_recipe_and_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(iter(RECIPES))
    done = RUN.invoke(app, ["train", name, "steps=7", "--help-settings", "--json"])
    rows = {row["name"]: row["value"] for row in json.loads(done.stdout)}
    assert rows["steps"] == 7
    assert rows.keys() == {setting.name for setting in settings_of(RECIPES[name])}
    assert not list(tmp_path.iterdir())


def test_every_line_of_the_list_is_a_change_that_the_recipe_takes(tmp_path, monkeypatch):
    """What is shown can be given back as it stands, and changes nothing."""
    monkeypatch.chdir(tmp_path)
    for name, config in RECIPES.items():
        shown = RUN.invoke(app, ["train", name, "--help-settings"]).stdout.splitlines()
        lines = [line.rpartition("  (")[0] for line in shown if not line.startswith("    ")]
        given = [line for line in lines if not line.endswith(("=", "=[]")) and "[[" not in line]
        assert resolve(name, given) == config, name
