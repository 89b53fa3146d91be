"""Rows as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from anydose.bench.registry import Row

NOT_SHOWN = ("bench", "sha256")  # columns that say nothing beside the others


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A heading and lines of cells as one Markdown table, without a line break at its end."""
    rule = "|" + " --- |" * len(head)
    return "\n".join([_line(head), rule, *map(_line, lines)])


def tables(rows: Sequence[Row]) -> str:
    """Rows of any benchmark: a table for every run of rows that share their columns."""
    runs: list[tuple[tuple[str, ...], list[list[str]]]] = []
    for row in rows:
        columns = tuple(name for name in row if name not in NOT_SHOWN)
        if not runs or runs[-1][0] != columns:
            runs.append((columns, []))
        runs[-1][1].append([cell(row[name]) for name in columns])
    return "\n\n".join(table(columns, lines) for columns, lines in runs) + "\n"


def cell(value: Any) -> str:
    """One value as it is shown: two decimals, or two digits of a small number."""
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "-"
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 0.005 else f"{value:.1e}"
    return str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
