"""One function over many cases, on one machine or on a cluster of them.

    for done in each(function, jobs, Engine(workers=2)):
        ...

Results come in the order in which they are done. So many jobs are handed out at a time as keep the workers
busy, the next ones when results come back: whoever asks needs no more memory for a thousand cases than for
ten. A failure stays with its case. A job whose worker dies is given to another one; so a function writes its
output whole or not at all, and keeps what is there already: then every output is there once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anydose.engine.crew import Crew, Done, WorkerDiedError, cores

__all__ = ["Done", "Engine", "each"]

Job = TypeVar("Job")

KINDS = ("local", "ray")
WORKER_GB = 2.0  # what a process needs that reads and predicts a large CT
DIED = "its worker died {} times: killed from outside, or for lack of memory"


@dataclass(frozen=True)
class Engine:
    """Where many cases are worked on."""

    engine: str = "local"
    """local: processes of this machine; ray: a Ray cluster (extra: ray)."""
    workers: int = 1
    """Cases at a time, each in a process; 0: as many as there are cores, as far as 2 GB of memory each
    allow, or one where a GPU works."""
    address: str = ""
    """Of the Ray cluster, as HOST:6379 or auto; without, one of this machine is started and stopped."""
    retries: int = 2
    """How often a case whose worker died is tried again."""
    gpus: float = 0.0
    """Ray: GPUs of each worker."""

    def __post_init__(self) -> None:
        if self.engine not in KINDS:
            raise ValueError(f"engine {self.engine!r}: {' or '.join(KINDS)} is accepted")
        if self.engine == "local" and (self.address or self.gpus):
            raise ValueError("an address and GPUs a worker belong to the engine ray")
        if min(self.workers, self.retries, self.gpus) < 0:
            raise ValueError(
                f"{self.workers} workers, {self.retries} retries, {self.gpus} GPUs: 0 or more are accepted"
            )

    def on_device(self, kind: str) -> Engine:
        """The engine for a function that runs on 'cpu' or 'cuda': where nothing else was said, one process
        for the GPU of this machine, and a GPU for every worker of Ray."""
        if kind == "cpu":
            return self
        if self.engine == "ray":
            return self if self.gpus else replace(self, gpus=1.0)
        return self if self.workers else replace(self, workers=1)


def each(function: Callable[[Job], Any], jobs: Sequence[Job], engine: Engine | None = None) -> Iterator[Done]:
    """`function(job)` of every job, as they are done.

    ValueError, OSError and MemoryError are failures of their job; anything else ends the whole. With one
    local worker it is this process that works, in order.

    Args:
        function: importable, with arguments and results that can be pickled.
        jobs: one argument of the function each.
        engine: where they are worked on; the default is this process.

    Raises:
        ValueError: Ray is asked for and not installed.
    """
    engine, work = engine or Engine(), partial(_attempt, function)
    workers = min(engine.workers or _as_many_as_fit(), max(len(jobs), 1))
    if engine.engine == "local" and workers == 1:
        yield from map(work, jobs)
        return
    yield from _shared_out(jobs, _crew(work, engine, workers), engine.retries)


def _crew(work: Callable[[Any], Done], engine: Engine, workers: int) -> Crew:
    if engine.engine == "ray":
        from anydose.engine.on_ray import RayCrew

        return RayCrew(work, engine.workers, engine.address, engine.gpus)
    from anydose.engine.processes import Processes

    return Processes(work, workers)


def _attempt(function: Callable[[Job], Any], job: Job) -> Done:
    """One job, its own failures caught."""
    try:
        return Done(job, function(job))
    except (ValueError, OSError, MemoryError) as error:
        return Done(job, why=" ".join(str(error).split()) or type(error).__name__)


@dataclass
class _Trial:
    """A job, and how often its worker has died."""

    job: Any
    deaths: int = 0


def _shared_out(jobs: Iterable[Any], crew: Crew, retries: int) -> Iterator[Done]:
    """Every job by the crew, as they are done."""
    board = _Board(jobs, crew, retries)
    try:
        while board.hand_out():
            yield from board.collect()
    finally:
        crew.leave(list(board.out))


class _Board:
    """What is to be done and what is handed out.

    Where a death takes all jobs with it, nobody knows whose it was; so the last try of each is made alone."""

    def __init__(self, jobs: Iterable[Any], crew: Crew, retries: int) -> None:
        self.crew, self.retries = crew, retries
        self.fresh = (_Trial(job) for job in jobs)
        self.again: deque[_Trial] = deque()
        self.out: dict[Any, _Trial] = {}

    def hand_out(self) -> bool:
        """Give the crew as much as it takes; False if nothing is left."""
        while len(self.out) < self.crew.room() and not any(map(self._is_alone, self.out.values())):
            if self.again and self._is_alone(self.again[0]) and self.out:
                break
            trial = self.again.popleft() if self.again else next(self.fresh, None)
            if trial is None:
                break
            self.out[self.crew.hand_out(trial.job)] = trial
        return bool(self.out)

    def collect(self) -> Iterator[Done]:
        """What is done now; a job whose worker died comes back for another try, or fails after the last."""
        for ticket in self.crew.wait(list(self.out)):
            trial = self.out.pop(ticket)
            try:
                done = self.crew.result(ticket)
            except WorkerDiedError:
                trial.deaths += 1
                if trial.deaths <= self.retries:
                    self.again.append(trial)
                    continue
                done = Done(trial.job, why=DIED.format(trial.deaths))
            yield done

    def _is_alone(self, trial: _Trial) -> bool:
        return self.crew.one_death_is_all and 0 < trial.deaths == self.retries


def _as_many_as_fit() -> int:
    """A process a core, as far as the memory allows that is free now."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return cores()
    found = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    free_gb = int(found.get("MemAvailable", "0 kB").split()[0]) * 1024 / 1e9
    return max(1, min(cores(), int(free_gb / WORKER_GB)))
