"""One column of a benchmark's rows in one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anydose.bench.registry import Row


def column(rows: Sequence[Row], name: str) -> list[float]:
    """A column's values, of the rows that have it."""
    return [row[name] for row in rows if name in row]


def mean(rows: Sequence[Row], name: str) -> float:
    """The mean of a column."""
    return float(np.mean(column(rows, name)))


def median(rows: Sequence[Row], name: str) -> float:
    """The median of a column."""
    return float(np.median(column(rows, name)))


def spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def with_spread(rows: Sequence[Row], name: str) -> str:
    """The mean of a column with its spread, as '3.10 ± 0.14'; the mean alone of one row, '' of none."""
    if not rows:
        return ""
    values = column(rows, name)
    mean_of = f"{np.mean(values):.2f}"
    return f"{mean_of} ± {spread(values):.2f}" if len(values) > 1 else mean_of
