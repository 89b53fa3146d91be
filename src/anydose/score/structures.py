"""Structures of a scorecard: finding them in a case, and building those that a StructureComment describes.

Grammar, deepest braces first, operators from left to right:

    expression = operand { (AND | OR | SUB) operand }
    operand    = ( "<" StructureId ">" | "{" expression "}" ) [ "|" margin ]
    margin     = signed millimetres, or six of them joined by "^":
                 left^right^superior^inferior^posterior^anterior

Source: specification of the PlanScoreCard format, section 5.5."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from anydose.case import names
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import block, bounding_box

Mask = NDArray[np.bool_]
Find = Callable[[str], Mask]
UNCODED = ("control", "ptv", "ctv", "gtv")  # codes that many structures share: never matched by code alone
SHAPE_ERROR_MM = 1e-6


@dataclass(frozen=True)
class StructureReference:
    """The structure that a scorecard item means."""

    structure_id: str | None = None
    """Its name in the plan that the card was made for."""
    template_id: str | None = None
    """Its name in the card."""
    code: str | None = None
    """Its code value in a dictionary of structures."""
    comment: str | None = None
    """How to build it from other structures, in this module's grammar."""
    auto_generated: bool = False
    """Whether the comment built it in the plan that the card was made for."""

    def __post_init__(self) -> None:
        for text in (self.structure_id, self.template_id, self.code, self.comment):
            if not isinstance(text, str | None):
                raise ValueError(f"a structure called {str(text)[:40]}; names are text")

    @property
    def label(self) -> str:
        """What the item calls it."""
        return self.template_id or self.structure_id or self.comment or "(no structure)"


@dataclass(frozen=True)
class Matching:
    """How names are found. by_hand: template or structure id -> name in the case; synonyms: groups of names
    that mean the same; codes: name in the case -> structure code (DICOM (3006,0086) code value);
    tg263: name in the case -> TG-263's."""

    by_hand: Mapping[str, str] = field(default_factory=dict)
    synonyms: Sequence[frozenset[str]] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    tg263: Mapping[str, str] = field(default_factory=dict)


def matching(case: Case, by_hand: Iterable[str] = (), synonyms: Sequence[frozenset[str]] = ()) -> Matching:
    """How names are found in `case`, with its structure codes and 'SCORECARD=CASE' texts. ValueError for a
    text without '='."""
    pairs = [text.partition("=") for text in by_hand]
    for text, sign, _ in pairs:
        if not sign:
            raise ValueError(
                f"{text!r}: SCORECARD=CASE is accepted, a name of the scorecard and one of the case"
            )
    by_name = {a.strip(): b.strip() for a, _, b in pairs}
    tg263 = {meaning.roi: meaning.tg263 for meaning in case.naming if meaning.tg263}
    return Matching(by_name, synonyms, case.source.structure_codes, tg263)


def match(reference: StructureReference, present: Iterable[str], by: Matching) -> str | None:
    """The name among `present` that `reference` means, by the format's first six rules in their order; None
    if no rule finds one. ValueError if the first rule that finds anything finds several."""
    there = list(present)
    for rule in (_code_and_id, _by_hand, _structure_id, _template_id, _synonym, _code_alone):
        found = sorted(set(rule(reference, there, by)))
        if len(found) > 1:
            raise ValueError(f"{reference.label} matches several structures: {', '.join(found)}")
        if found:
            return found[0]
    return None


def _code_and_id(reference: StructureReference, there: list[str], by: Matching) -> list[str]:
    return [
        n
        for n in there
        if reference.code and by.codes.get(n) == reference.code and n == reference.structure_id
    ]


def _by_hand(reference: StructureReference, there: list[str], by: Matching) -> list[str]:
    chosen = [
        by.by_hand[key]
        for key in (reference.template_id, reference.structure_id)
        if key and key in by.by_hand
    ]
    for name in chosen:
        if name not in there:
            raise ValueError(f"{reference.label} is mapped to {name}, and the case has no such structure")
    return chosen[:1]


def _structure_id(reference: StructureReference, there: list[str], by: Matching) -> list[str]:
    return _same(reference.structure_id, there)


def _template_id(reference: StructureReference, there: list[str], by: Matching) -> list[str]:
    return _same(reference.template_id, there)


def _same(name: str | None, there: list[str]) -> list[str]:
    if name in there:
        return [str(name)]
    return [n for n in there if name and n.lower() == name.lower()]


def _synonym(reference: StructureReference, there: list[str], by: Matching) -> list[str]:
    meant = {name.lower() for name in (reference.structure_id, reference.template_id) if name}
    same = frozenset().union(*(group for group in by.synonyms if meant & group))
    listed = [n for n in there if n.lower() in same]
    rows = {row.tg263 for row in map(names.find, meant) if row is not None}
    known = [n for n in there if by.tg263.get(n, _own_name(n)) in rows]
    return listed or known


def _own_name(name: str) -> str:
    row = names.find(name)
    return row.tg263 if row is not None else ""


def _code_alone(reference: StructureReference, there: list[str], by: Matching) -> list[str]:
    if not reference.code or reference.code.lower().startswith(UNCODED):
        return []
    return [n for n in there if by.codes.get(n) == reference.code]


def read_synonyms(path: Path) -> tuple[frozenset[str], ...]:
    """The synonym dictionary: a JSON list of {StructureID, TG263, StructureSynonyms}; the misspelt key
    'StructureSynonoyms' is accepted too. ValueError for anything else."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no dictionary of synonyms: no JSON ({error})") from error
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise ValueError(
            f"{path}: a JSON list of one or more objects with StructureID, TG263, StructureSynonyms is needed"
        )
    groups = []
    for row in rows:
        more = row.get("StructureSynonyms") or row.get("StructureSynonoyms") or []
        more = [more] if isinstance(more, str) else more
        ids = [row.get("StructureID"), row.get("TG263"), *(more if isinstance(more, list) else [0])]
        if not all(isinstance(name, str | None) for name in ids):
            raise ValueError(f"{path}: {str(row)[:80]}: names as text, and a list of synonyms, are needed")
        groups.append(frozenset(str(name).lower() for name in ids if name))
    return tuple(groups)


def build(comment: str, find: Find, grid: Grid) -> Mask:
    """The mask (d, h, w) on `grid` that a StructureComment describes. find: StructureId -> mask, a
    ValueError of its own if absent. ValueError if the comment does not follow the grammar."""
    tokens = re.findall(r"<[^>]*>|[{}]|\|[-+.\d^\s]+|AND\b|OR\b|SUB\b|\S+?", comment)
    mask, rest = _expression(tokens, find, grid, comment)
    if rest:
        raise ValueError(f"structure comment {comment!r}: {rest[0]!r} is not expected")
    return mask


def _expression(tokens: list[str], find: Find, grid: Grid, comment: str) -> tuple[Mask, list[str]]:
    mask, rest = _operand(tokens, find, grid, comment)
    while rest and rest[0] in ("AND", "OR", "SUB"):
        other, after = _operand(rest[1:], find, grid, comment)
        mask = {"AND": mask & other, "OR": mask | other, "SUB": mask & ~other}[rest[0]]
        rest = after
    return mask, rest


def _operand(tokens: list[str], find: Find, grid: Grid, comment: str) -> tuple[Mask, list[str]]:
    head, rest = (tokens[0], tokens[1:]) if tokens else ("the end", [])
    if head == "{":
        mask, rest = _expression(rest, find, grid, comment)
        if not rest or rest[0] != "}":
            raise ValueError(f"structure comment {comment!r}: a brace is not closed")
        rest = rest[1:]
    elif head.startswith("<"):
        mask = find(head[1:-1].strip())
    else:
        raise ValueError(f"structure comment {comment!r}: <StructureId> or a brace is needed, {head!r} found")
    if rest and rest[0].startswith("|"):
        mask, rest = with_margin(mask, grid, _margins(rest[0][1:], comment)), rest[1:]
    return mask, rest


def _margins(text: str, comment: str) -> tuple[float, ...]:
    try:
        margins = tuple(float(part) for part in text.split("^"))
    except ValueError:
        margins = ()
    if len(margins) not in (1, 6):
        raise ValueError(
            f"structure comment {comment!r}: margin {text!r}; one number of mm or six joined by ^"
        )
    return margins


def with_margin(mask: Mask, grid: Grid, margins_mm: Sequence[float]) -> Mask:
    """The mask (d, h, w) grown (positive) or shrunk (negative) by one margin in mm, or by six in the order
    left, right, superior, inferior, posterior, anterior of the patient: an ellipsoid about every voxel.
    What lies beyond the grid counts as outside the structure."""
    margins = tuple(margins_mm) * 6 if len(margins_mm) == 1 else tuple(margins_mm)
    grown = _grown(mask, grid, tuple(max(m, 0.0) for m in margins))
    if min(margins) >= 0:
        return grown
    # shrinking is growing the outside; the outside's left margin eats into the structure from its right
    left, right, superior, inferior, posterior, anterior = (max(-m, 0.0) for m in margins)
    opposite = (right, left, inferior, superior, anterior, posterior)
    padded = np.pad(~grown, 1, constant_values=True)
    return ~_grown(padded, grid, opposite)[1:-1, 1:-1, 1:-1]


def _grown(mask: Mask, grid: Grid, margins_mm: tuple[float, ...]) -> Mask:
    if not mask.any() or max(margins_mm) == 0:
        return mask
    spacing = grid.spacing_zyx_mm
    reach = [int(np.ceil(max(margins_mm) / s)) + 1 for s in spacing]
    start, shape = bounding_box(mask)
    first = tuple(s - r for s, r in zip(start, reach, strict=True))
    near = block(mask, first, tuple(n + 2 * r for n, r in zip(shape, reach, strict=True)), False)
    if min(margins_mm) == max(margins_mm):
        grown = ndimage.distance_transform_edt(~near, sampling=spacing) <= margins_mm[0] + SHAPE_ERROR_MM
    else:
        grown = (
            signal.fftconvolve(near.astype(np.float32), _ellipsoid(grid, margins_mm, reach), mode="same")
            > 0.5
        )
    return block(grown, tuple(-f for f in first), mask.shape, False)


def _ellipsoid(grid: Grid, margins_mm: tuple[float, ...], reach: list[int]) -> NDArray[np.float32]:
    """Offsets that a voxel grows to: eight octants of ellipsoids with semi-axes along LPS (left, posterior
    and superior are the positive x, y and z)."""
    left, right, superior, inferior, posterior, anterior = margins_mm
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1)
    mm = grid.to_mm(steps) - grid.to_mm((0, 0, 0))
    semi = np.where(mm > 0, (left, posterior, superior), (right, anterior, inferior))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(np.abs(mm) <= SHAPE_ERROR_MM, 0.0, np.abs(mm) / semi)
    inside: Mask = (parts**2).sum(axis=-1) <= 1 + SHAPE_ERROR_MM
    return inside.astype(np.float32)
