"""What a worker of the queue and its server need beside the prediction itself: the worker is heard, ends with
its server, and no other server works in the folder."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anydose.serve.jobs import Job, Jobs

BEAT_S = 5.0
LOCK_S = 20.0
"""A dead server's worker is gone by then."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def is_orphan(parent: int) -> bool:
    """True if `parent`, the process that started this one, is gone."""
    return os.getppid() != parent


def end_with(parent: int) -> None:
    """Let this process, a worker, end when `parent` ends, by whatever: nobody would end it, and it would take
    jobs beside the next one. On Linux at once, elsewhere when the worker asks `is_orphan` between two jobs.
    Call it first of all: a parent that is gone already ends this process here."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if is_orphan(parent):
        sys.exit(f"process {parent} is gone; its worker ends")


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


@contextmanager
def sole_owner(data: Path) -> Iterator[int]:
    """The data folder for this server alone: the descriptor of the lock, to be passed on to the worker. So
    after kill -9 the folder is free when the last of both is gone, and whoever gets it next knows that what
    was taken is not worked on. ValueError if another server has it."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_S
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    why = f"{data}: another server works there; a folder of its own is accepted"
                    raise ValueError(why) from error
                time.sleep(0.1)
        yield handle
    finally:
        os.close(handle)
