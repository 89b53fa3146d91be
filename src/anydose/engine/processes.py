"""Workers that are processes of this machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from anydose.engine.crew import Done, WorkerDiedError, cores


class Processes:
    """A pool that is made anew when a worker was killed."""

    one_death_is_all = True

    def __init__(self, work: Callable[[Any], Done], workers: int) -> None:
        self.work, self.workers = work, workers
        self.pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        threads = max(1, cores() // self.workers)
        return ProcessPoolExecutor(
            self.workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(threads,)
        )

    def room(self) -> int:
        """One more than there are workers: the next job is there when one ends."""
        return self.workers + 1

    def hand_out(self, job: Any) -> Future[Done]:
        """Give a job to the pool."""
        try:
            return self.pool.submit(self.work, job)
        except BrokenProcessPool:
            self.pool.shutdown(wait=True)
            self.pool = self._new()
            return self.pool.submit(self.work, job)

    def wait(self, tickets: Iterable[Future[Done]]) -> Iterable[Future[Done]]:
        """Those that are done, at least one."""
        return wait(tickets, return_when=FIRST_COMPLETED).done

    def result(self, ticket: Future[Done]) -> Done:
        """What became of a job. Raises WorkerDiedError where the pool broke."""
        try:
            return ticket.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError from error

    def leave(self, tickets: Iterable[Future[Done]]) -> None:
        """Wait for what is running; what is not begun is dropped."""
        self.pool.shutdown(wait=True, cancel_futures=True)


def _begin(threads: int) -> None:
    """A worker takes its share of the cores, before torch is imported, and ends with its parent."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
