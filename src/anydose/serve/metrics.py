"""Figures for Prometheus (text format 0.0.4), without a word about any patient."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Traffic:
    """Counts requests by method, route and status, with their seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds, self._count = 0.0, 0

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request is answered."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds, self._count = self._seconds + seconds, self._count + 1
            self._buckets.update(edge for edge in BUCKETS_S if seconds <= edge)

    def lines(self) -> Iterator[str]:
        """As Prometheus reads them."""
        with self._lock:
            requests, buckets = dict(self._requests), dict(self._buckets)
            total, count = self._seconds, self._count
        yield "# TYPE anydose_requests_total counter"
        for (method, route, status), number in sorted(requests.items()):
            labels = f'method="{_text(method)}",route="{_text(route)}",status="{status}"'
            yield f"anydose_requests_total{{{labels}}} {number}"
        yield "# TYPE anydose_request_seconds histogram"
        for edge in BUCKETS_S:
            yield f'anydose_request_seconds_bucket{{le="{edge}"}} {buckets.get(edge, 0)}'
        yield f'anydose_request_seconds_bucket{{le="+Inf"}} {count}'
        yield f"anydose_request_seconds_sum {total:.6f}"
        yield f"anydose_request_seconds_count {count}"


def page(traffic: Traffic, jobs: Mapping[str, int], free_bytes: int, workers: int) -> str:
    """The whole page. jobs: state -> number."""
    lines = ["# TYPE anydose_jobs gauge"]
    lines += [f'anydose_jobs{{state="{_text(state)}"}} {number}' for state, number in jobs.items()]
    lines += ["# TYPE anydose_workers gauge", f"anydose_workers {workers}"]
    lines += ["# TYPE anydose_free_bytes gauge", f"anydose_free_bytes {free_bytes}"]
    return "\n".join([*lines, *traffic.lines()]) + "\n"


def _text(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
