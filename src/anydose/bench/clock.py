"""Wall time of a piece of work. Ratios are taken within one run, by turns, as machines are shared."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and its wall time."""
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


def median_seconds(work: Callable[[], object], repeats: int = 3, warm: bool = True) -> float:
    """Median wall time of `work`, after one that does not count if `warm`."""
    if warm:
        work()
    return float(np.median([timed(work)[1] for _ in range(repeats)]))
