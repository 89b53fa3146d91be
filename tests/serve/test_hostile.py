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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx
from clinic_pacs import coarse_phantom, tiny_model, wait_for
from figures import kept
from running_viewer import RunningViewer

from anydose.io.nifti import write_case
from anydose.io.phantom import write_phantom
from anydose.serve.jobs import HELD, RUNNING, Jobs
from anydose.serve.room import Room

GB = 1_000_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningViewer]:
    found = RunningViewer(tmp_path_factory.mktemp("served"), worker=False, patience_s=2.0)
    yield found
    found.kill()


@pytest.mark.slow
def test_ten_gigabytes_are_refused_early_and_memory_stays_flat(served: RunningViewer) -> None:
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
def test_slow_clients_are_cut_off_and_others_are_served(served: RunningViewer) -> None:
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
def test_fifty_predictions_are_all_made_while_four_clients_poll(tmp_path: Path) -> None:
    """Coarse phantoms and a model that was never trained: it is the server that is measured."""
    room = Room(tmp_path)
    room.models.mkdir(parents=True)
    tiny_model(room.models / "tiny.safetensors")
    write_case(coarse_phantom(1), tmp_path / "cases" / "coarse")
    viewer = RunningViewer(tmp_path, max_active=60)
    try:
        wanted = {"patient": viewer.stored("coarse"), "model": "tiny", "looks": 1}
        begin = time.monotonic()
        names = [viewer.client.post("/api/jobs", json=wanted).json()["id"] for _ in range(50)]
        assert viewer.client.get(f"/api/jobs/{names[-1]}").json()["ahead"] >= 40
        over = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            polls = [pool.submit(polled, viewer.url, names[k::4], over) for k in range(4)]
            try:
                wait_for(lambda: Jobs(room.queue).counts()[HELD] == 50, 550)
            finally:
                over.set()
            took = time.monotonic() - begin
            every_ms = 1000 * np.concatenate([poll.result() for poll in polls])
        for name in names:
            view = viewer.client.get(f"/api/jobs/{name}/view").json()
            assert view["dvh"]["curves"] and (room.results / name / "prediction" / "run.json").is_file()
    finally:
        viewer.stop()
    p50, p95 = np.percentile(every_ms, (50, 95))
    load = os.getloadavg()[0]
    said = f"status median {p50:.1f} ms, p95 {p95:.1f} ms of {every_ms.size} polls"
    kept(
        "50 predictions, 4 clients polling",
        f"{said} at load {load:.1f}; all made, in {took:.0f} s; none lost",
    )
    assert p95 <= 50 * max(1.0, load / (os.cpu_count() or 1))  # a busy machine serves in turns


def polled(url: str, names: list[str], over: threading.Event) -> list[float]:
    """Seconds that each question after a job's status took, until it is over."""
    seconds = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.is_set():
            for name in names:
                begin = time.perf_counter()
                answer = client.get(f"/api/jobs/{name}")
                seconds.append(time.perf_counter() - begin)
                assert answer.status_code == 200
                time.sleep(0.05)
    return seconds


def works(process: int) -> bool:
    """Whether a process is there and more than an entry that nobody has collected."""
    place = Path(f"/proc/{process}/stat")
    return place.exists() and place.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_worker_ends_with_its_server_and_its_job_is_done_by_the_next(tmp_path: Path) -> None:
    """Kill -9 of the server, while its worker predicts."""
    write_phantom(1, tmp_path / "cases" / "phantom", "openkbp")
    viewer = RunningViewer(tmp_path)
    (worker,) = wait_for(viewer.children, 60)
    viewer.client.post("/api/jobs", json={"patient": viewer.stored("phantom"), "steps": 50})
    jobs = Jobs(Room(tmp_path).queue)
    wait_for(lambda: jobs.counts()[RUNNING], 120)
    viewer.kill()
    wait_for(lambda: not works(worker), 5)
    again = RunningViewer(tmp_path)
    try:
        wait_for(lambda: (jobs.newest()[0].state, jobs.newest()[0].attempts) == (RUNNING, 2), 120)
    finally:
        again.stop()


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(served: RunningViewer) -> None:
    pytest.importorskip("schemathesis")
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.url}/openapi.json",
        "--checks", "not_a_server_error", "--max-examples", "20", "--phases", "examples,coverage,fuzzing",
        "--request-timeout", "60", "--no-color", "--generation-deterministic",
        "--suppress-health-check", "all", "--mode", "all",
    ]  # fmt: skip
    assert served.client.get("/api/models").status_code == 200  # loads torch, once
    before = served.memory_mb()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=served.data, check=False)
    text = done.stdout + done.stderr
    assert "Server error" not in text and done.returncode == 0, text[-3000:]
    line = next((row for row in text.splitlines() if "generated," in row), "").strip()
    grown = served.memory_mb() - before
    assert grown < 100
    kept("schemathesis", f"{line}; no 5xx; memory {grown:+.0f} MB")
    assert served.client.get("/health").status_code == 200
