"""What the engine expects of workers, wherever they are."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Done:
    """What became of one job: its result, or the sentence why there is none."""

    job: Any
    """What was asked."""
    result: Any = None
    """What came of it."""
    why: str = ""
    """Empty if it went well."""


class WorkerDiedError(Exception):
    """The process that worked on a job is gone, with the result."""


class Crew(Protocol):
    """Workers that are handed one job at a time."""

    one_death_is_all: bool
    """Whether a worker that dies takes every job with it that is handed out."""

    def room(self) -> int:
        """How many jobs may be handed out at a time."""

    def hand_out(self, job: Any) -> Hashable:
        """Give a job to some worker; returns a ticket."""

    def wait(self, tickets: Iterable[Any]) -> Iterable[Any]:
        """Those of the tickets that are done, at least one."""

    def result(self, ticket: Any) -> Done:
        """What became of a job. Raises WorkerDiedError."""

    def leave(self, tickets: Iterable[Any]) -> None:
        """Go home. tickets: what is still handed out and no longer wanted."""


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
