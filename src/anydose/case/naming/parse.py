"""A structure's name to its meaning, by rule: nothing is matched by likeness.

An organ is read only if every word of the name is used: the organ's own words in one of six languages,
its side,
fillers ('gland', 'total') and a dose beside it. One more word (ring, opt, PRV, +5 mm, minus PTV, z...)
and it is
'derived', or 'unknown'. A target begins with PTV, CTV, GTV or ITV; what else stands there says which one
it is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from anydose.case.naming import organs, structures, words
from anydose.case.naming.meaning import Meaning

PARTIAL = "part of an organ (~)"
_BEFORE_TARGET = """
    p i ig hr ir lr boost final main total primary tumor tumour nodal nodes node left right l r lt rt high mid
    low hi lo planning the elective ln neck bilat targets target vol volume
"""
BEFORE_TARGET = frozenset(_BEFORE_TARGET.split())
GRADES = {
    "High": "high hi hr hoch haut alto alta",
    "Mid": "mid med medium int intermediate ir mittel moyen medio",
    "Low": "low lo lr niedrig bas basso baja bajo tief laag",
}
GRADE = {word: grade for grade, group in GRADES.items() for word in group.split()}
SENTENCES = {
    "planning target volume": "PTV",
    "clinical target volume": "CTV",
    "gross tumor volume": "GTV",
    "gross tumour volume": "GTV",
    "internal target volume": "CTV",
    "planungszielvolumen": "PTV",
    "klinisches zielvolumen": "CTV",
}
# Names of public data sets that state no side and mean both.
OF_DATA_SETS = {
    "BrachialPlexus": "BrachialPlexs",
    "Submandibular": "Glnd_Submands",
    "Submand-PTV": "Glnd_Submands-PTV",
}
ROWS = {row.tg263: row for row in structures.table()}


@lru_cache(maxsize=8192)
def parse(name: str) -> Meaning:
    """What a structure's name means. Never raises: what is not certain has the role 'unknown' and says
    why."""
    both = OF_DATA_SETS.get(name)
    if both is not None:
        return replace(parse(both), roi=name, why="both sides, as GDP-HMM means it")
    text = name.split("^")[0].strip()
    cut = words.cut(text)
    readings = []
    for spelling in _spelled(cut):
        found = _parse(text, spelling)
        if found.role not in ("unknown", "derived"):
            return replace(found, roi=name)
        readings.append(found)
    best = next((found for found in readings if found.role == "derived"), None)
    return replace(best or next(iter(readings), Meaning("", why="no word in it")), roi=name)


def _spelled(cut: list[str]) -> list[tuple[str, ...]]:
    """The tokens in lower case without accents, umlauts as two letters and as one."""
    each = [words.spellings(token) for token in cut]
    forms = [tuple(spelled[min(k, len(spelled) - 1)] for spelled in each) for k in (0, 1)]
    return list(dict.fromkeys(forms)) if cut else []


def _parse(text: str, tokens: tuple[str, ...]) -> Meaning:
    sentence = SENTENCES.get(" ".join(tokens))
    if sentence is not None:
        return Meaning("", sentence, sentence.lower(), why="a target in words")
    kinds = [token for token in tokens if token in words.TARGETS]
    return _target(text, tokens) if kinds else _organ(text, tokens)


def _organ(text: str, tokens: tuple[str, ...]) -> Meaning:
    """A name without PTV, CTV, GTV or ITV in it."""
    bare = _without_dose(tokens)
    signs = [token for token in bare if not token[0].isalnum() and token != "-"]
    plain = tuple(token for token in bare if token[0].isalnum())
    lead = _lead(text, plain)
    if not signs and not lead:
        found = organs.find(plain)
        if found.tg263:
            if "-" in bare and _is_difference(bare):
                return Meaning("", role="derived", derived="minus something", why="one organ minus another")
            row = ROWS[found.tg263]
            return Meaning("", found.tg263, row.role, found.side, why=_how(tokens, bare))
    reason, of = _derived(plain, bare, lead, signs)
    if reason:
        return Meaning("", _prv_name(of.tg263, reason, bare), "derived", of.side, reason, of.known_part)
    found = organs.find(plain)
    return Meaning("", side=found.side, why=found.why)


def _how(tokens: tuple[str, ...], bare: tuple[str, ...]) -> str:
    return "an organ with a dose beside it" if bare != tokens else "an organ's name"


def _without_dose(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens without doses (26 Gy, <4500 cGy, max 45 Gy)."""
    out: list[str] = []
    dropped = False
    for token in tokens:
        if token in words.DOSE_UNITS and out and words.is_number(out[-1]):
            out.pop()
            dropped = True
            while out and out[-1] in ("<", ">", "=", "~"):
                out.pop()
        else:
            out.append(token)
    return tuple(t for t in out if t not in words.LIMITS) if dropped else tuple(out)


def _lead(text: str, plain: tuple[str, ...]) -> str:
    """Why the beginning of a name says that it is no plain organ or target; ''."""
    if text.startswith("~"):
        return PARTIAL
    if text.startswith("_"):
        return "set apart by a leading underscore"
    if len(plain) > 1 and plain[0] in words.LEADS:
        return f"set apart by a leading {plain[0]}"
    return ""


def _derived(
    plain: tuple[str, ...], bare: tuple[str, ...], lead: str, signs: list[str]
) -> tuple[str, organs.Organ]:
    """(why a name is one of a derived structure or '', the organ that it was made from)."""
    marks = [token for token in plain if token in words.REASON]
    rest = tuple(t for t in plain if t not in words.REASON and t.isalpha() and t not in words.LENGTHS)
    rest = (
        rest[1:] if lead.startswith("set apart by a leading ") and rest and rest[0] in words.LEADS else rest
    )
    of = organs.find(rest)
    numbers = [token for token in plain if words.is_number(token)]
    if marks:
        return words.REASON[marks[0]], of
    if lead:
        return lead, of
    if any(token in words.LENGTHS for token in plain) and numbers:
        return "with a margin", organs.find(tuple(t for t in rest if t != "x"))
    if of.tg263 and "+" in signs:
        return "with a margin or with another", of
    if of.tg263 and "%" in signs:
        return "of the dose", of
    if of.tg263 and numbers:
        return "a number after an organ's name: an expansion, a part or a copy", of
    if signs and len(_sides_of_sign(bare)) > 1:
        return "several structures in one", organs.Organ("")
    if "-" in bare and _is_difference(bare):
        return "minus something", _sides_of_sign(bare)[0]
    for place, token in enumerate(plain):
        for affix in words.GLUED_DERIVED:
            for cut in _cuts(token, affix):
                whole = organs.find((*plain[:place], cut, *plain[place + 1 :]))
                if whole.tg263:
                    return words.REASON.get(affix, f"set apart by a leading {affix}"), whole
    return "", of


def _cuts(token: str, affix: str) -> list[str]:
    """What is left of a word without an affix at its front or, unless that is a z, at its end."""
    front = [token[len(affix) :]] if token.startswith(affix) and len(token) > len(affix) + 2 else []
    end = (
        [token[: -len(affix)]]
        if token.endswith(affix) and affix[0] != "z" and len(token) > len(affix)
        else []
    )
    return front + end


def _sides_of_sign(bare: tuple[str, ...]) -> list[organs.Organ]:
    """The organs between the signs of a name, where each part is one."""
    parts: list[list[str]] = [[]]
    for token in bare:
        if token[0].isalnum():
            parts[-1].append(token)
        else:
            parts.append([])
    found = [organs.find(tuple(part)) for part in parts if part]
    return found if all(organ.known_part for organ in found) else []


def _is_difference(bare: tuple[str, ...]) -> bool:
    """True if a '-' stands between two names of organs."""
    return "-" in bare and len(_sides_of_sign(bare)) > 1


def _prv_name(of: str, reason: str, bare: tuple[str, ...]) -> str:
    """TG-263's name of a planning organ at risk volume, where the margin in mm is known; else ''."""
    numbers = [token for token in bare if words.is_number(token)]
    margin = reason.startswith(("planning volume", "with a margin", "a number after"))
    if of not in ROWS or ROWS[of].role != "oar" or not margin or len(numbers) > 1:
        return ""
    if not numbers:
        return f"{of}_PRV" if reason.startswith("planning volume") else ""
    millimetres = float(numbers[0].replace(",", ".")) * (10 if "cm" in bare else 1)
    is_whole = millimetres == int(millimetres) and 0 < millimetres < 100
    return f"{of}_PRV{int(millimetres):02d}" if is_whole else ""


def _target(text: str, tokens: tuple[str, ...]) -> Meaning:
    """A name with PTV, CTV, GTV or ITV in it."""
    place = next(k for k, token in enumerate(tokens) if token in words.TARGETS)
    before, kind, after = tokens[:place], tokens[place], tokens[place + 1 :]
    plain = tuple(token for token in before if token[0].isalnum())
    lead = _lead(text, (*plain, kind))
    of = organs.find(tuple(t for t in plain if t not in words.MINUS and t not in ("i", "ig")))
    if of.known_part:
        return _organ_and_target(of, before, kind, after, lead)
    reason = lead or _marked(before, after, kind)
    if reason:
        return Meaning("", role="derived", derived=reason, of=kind.upper())
    odd = [t for t in plain if t not in BEFORE_TARGET and t not in words.FILLERS and not words.is_number(t)]
    if odd:
        return Meaning("", why=f"'{odd[0]}' before {kind.upper()} is not understood")
    role = "gtv" if kind == "itv" and plain[-1:] == ("ig",) else words.TARGETS[kind]
    level = _level_gy(after)
    side = next((words.side_of(t) for t in (*plain, *after) if words.side_of(t)), "")
    return Meaning(
        "", _target_name(kind, plain, after, level), role, side, why="a target's name", level_gy=level
    )


def _organ_and_target(
    of: organs.Organ, before: tuple[str, ...], kind: str, after: tuple[str, ...], lead: str
) -> Meaning:
    """An organ's words before the target's: Lungs-GTV is an organ of TG-263, all else is derived."""
    is_minus = any(token in words.MINUS for token in before) and not lead
    tail = [token for token in after if token[0].isalnum()]
    name = f"{of.known_part}-{kind.upper()}" if is_minus and not tail else ""
    if name in ROWS:
        return Meaning("", name, "oar", why="an organ without its target, as TG-263 names it")
    reason = "minus something" if is_minus else lead or "an organ and a target in one"
    return Meaning("", name, "derived", of.side, reason, of.known_part)


def _marked(before: tuple[str, ...], after: tuple[str, ...], kind: str) -> str:
    """Why a target's name is one of a derived structure, or ''."""
    rest = _without_fractions(after)
    for token in (*before, *rest):
        if token in words.REASON:
            return words.REASON[token]
        if token in ("+", "!", "%", "&", "<", ">", "*"):
            return "with a margin, cropped, or with another"
        if token in words.LENGTHS:
            return "with a margin"
    if "no" in rest[:-1]:
        return "minus something"
    if any(token in words.TARGETS for token in rest):
        return "two targets in one"
    for k, token in enumerate(rest):
        if (
            token in ("-", "/", "\\")
            and organs.find(tuple(t for t in rest[k + 1 :] if t[0].isalnum())).known_part
        ):
            return "minus something"
    for token in (*before, *rest):
        for affix in words.GLUED_DERIVED[:-3]:
            glued = token.startswith(affix) or token.endswith(affix)
            if glued and token.isalpha() and len(token) <= len(affix) + 4:
                return words.REASON[affix]
        if token.startswith("no") and organs.find((token[2:],)).tg263:
            return "minus something"
    return ""


def _without_fractions(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens without a number of fractions: 60Gy/30fx, 7000x35."""
    out: list[str] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if token in ("x", "in", "/") and rest and words.is_number(rest[0]):
            rest.pop(0)
            while rest and rest[0] in words.FRACTIONS | words.DOSE_UNITS:
                rest.pop(0)
        elif token in words.FRACTIONS and token != "x" and out and words.is_number(out[-1]):
            out.pop()
        else:
            out.append(token)
    return tuple(out)


def _level_gy(after: tuple[str, ...]) -> float | None:
    """The dose that stands after the target's word, its grade, or before a unit. A number without a unit is
    Gy from 10 to 100 and cGy from 1000 to 10000; any other is no dose."""
    words_after = [token for token in _without_fractions(after) if token not in ("-",)]
    for k, token in enumerate(words_after):
        unit = words_after[k + 1] if k + 1 < len(words_after) else ""
        if words.is_number(token) and unit in words.DOSE_UNITS:
            return _in_range(float(token.replace(",", ".")) / (100 if unit == "cgy" else 1))
    start = 1 if words_after and words_after[0] in GRADE else 0
    if len(words_after) <= start or not words.is_number(words_after[start]):
        return None
    follows = words_after[start + 1] if start + 1 < len(words_after) else ""
    if len(follows) == 1 and follows.isalpha() and follows not in ("l", "r"):
        return None
    value = float(words_after[start].replace(",", "."))
    return _in_range(value / 100 if 1000 <= value <= 10000 else value)


def _in_range(value_gy: float) -> float | None:
    return value_gy if 10 <= value_gy <= 100 else None


def _target_name(kind: str, before: tuple[str, ...], after: tuple[str, ...], level_gy: float | None) -> str:
    """TG-263's name of a target: PTV_High, PTV_7000, GTVp, PTV."""
    grade = next((GRADE[token] for token in (*before, *after) if token in GRADE), "")
    head = ("I" if before[-1:] in (("i",), ("ig",)) else "") + kind.upper()
    if grade:
        return f"{head}_{grade}"
    if level_gy is not None:
        return f"{head}_{round(level_gy * 100)}"
    return f"{head}{after[0]}" if after[:1] in (("p",), ("n",)) else head
