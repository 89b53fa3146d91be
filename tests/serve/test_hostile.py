"""A real server process under those who mean no good, or simply much: fuzzing, endless and slow senders, a
full queue. ANYDOSE_FIGURES=docs/results/viewer.md keeps what was measured."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx
from figures import kept

from anydose.io.phantom import write_phantom
from anydose.serve.jobs import HELD, Jobs
from anydose.serve.room import Room

START = """
import sys
from pathlib import Path
from anydose.serve.room import Room
from anydose.serve.server import serve
from anydose.serve.upload import Limits
limits = Limits(patience_s=2.0, max_active=60)
serve(Room(Path(sys.argv[1]), limits), "127.0.0.1", int(sys.argv[2]), "", with_worker=False)
"""
GB = 1_000_000_000


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Served:
    """A server process, its address and its data."""

    def __init__(self, data: Path) -> None:
        self.data, self.port = data, free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(data), str(self.port)], env=dict(os.environ)
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        for _ in range(600):
            try:
                self.client.get("/health")
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def memory_mb(self) -> float:
        """What the process holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("served")
    write_phantom(1, data / "cases" / "phantom_1", "openkbp")
    found = Served(data)
    yield found
    found.process.kill()
    found.process.wait()


@pytest.fixture(scope="module")
def patient(served: Served) -> str:
    name = served.client.post("/api/patients", json={"stored": "phantom_1"}).json()["id"]
    assert served.client.post(f"/api/patients/{name}/survey").status_code == 200
    return str(name)


@pytest.mark.slow
def test_ten_gigabytes_are_refused_early_and_memory_stays_flat(served: Served) -> None:
    before, sent = served.memory_mb(), [0]

    def endless() -> Iterator[bytes]:
        block = bytes(1_000_000)
        while sent[0] < 10 * GB:
            sent[0] += len(block)
            yield block

    name = served.client.post("/api/patients", json={}).json()["id"]
    put = f"/api/patients/{name}/files/ct.dcm"
    begin = time.monotonic()
    head = f"PUT {put} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10 * GB}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as announcing:
        announcing.sendall(head.encode())
        assert announcing.recv(4096).startswith(b"HTTP/1.1 413 ")
    at_once = time.monotonic() - begin
    with contextlib.suppress(httpx.TransportError):  # the server may close while we are still sending
        assert served.client.put(put, content=endless()).status_code == 413
    assert sent[0] < 2.1 * GB
    grown = served.memory_mb() - before
    assert not any((served.data / "patients" / name / "files").iterdir())
    assert grown < 100
    kept("10 GB announced", f"refused after {at_once:.2f} s")
    kept("10 GB streamed", f"refused after {sent[0] / GB:.2f} GB, memory {grown:+.0f} MB")


@pytest.mark.slow
def test_slow_clients_are_cut_off_and_others_are_served(served: Served) -> None:
    name = served.client.post("/api/patients", json={}).json()["id"]
    head = f"PUT /api/patients/{name}/files/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
    starts = [b"", b"GET /hea", head.encode(), head.encode() + b"12345"]
    begin, slow = (
        time.monotonic(),
        [socket.create_connection(("127.0.0.1", served.port)) for _ in starts * 10],
    )
    for connection, start in zip(slow, starts * 10, strict=True):
        connection.sendall(start)
    assert served.client.get("/health").status_code == 200
    for connection in slow:
        connection.settimeout(30)
        while connection.recv(4096):
            pass
    waited = time.monotonic() - begin
    kept("40 slow clients, 2 s of patience", f"all cut off after {waited:.1f} s")
    assert waited < 20


@pytest.mark.slow
def test_fifty_waiting_jobs_are_all_done_while_four_clients_poll(served: Served, patient: str) -> None:
    """The queue and the HTTP side at once; who takes the jobs needs no network here, as a prediction's own
    seconds say nothing about the server."""
    names = [served.client.post("/api/jobs", json={"patient": patient}).json()["id"] for _ in range(50)]
    over, seconds, wrong = threading.Event(), [[] for _ in range(4)], []  # type: tuple[Any, list[list[float]], list[int]]

    def poll(mine: list[float]) -> None:
        with httpx.Client(base_url=served.client.base_url, timeout=60) as client:
            while not over.is_set():
                for name in names[:: len(seconds)]:
                    begin = time.perf_counter()
                    answer = client.get(f"/api/jobs/{name}")
                    mine.append(time.perf_counter() - begin)
                    if answer.status_code != 200:
                        wrong.append(answer.status_code)
                    time.sleep(0.02)

    threads = [threading.Thread(target=poll, args=(mine,)) for mine in seconds]
    for thread in threads:
        thread.start()
    jobs = Jobs(Room(served.data).queue)
    while (job := jobs.take("worker")) is not None:
        for stage in ("read", "sample", "write", "view"):
            jobs.say(job.id, "worker", stage)
            time.sleep(0.02)
        assert jobs.finish(job.id, "worker", {"case": "phantom_1", "warnings": []})
    over.set()
    for thread in threads:
        thread.join()
    states = [served.client.get(f"/api/jobs/{name}").json()["state"] for name in names]
    assert states == [HELD] * 50 and not wrong
    every = np.concatenate([np.asarray(mine) for mine in seconds]) * 1000
    p50, p95 = np.percentile(every, (50, 95))
    load = os.getloadavg()[0]
    said = f"median {p50:.1f} ms, p95 {p95:.1f} ms of {every.size} polls at load {load:.1f}; none lost"
    kept("50 jobs, 4 clients polling", said)
    assert p95 <= 50 * max(1.0, load / (os.cpu_count() or 1))  # a busy machine serves in turns


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(served: Served) -> None:
    pytest.importorskip("schemathesis")
    url = f"http://127.0.0.1:{served.port}/openapi.json"
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", url, "--checks", "not_a_server_error",
        "--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--request-timeout", "60",
        "--no-color", "--generation-deterministic", "--suppress-health-check", "all", "--mode", "all",
    ]  # fmt: skip
    before = served.memory_mb()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=served.data, check=False)
    text = done.stdout + done.stderr
    assert "Server error" not in text and done.returncode == 0, text[-3000:]
    line = next((row for row in text.splitlines() if "generated" in row), "").strip()
    kept("schemathesis", f"{line}; no 5xx; memory {served.memory_mb() - before:+.0f} MB")
    assert served.client.get("/health").status_code == 200
