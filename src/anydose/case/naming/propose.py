"""Names that a name not understood may mean, by likeness: for a person to choose from, never applied."""

from __future__ import annotations

from functools import cache

from rapidfuzz import fuzz, process

from anydose.case.naming import structures, words
from anydose.case.naming.lexicon import index
from anydose.case.naming.mapping import side_in

LEAST_LIKENESS = 70.0  # of 100; below it a proposal is noise


@cache
def _phrases() -> dict[str, str]:
    """Every spelling of the lexicons in its words' order -> its stem."""
    return {key: entry.stem for key, entry in index.entries().items() if "|" not in key and len(key) > 2}


def proposals(name: str, most: int = 3) -> tuple[str, ...]:
    """Up to `most` TG-263 names that are most like a name, the likeliest first; of a pair both sides
    where the name
    states none."""
    tokens = [words.spellings(token)[0] for token in words.cut(name) if token[0].isalpha()]
    plain = "".join(token for token in tokens if not words.side_of(token) and token not in words.REASON)
    if len(plain) < 3:
        return ()
    close = process.extract(
        plain, list(_phrases()), scorer=fuzz.ratio, limit=8 * most, score_cutoff=LEAST_LIKENESS
    )
    stems = dict.fromkeys(_phrases()[phrase] for phrase, _, _ in close)
    return tuple(choice for stem in stems for choice in _sided(stem, side_in(name)))[:most]


def _sided(stem: str, side: str) -> tuple[str, ...]:
    if stem not in structures.pairs():
        return (stem,)
    return (f"{stem}_{side}",) if side else (f"{stem}_L", f"{stem}_R")
