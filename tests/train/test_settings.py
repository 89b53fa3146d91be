"""Settings as a list: what the source says under a field is what a user is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from anydose.model.options import Options
from anydose.train.changes import changed
from anydose.train.config import TrainConfig
from anydose.train.settings import settings_of


@dataclass(frozen=True)
class Part:
    size: int = 3
    """How large it is,
    in voxels."""
    bare: float = 0.5


@dataclass(frozen=True)
class Whole(Part):
    part: Part = field(default_factory=lambda: Part(size=7))
    """Followed by its own settings."""


def test_fields_in_order_with_type_default_and_docstring() -> None:
    assert [(s.name, s.type, s.default, s.says) for s in settings_of(Part)] == [
        ("size", int, 3, "How large it is, in voxels."),
        ("bare", float, 0.5, ""),
    ]


def test_a_part_is_followed_by_its_own_settings_and_inherited_fields_keep_their_words() -> None:
    found = {s.name: s for s in settings_of(Whole)}
    assert found["part.size"].default == 7
    assert found["size"].says == found["part.size"].says == "How large it is, in voxels."
    assert "part" not in found


def test_an_instance_gives_its_own_values() -> None:
    found = {s.name: s.default for s in settings_of(Part(size=9))}
    assert found == {"size": 9, "bare": 0.5}


def test_every_sampling_option_says_what_it_is() -> None:
    assert all(s.says for s in settings_of(Options))


@pytest.mark.parametrize(
    "change",
    [
        "steps=-5",
        "steps=1000000000000",
        "learning_rate=nan",
        "learning_rate=-0.1",
        "crop=[64,-5,512]",
        "crop=[64,true,512]",
        "model.organs=[5]",
        "model.trained_mm=[[1.0,x],[1.0,2.0],[1.0,2.0]]",
        "task.shift=-1",
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(change: str) -> None:
    with pytest.raises(ValueError, match="is accepted"):
        changed(TrainConfig(), [change])


def test_lists_may_be_longer_and_empty_ones_filled() -> None:
    assert changed(TrainConfig(), ["crop=[64,512,512]"]).crop == (64, 512, 512)
    assert changed(TrainConfig(), ["steps=0"]).steps == 0
