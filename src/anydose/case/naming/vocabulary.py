"""Which organs a model sees, each in a channel of its own: a table that lies in the checkpoint. The built-in
ones are data (vocabularies.yaml); a clinic's own is a file of the same form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from anydose.case.naming import structures
from anydose.case.naming.meaning import Meaning
from anydose.case.naming.parse import parse

OTHER = "other"
MOST_SHOWN = 4  # organs in a sentence
TABLES = Path(__file__).with_name("vocabularies.yaml")


@dataclass(frozen=True)
class Vocabulary:
    """The organ channels of a model, in order."""

    organs: tuple[str, ...]
    """TG-263 names, each once; 'other' is the channel of every organ without one of its own."""

    def __post_init__(self) -> None:
        if not self.organs or len(set(self.organs)) < len(self.organs):
            raise ValueError(
                f"organs {', '.join(self.organs) or 'none'}: each once, and at least one, is accepted"
            )

    def __str__(self) -> str:
        """Their number and the first of them."""
        shown = ", ".join(self.organs[:MOST_SHOWN])
        more = ", ..." if len(self.organs) > MOST_SHOWN else ""
        return f"{len(self.organs)} organs ({shown}{more})"

    def channel(self, meaning: Meaning) -> int | None:
        """The channel of a structure, or None if it has none. A derived structure is drawn only where the
        vocabulary holds it by name (Parotids-PTV)."""
        if self.holds(meaning):
            return self.organs.index(meaning.tg263)
        is_other = meaning.role == "oar" and OTHER in self.organs
        return self.organs.index(OTHER) if is_other else None

    def holds(self, meaning: Meaning) -> bool:
        """Whether a structure has a channel of its own."""
        return meaning.tg263 in self.organs

    def mirrored(self) -> tuple[int, ...]:
        """Where each channel comes from once left and right are exchanged."""
        partners = (structures.mirrored(organ) for organ in self.organs)
        return tuple(
            self.organs.index(partner if partner in self.organs else organ)
            for organ, partner in zip(self.organs, partners, strict=True)
        )

    @classmethod
    def from_cohort(cls, names: Iterable[str | Meaning]) -> Vocabulary:
        """A channel for every organ, and every derived structure with a name of its own, that the structures
        of a cohort name, in alphabetical order; and of every pair both sides. ValueError if there is none."""
        meanings = [parse(name) if isinstance(name, str) else name for name in names]
        found = {m.tg263 for m in meanings if m.tg263 and m.role in ("oar", "derived")}
        return cls(tuple(sorted(found | {structures.mirrored(organ) for organ in found})))


def _built_in() -> dict[str, Vocabulary]:
    tables: dict[str, list[str]] = yaml.safe_load(TABLES.read_text(encoding="utf-8"))
    return {name: Vocabulary(tuple(organs)) for name, organs in tables.items()}


BUILT_IN = _built_in()
HEAD_NECK, PROSTATE, LUNG, BREAST, GDPHMM = (
    BUILT_IN[name] for name in ("head_neck", "prostate", "lung", "breast", "gdphmm")
)


def built_in(name: str) -> Vocabulary:
    """The built-in vocabulary of a name; ValueError names those that there are."""
    if name not in BUILT_IN:
        raise ValueError(f"vocabulary {name!r}: one of {', '.join(BUILT_IN)} is accepted")
    return BUILT_IN[name]


def named(name: str) -> Vocabulary:
    """The vocabulary of a name, or of a YAML file `organs: [names]`. ValueError (found, accepted) for another
    file, and for a name in it that is none of TG-263."""
    if not name.endswith((".yaml", ".yml")):
        return built_in(name)
    path = Path(name)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no YAML ({' '.join(str(error).split())})") from error
    organs = value.get("organs") if isinstance(value, dict) else None
    if not isinstance(organs, list) or not all(isinstance(organ, str) for organ in organs):
        raise ValueError(
            f"{path}: one table 'organs' of TG-263 names is accepted, as organs: [Heart, Lung_L]"
        )
    known = {organ for vocabulary in BUILT_IN.values() for organ in vocabulary.organs}
    for organ in organs:
        if organ not in known and parse(organ).tg263 != organ:
            read = parse(organ).tg263 or "nothing that is certain"
            raise ValueError(f"{path}: organ {organ!r} means {read}; TG-263 names and 'other' are accepted")
    try:
        return Vocabulary(tuple(organs))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
