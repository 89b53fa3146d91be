"""A run's log.csv: a row a step, and after a kill no row that the resumed run writes again."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from anydose.io.files import whole


def append(file: Path, row: Mapping[str, object]) -> None:
    """Add a row, of which the first value is the step; a new file starts with the columns."""
    is_new = not file.is_file()
    with file.open("a", newline="") as handle:
        writer = csv.writer(handle)
        if is_new:
            writer.writerow(row.keys())
        writer.writerow(row.values())


def trim(file: Path, step: int) -> None:
    """Drop the rows that a killed run wrote after its checkpoint of `step`, and a row that it did not finish;
    the whole file where no row is left."""
    if not file.is_file():
        return
    with file.open(newline="") as handle:
        columns, *rows = [line for line in handle if line.endswith("\n")] or [""]
    kept = [row for row in rows if _step(row) <= step]
    if not kept:
        file.unlink()
        return
    with whole(file) as scratch:
        scratch.write_text("".join([columns, *kept]), newline="")


def _step(row: str) -> float:
    number = row.split(",", 1)[0]
    return int(number) if number.isdigit() else float("inf")  # no row of ours: dropped
