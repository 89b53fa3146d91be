"""Settings as a list: what the source says under a field is what a user is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from anydose.model.options import Options
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
