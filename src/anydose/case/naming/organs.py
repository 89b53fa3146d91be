"""From the words of a name to an organ and its side, exactly or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from anydose.case.naming import structures, words
from anydose.case.naming.lexicon import index


@dataclass(frozen=True)
class Organ:
    """What words mean: TG-263's name, or '' with the reason."""

    tg263: str
    """The name, or ''."""
    side: str = ""
    """'L', 'R' or ''."""
    why: str = ""
    """Why there is no name."""
    stem: str = ""
    """The name without its side, where only the side is not known: Parotid, Parotid_Ipsi."""

    @property
    def known_part(self) -> str:
        """The name, or what is known of it."""
        return self.tg263 or self.stem


@cache
def _rows() -> dict[str, structures.Name]:
    return {row.tg263: row for row in structures.table()}


@cache
def _pairs() -> dict[str, str]:
    return structures.pairs()


def find(tokens: tuple[str, ...]) -> Organ:
    """The organ that lower-case words name, every one of them used: as they stand, without the words of a
    side, without fillers, with a side glued to a word. An Organ without name says why there is none."""
    if not tokens:
        return Organ("", why="no word of an organ in it")
    plain = index.find(tokens)
    if plain is not None and plain.stem not in _pairs():
        return Organ(plain.stem, _rows()[plain.stem].side)
    sides = {words.side_of(token) for token in tokens} - {""}
    if len(sides) > 1:
        return Organ("", why="names both sides")
    left_over = tuple(token for token in tokens if not words.side_of(token))
    side = next(iter(sides), "")
    known = _stem(left_over)
    if known is not None and _speaks(tokens, known.languages):
        return _with_side(known.stem, side, tokens)
    found = _bound(left_over, side) or _glued(left_over, side) or _relative(left_over)
    return found or Organ("", side, "not a name of TG-263 or of a lexicon")


def _stem(tokens: tuple[str, ...]) -> index.Entry | None:
    """The entry of the words, if need be without fillers and words for both."""
    found = index.find(tokens)
    if found is not None:
        return found
    bare = tuple(token for token in tokens if token not in words.FILLERS and token not in words.BOTH)
    return index.find(bare) if bare and bare != tokens else None


def _speaks(tokens: tuple[str, ...], languages: frozenset[str]) -> bool:
    """False where a side word is one of a language that the organ's word is not of ('der')."""
    return all(words.ONLY_OF.get(token, "") in ("", *languages) for token in tokens if words.side_of(token))


def _with_side(stem: str, side: str, tokens: tuple[str, ...]) -> Organ:
    if stem not in _pairs():
        row = _rows()[stem]
        if side and row.side != side:
            return Organ("", side, f"{stem} with a side: part of it, or another organ")
        return Organ(stem, row.side)
    both = _pairs()[stem]
    if side:
        return Organ(f"{stem}_{side}", side)
    if both and any(token in words.BOTH for token in tokens):
        return Organ(both)
    if stem in structures.side_optional():
        return Organ(stem)
    return Organ("", why=f"{stem} of which side?", stem=stem)


def _relative(tokens: tuple[str, ...]) -> Organ | None:
    """A side told by the tumour's: it is not known which one that is."""
    for word, group in (("Ipsi", words.IPSI), ("Contra", words.CONTRA)):
        known = _stem(tuple(token for token in tokens if token not in group))
        if known is not None and known.stem in _pairs() and group & set(tokens):
            stem = f"{known.stem}_{word}"
            return Organ("", why=f"{stem}: which side is that?", stem=stem)
    return None


def _bound(tokens: tuple[str, ...], side: str) -> Organ | None:
    """A side in a short word of the organ's own language: Parotide G, Niere li."""
    for place, token in enumerate(tokens):
        if token not in words.BOUND or side:
            continue
        meant, languages = words.BOUND[token]
        known = _stem(tokens[:place] + tokens[place + 1 :])
        only = words.ONLY_OF.get(token)
        if known is None or not known.languages & languages or (only and known.languages != {only}):
            continue
        return _with_side(known.stem, meant, tokens)
    return None


def _glued(tokens: tuple[str, ...], side: str) -> Organ | None:
    """A side written to the organ without a separator: LPAROTID, parotidl, Linkerlong; of pairs alone, and
    not if the word could be cut in two ways."""
    found: set[Organ] = set()
    for place, token in enumerate(tokens):
        for affix in words.GLUED:
            rests = [token[len(affix) :]] if token.startswith(affix) else []
            rests += [token[: -len(affix)]] if token.endswith(affix) else []
            for rest in rests:
                known = _stem((*tokens[:place], rest, *tokens[place + 1 :])) if len(rest) > 2 else None
                meant = words.side_of(affix)
                if known is not None and known.stem in _pairs() and side in ("", meant):
                    found.add(Organ(f"{known.stem}_{meant}", meant))
    return found.pop() if len(found) == 1 else None
