"""The server as a whole: the HTTP side in this process, predictions in another, which is started again if it
dies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI

from anydose.serve.api import make_app
from anydose.serve.guard import Guard, Impatient, is_loopback
from anydose.serve.jobs import Jobs
from anydose.serve.log import log_to
from anydose.serve.metrics import Traffic
from anydose.serve.retention import EVERY_S, tidy_room
from anydose.serve.room import Room
from anydose.serve.work import sole_owner

MOST_CONNECTIONS = 200
BACKLOG = 2048  # connections that wait to be taken
LOOK_S = 1.0
log = logging.getLogger(__name__)


@dataclass
class Crew:
    """The worker process of a server."""

    room: Room
    device: str = "auto"
    lock: int | None = None
    """The descriptor of the data folder's lock."""
    process: subprocess.Popen[bytes] | None = field(default=None)

    def living(self) -> int:
        """How many workers live."""
        return int(self.process is not None and self.process.poll() is None)

    async def keep(self) -> None:
        """Start a worker, and another whenever it has died."""
        while True:
            if not self.living():
                if self.process is not None:
                    log.warning("the worker ended with %s; another one is started", self.process.returncode)
                self.process = self._start()
            await asyncio.sleep(LOOK_S)

    def end(self) -> None:
        """Let the worker finish its job for a moment, then end it: its job stays in the queue."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        of = [str(self.room.data), str(os.getpid()), self.device]
        command = [sys.executable, "-m", "anydose.serve.worker", *of]
        locks = () if self.lock is None else (self.lock,)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=locks)


def guarded(room: Room, token: str, crew: Crew | None = None) -> Any:
    """The whole ASGI application. token: '' for none; crew: who predicts, or None for nobody."""
    room.prepare()
    jobs, traffic = Jobs(room.queue), Traffic()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        duties = [] if room.node_queue else [_tidy(room, jobs)]
        tasks = [asyncio.create_task(duty) for duty in (*duties, *([crew.keep()] if crew else []))]
        yield
        for task in tasks:
            task.cancel()
        if crew:
            await asyncio.to_thread(crew.end)

    app: Any = make_app(room, jobs, traffic, crew.living if crew else lambda: 1)
    app.router.lifespan_context = lifespan
    return Guard(app, room.limits, traffic, token)


async def _tidy(room: Room, jobs: Jobs) -> None:
    while True:
        try:
            await asyncio.to_thread(tidy_room, room, jobs)
        except Exception:  # noqa: BLE001  (a server outlives whatever one pass meets)
            log.exception("old data could not be removed")
        await asyncio.sleep(EVERY_S)


def serve(
    room: Room, host: str, port: int, token: str, device: str = "auto", with_worker: bool = True
) -> None:
    """Serve until the process is told to end; in a node's folder nothing is predicted or tidied.

    Raises:
        ValueError: a host beyond this machine without a token, a port that is taken, or a folder in which
            another server works.
    """
    if not token and not is_loopback(host):
        raise ValueError(f"host {host}: without a token only 127.0.0.1, ::1 and localhost are accepted")
    Impatient.patience_s = room.limits.patience_s
    folder = nullcontext() if room.node_queue else sole_owner(room.data)
    with folder as lock, _listening(host, port) as port_of_ours:
        log_to(room.logs / "server.jsonl", "uvicorn")
        crew = Crew(room, device, lock) if with_worker and not room.node_queue else None
        config = uvicorn.Config(
            guarded(room, token, crew),
            http=Impatient,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[port_of_ours])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ValueError(f"port {port} on {host}: {error.strerror or error}; another is accepted") from error
