"""What structures are called: TG-263's names, the meaning of a name that a clinic wrote, and the organ
channels of
a model. The rules lie in `naming`; a name that they do not read is never matched by likeness."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from anydose.case.case import Case
from anydose.case.naming import structures, table
from anydose.case.naming.mapping import NameMap
from anydose.case.naming.meaning import Meaning
from anydose.case.naming.parse import parse
from anydose.case.naming.structures import Name
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary

__all__ = [
    "HEAD_NECK", "ORGAN_CHANNELS", "TABLE", "Meaning", "Name", "NameMap", "Vocabulary", "apply_names", "find",
    "mirrored_channels", "naming_table", "naming_warnings", "organ_channel", "parse", "role",
]  # fmt: skip

TABLE: tuple[Name, ...] = structures.table()
ORGAN_CHANNELS = HEAD_NECK.organs


@cache
def _rows() -> dict[str, Name]:
    return {row.tg263: row for row in TABLE}


def find(name: str) -> Name | None:
    """TG-263's row of an organ, the body or a support that `name` means, or of a target called by its
    kind alone;
    None for what is derived, not certain, or one target of many."""
    meaning = parse(name)
    row = _rows().get(meaning.tg263)
    is_one_of_many = meaning.role in ("ptv", "ctv", "gtv") and name.strip().upper() != meaning.tg263
    return None if is_one_of_many else row


def role(name: str) -> str:
    """The role that a name states: 'ptv', 'gtv', 'ctv', 'oar', 'body', 'support', 'derived' or 'unknown'."""
    return parse(name).role


def organ_channel(name: str) -> int:
    """The channel of an organ among ORGAN_CHANNELS; the last one for those without a channel of their own."""
    found = HEAD_NECK.channel(parse(name))
    return len(ORGAN_CHANNELS) - 1 if found is None else found


def mirrored_channels() -> tuple[int, ...]:
    """Where each of ORGAN_CHANNELS comes from once left and right are exchanged."""
    return HEAD_NECK.mirrored()


def apply_names(case: Case, names: NameMap) -> Case:
    """The case with a person's word on its structures; `Case.naming` holds a row for each. Answers for
    structures
    that the case lacks are left: a clinic's file serves many patients."""
    return replace(case, naming=tuple(names.read(meaning) for meaning in case.naming))


def naming_table(case: Case, vocabulary: Vocabulary = HEAD_NECK) -> list[dict[str, str]]:
    """One row a structure: roi, tg263, role, channel (of the network's input, or 'ignored'), why."""
    return table.rows(case.naming, case.prescription.levels_gy, vocabulary)


def naming_warnings(case: Case) -> list[str]:
    """Sentences for names that may cost dose, each with its remedy."""
    return table.warnings(case.naming, case.prescription.levels_gy)
