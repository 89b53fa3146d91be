"""What a prediction was not shown is said with its measured cost."""

import json
from types import SimpleNamespace

import pytest

from anydose.deliver.measured import not_shown, rows_beside
from anydose.model.weights import WEIGHTS
from anydose.predict import Options

ALL = ("ct", "ptv", "oar", "body", "beam", "angle")


def shown(*names, given=(), model=WEIGHTS / "compact-hn.safetensors"):
    return not_shown(SimpleNamespace(used=names, options=Options(given=given), model=model))


def test_everything_shown_is_nothing_to_say():
    assert shown(*ALL) == ()


def test_a_lack_and_a_choice_are_told_apart_and_cost_what_was_measured():
    rows = {tuple(r["without"]): r for r in json.loads((WEIGHTS / "compact-hn.conditions.json").read_text())}
    (said,) = shown("ct", "ptv", "oar", "body")
    assert "without beam plates, angle plate, which the case does not hold" in said
    assert f"costs {rows['angle', 'beam']['change']:.2f} Gy on average" in said
    (said,) = shown("ct", "ptv", "body", "beam", "angle", given=("ct", "ptv", "body", "beam", "angle"))
    assert "without organs by choice" in said
    assert f"costs {rows[('oar',)]['change']:.2f} Gy" in said


def test_what_was_not_measured_together_costs_at_least_the_worst_part():
    rows = {tuple(r["without"]): r for r in json.loads((WEIGHTS / "compact-hn.conditions.json").read_text())}
    (said,) = shown("ct", "body", "angle")
    assert f"at least {rows[('ptv',)]['change']:.2f} Gy" in said


def test_a_model_that_was_never_measured_says_so(tmp_path):
    (said,) = shown("ptv", model=tmp_path / "mine.safetensors")
    assert "not measured for this model" in said
    (said,) = shown("ptv", model=None)
    assert "not measured for this model" in said
    (tmp_path / "mine.conditions.json").write_text("{}")
    with pytest.raises(ValueError, match="bench conditions"):
        rows_beside(tmp_path / "mine.safetensors", "conditions")
