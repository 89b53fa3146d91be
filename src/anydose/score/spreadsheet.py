"""Tables for spreadsheets, in which no name of the data can become a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: object) -> object:
    """A cell that a spreadsheet shows as it is: text that begins like a formula (=, +, -, @, tab, line end)
    gets an apostrophe in front. Numbers, and text that is a number, stay. Source: OWASP, CSV injection."""
    if not isinstance(value, str) or not value.lstrip(" ").startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table: one line of `columns`, then one line a row, every cell through `cell`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([cell(column) for column in columns])
        for row in rows:
            writer.writerow([cell(value) for value in row])
