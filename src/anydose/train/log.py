"""A run's log.csv: a row a step, and after a kill no row that the resumed run writes again."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path


def append(file: Path, columns: Iterable[str], values: Iterable[object]) -> None:
    """Add a row, of which the first value is the step; a new file starts with the columns."""
    new = not file.is_file()
    with file.open("a", newline="") as handle:
        writer = csv.writer(handle)
        if new:
            writer.writerow(columns)
        writer.writerow(values)


def trim(file: Path, step: int) -> None:
    """Drop the rows that a killed run wrote after its checkpoint of `step`."""
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    kept = [line for line in lines if not line[0].isdigit() or int(line.split(",")[0]) <= step]
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    scratch.write_text("".join(kept))
    scratch.replace(file)
