"""What a worker of the queue needs beside the prediction itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from anydose.serve.jobs import Job, Jobs

BEAT_S = 5.0


@contextmanager
def heard(jobs: Jobs, job: Job, owner: str, every_s: float = BEAT_S) -> Iterator[None]:
    """While this lasts the worker is heard, from a thread of its own."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every_s):
            if not jobs.say(job.id, owner):
                return

    thread = threading.Thread(target=beat, daemon=True, name=f"heard-{job.id[:8]}")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
