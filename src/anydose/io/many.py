"""One function over many cases, by several processes: each failure stays with its case."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

Job = TypeVar("Job")


@dataclass(frozen=True)
class Done:
    """What became of one job: its result, or the sentence why there is none."""

    job: Any
    """What was asked."""
    result: Any = None
    """What came of it."""
    why: str = ""
    """Empty if it went well."""


def each(function: Callable[[Job], Any], jobs: Sequence[Job], workers: int = 1) -> Iterator[Done]:
    """`function(job)` of every job, in the order in which they are done. workers: processes; 1 is this one,
    in order. The cores are shared among the processes. ValueError, OSError and MemoryError are failures of
    their job; anything else ends the whole."""
    if workers == 1:
        yield from map(partial(_one, function), jobs)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(threads,)
    )
    with pool:
        pending = [pool.submit(_one, function, job) for job in jobs]
        for one in as_completed(pending):
            yield one.result()


def _one(function: Callable[[Job], Any], job: Job) -> Done:
    try:
        return Done(job, function(job))
    except (ValueError, OSError, MemoryError) as error:
        return Done(job, why=" ".join(str(error).split()) or type(error).__name__)


def _begin(threads: int) -> None:
    """A worker takes its share of the cores, before torch is imported, and ends with its parent."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
