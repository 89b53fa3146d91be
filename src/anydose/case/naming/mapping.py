"""A person's word on what structures are: the clinic's file of names, which stands above every rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from anydose.case.naming import words
from anydose.case.naming.meaning import Meaning
from anydose.case.naming.parse import parse

IGNORE = "ignore"
HEAD = """# What the structures of this clinic are: ROI name -> TG-263 name (Parotid_L), PTV, CTV, GTV,
# External, or ignore.
# A name without an answer is ignored until somebody gives one. Proposals by likeness
# stand behind it; they are never applied.
"""


@dataclass(frozen=True)
class NameMap:
    """ROI names as the source spells them -> TG-263 names, a target's or External, or 'ignore'. Letters'
    case and
    blanks at the ends do not matter. Raises ValueError for a name that means nothing."""

    names: Mapping[str, str] = field(default_factory=dict)
    """ROI -> name."""

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for roi, name in self.names.items():
            if not isinstance(roi, str) or not isinstance(name, str):
                raise ValueError(f"name {roi!r}: {name!r} found, text is accepted (write it in quotes)")
            if name.strip().lower() != IGNORE and not _is_answer(name):
                raise ValueError(
                    f"name {roi}={name}: a name of TG-263 (Parotid_L), PTV, CTV, GTV, External or ignore "
                    f"is accepted"
                )
            if seen.setdefault(_key(roi), name) != name:
                raise ValueError(
                    f"name {roi}: given twice, as {seen[_key(roi)]} and {name}; once is accepted"
                )

    @classmethod
    def of(cls, pairs: Iterable[str]) -> NameMap:
        """From texts 'ROI=Parotid_L'. Raises ValueError for another form."""
        found: dict[str, str] = {}
        for pair in pairs:
            roi, equals, name = pair.rpartition("=")
            if not equals or not roi.strip() or not name.strip():
                raise ValueError(f"name {pair!r}: ROI=NAME is accepted, as 'Ohrspeichel li=Parotid_L'")
            if found.setdefault(roi.strip(), name.strip()) != name.strip():
                raise ValueError(f"name {roi}: given twice; once is accepted")
        return cls(found)

    @classmethod
    def load(cls, path: str | Path) -> NameMap:
        """From a clinic's file; names without an answer are left out. Raises ValueError (file, found,
        accepted)."""
        return cls(_answered(read_file(Path(path)), Path(path)))

    def answer(self, roi: str) -> str | None:
        """What a person said of an ROI, or None."""
        return {_key(known): name for known, name in self.names.items()}.get(_key(roi))

    def with_more(self, other: NameMap) -> NameMap:
        """Both maps; of a name in both, the other's answer."""
        kept = {roi: name for roi, name in self.names.items() if other.answer(roi) is None}
        return NameMap({**kept, **other.names})

    def read(self, meaning: Meaning) -> Meaning:
        """The meaning of a structure by the map, or the one given where the map does not hold it."""
        name = self.answer(meaning.roi)
        if name is None:
            return meaning
        if name.strip().lower() == IGNORE:
            return Meaning(
                meaning.roi, "", "derived", derived="to be ignored", why="by --name or the clinic's file",
                source="clinic", kind=meaning.kind,
            )  # fmt: skip
        why = "by --name or the clinic's file"
        return replace(parse(name), roi=meaning.roi, why=why, source="clinic", kind=meaning.kind)


def _is_answer(name: str) -> bool:
    """True for a name that is certain, and of the derived ones for those that have a name of their own."""
    found = parse(name)
    return found.is_certain and (found.role != "derived" or bool(found.tg263))


def _key(roi: str) -> str:
    return " ".join(roi.split()).casefold()


def _answered(names: Mapping[str, str | None], path: Path) -> dict[str, str]:
    try:
        NameMap(answers := {roi: name for roi, name in names.items() if name})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return answers


def read_file(path: Path) -> dict[str, str | None]:
    """Every ROI of a clinic's file with its answer, None where there is none yet. Raises ValueError
    (file, found,
    accepted) for a file of another form."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: no YAML ({' '.join(str(error).split())})") from error
    names = value.get("names") if isinstance(value, dict) else None
    if not isinstance(value, dict) or set(value) != {"names"} or not isinstance(names, dict | None):
        raise ValueError(f"{path}: one table 'names' of ROI: NAME lines is accepted")
    for roi, name in (names or {}).items():
        if not isinstance(roi, str) or not isinstance(name, str | None):
            raise ValueError(f"{path}: {roi!r}: {name!r} found, text is accepted (write it in quotes)")
    return dict(names or {})


def file_text(names: Mapping[str, str | None], proposals: Mapping[str, Iterable[str]]) -> str:
    """A clinic's file. names: ROI -> answer or None; proposals: ROI -> names to choose from, written as a
    comment."""
    lines = [HEAD, "names:" if names else "names: {}"]
    for roi, name in names.items():
        quoted = yaml.safe_dump(roi, default_style='"', allow_unicode=True, width=10**6).strip()
        hint = ", ".join(proposals.get(roi, ()))
        lines.append(f"  {quoted}: {name or ''}".rstrip() + (f"  # {hint}?" if hint and not name else ""))
    return "\n".join(lines) + "\n"


def side_in(name: str) -> str:
    """'L' or 'R' where a word of a name says so, else ''."""
    found = {words.side_of(spelling) for token in words.cut(name) for spelling in words.spellings(token)} - {
        ""
    }
    return found.pop() if len(found) == 1 else ""
