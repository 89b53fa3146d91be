"""Wall time of a piece of work. Ratios are taken within one run, by turns, as machines are shared."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def median_seconds(work: Callable[[], object], repeats: int = 3, warm: bool = True) -> float:
    """Median wall time of `work`, after one that does not count if `warm`."""
    if warm:
        work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))
