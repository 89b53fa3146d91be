"""Commands as a user runs them, watched from outside: killed in the middle, their workers' time, their
memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

GRACE_S = 3.0  # workers look every second whether their parent is there


def killed(line: Sequence[str], when: Callable[[], bool]) -> bool:
    """Start a command, kill it (SIGKILL) when `when()` is true, and wait until its workers are gone. False if
    it ended before."""
    running = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not when():
        if running.poll() is not None:
            return False
        time.sleep(0.2)
    running.kill()
    running.wait()
    time.sleep(GRACE_S)
    return True


def watched(line: Sequence[str]) -> tuple[list[str], dict[int, float], float]:
    """A command's lines on standard output, the seconds in which each worker was busy, and all seconds."""
    busy: dict[int, float] = {}
    begin = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            busy |= busy_seconds(running.pid)
            time.sleep(0.5)
        said = running.stdout.read().splitlines() if running.stdout else []
    return said, busy, time.perf_counter() - begin


def busy_seconds(parent: int) -> dict[int, float]:
    """Seconds that each child of a process ran or waited for a core (Linux: /proc/PID/schedstat)."""
    found = {}
    for pid in children(parent):
        try:
            run, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        except OSError:  # it ended meanwhile
            continue
        found[pid] = (int(run) + int(waited)) / 1e9
    return found


def children(parent: int) -> Iterator[int]:
    """The processes that a process started and that live."""
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            yield from map(int, listed.read_text().split())
        except OSError:  # a thread that ended meanwhile
            continue


def descendants(parent: int) -> Iterator[int]:
    """Those, theirs and so on."""
    for pid in children(parent):
        yield pid
        yield from descendants(pid)


def memory_mb(pid: int) -> float:
    """What a process holds of its own, without the pages that it shares with a file or with other processes
    (Linux: RssAnon)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found: dict[str, Any] = dict(line.split(":", 1) for line in lines if ":" in line)
    return float(found["RssAnon"].split()[0]) / 1024


def shares(busy: dict[int, float], seconds: float, workers: int) -> list[float]:
    """The share of the time in which each of the busiest workers was busy."""
    return sorted((round(each / seconds, 2) for each in busy.values()), reverse=True)[:workers]
