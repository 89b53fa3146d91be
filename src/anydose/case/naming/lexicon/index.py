"""Every spelling of the languages' tables in one index, found by its words in their order, or in any
order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from anydose.case.naming import structures, words
from anydose.case.naming.lexicon import dutch, english, french, german, italian, spanish

LANGUAGES = {
    "english": english.WORDS,
    "german": german.WORDS,
    "french": french.WORDS,
    "spanish": spanish.WORDS,
    "italian": italian.WORDS,
    "dutch": dutch.WORDS,
}


@dataclass(frozen=True)
class Entry:
    """What a spelling means."""

    stem: str
    """A TG-263 name, or of a pair the name without its side (Parotid)."""
    languages: frozenset[str]
    """Of which languages the spelling is."""


@cache
def entries() -> dict[str, Entry]:
    """Key of a spelling (`ordered` or `unordered`) -> what it means. AssertionError if one means two
    things."""
    found: dict[str, Entry] = {}
    for language, table in (("english", _own_names()), *LANGUAGES.items()):
        for stem, phrases in table.items():
            for phrase in phrases.split(","):
                for spelling in words.spellings(phrase.strip()):
                    _add(found, tuple(spelling.split()), stem, language)
    return found


def find(tokens: tuple[str, ...]) -> Entry | None:
    """The entry of lower-case words, or None."""
    known = entries()
    joined = known.get(ordered(tokens)) if _may_join(tokens) else None
    return joined or known.get(unordered(tokens))


def _may_join(tokens: tuple[str, ...]) -> bool:
    """False where a letter stands alone: 'Lung S' is not 'Lungs'."""
    return len(tokens) == 1 or all(len(token) > 1 for token in tokens)


def ordered(tokens: tuple[str, ...]) -> str:
    """The key of words in their order; where they are cut does not matter."""
    return "".join(tokens)


def unordered(tokens: tuple[str, ...]) -> str:
    """The key of words in any order."""
    return "|".join(sorted(tokens))


def _own_names() -> dict[str, str]:
    """TG-263's own names as phrases: of pairs without the side."""
    pairs = structures.pairs()
    stems = {row.tg263: row.tg263 for row in structures.table() if "-" not in row.tg263}
    for base in pairs:
        stems.pop(f"{base}_L", None)
        stems.pop(f"{base}_R", None)
        stems[base] = base
    targets = ("GTV", "CTV", "PTV")
    return {stem: " ".join(word.lower() for word in words.cut(stem)) for stem in stems if stem not in targets}


def _add(found: dict[str, Entry], tokens: tuple[str, ...], stem: str, language: str) -> None:
    for key in {ordered(tokens), unordered(tokens)}:
        old = found.get(key)
        if old is not None and old.stem != stem:
            raise AssertionError(f"{' '.join(tokens)} ({language}) means {old.stem} and {stem}")
        before = old.languages if old is not None else frozenset()
        found[key] = Entry(stem, before | {language})
