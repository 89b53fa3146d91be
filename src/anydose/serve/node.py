"""The node: port, watched folder, collector, worker and sender, and what is removed in time.

One process holds the lock of the data folder and passes it on to its worker. So after kill -9 the folder is
free when the last of both is gone, and whoever gets it next knows that what was taken is not worked on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from anydose.serve import scp, send
from anydose.serve.complete import Collector
from anydose.serve.config import FOLDER_SENDER, NodeConfig
from anydose.serve.jobs import Jobs
from anydose.serve.log import log_to, nameless
from anydose.serve.received import NotDicom, Received
from anydose.serve.retention import EVERY_S, tidy_node
from anydose.serve.work import sole_owner

log = logging.getLogger(__name__)
LOOK_S = 0.5
REFUSED = "refused"  # folder in the watched one, for what is no object of ours
RESTART_S = 2.0


@dataclass
class Node:
    """What runs between start and stop."""

    config_file: Path
    config: NodeConfig
    jobs: Jobs
    stop: threading.Event = field(default_factory=threading.Event)
    _worker: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _tidied: float = 0.0
    _seen: dict[Path, tuple[int, float]] = field(default_factory=dict)

    def run(self, lock: int) -> None:
        """Until `stop` is set. Raises OSError if the port cannot be opened."""
        received = Received(self.config.data / "received", self.config.keep_free_gb)
        collector = Collector(self.config, received, self.jobs)
        self.jobs.abandon(send.OWNER)
        server = scp.listen(self.config, received, lambda _: None)
        sender = threading.Thread(target=self._send, daemon=True, name="send")
        sender.start()
        log.info("node ready", extra={"about": {"ae": self.config.ae, "port": self.config.port}})
        try:
            while not self.stop.wait(LOOK_S):
                self._supervise(lock)
                self._guarded("watch", lambda: self.watch(received))
                self._guarded("collect", collector.look)
                self._guarded("tidy", self.tidy)
        finally:
            server.shutdown()
            if self._worker is not None:
                self._worker.terminate()
                self._worker.wait()
            log.info("node stopped")

    def _guarded(self, what: str, do: object) -> None:
        """One pass of a duty; what goes wrong is said, and the other duties go on."""
        try:
            do()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001  (a node outlives whatever one pass meets)
            log.error("%s: %s", what, nameless(str(error), folders=[self.config.data]), exc_info=True)

    def _supervise(self, lock: int) -> None:
        """Start the worker, anew if it is gone."""
        gone = self._worker is None or self._worker.poll() is not None
        if not gone or time.monotonic() - self._started < RESTART_S:
            return
        if self._worker is not None:
            log.error("the worker ended with %s", self._worker.returncode)
        line = [sys.executable, "-m", "anydose.serve.predicting", str(self.config_file), str(os.getpid())]
        self._worker = subprocess.Popen(line, pass_fds=[lock], stdin=subprocess.DEVNULL)
        self._started = time.monotonic()

    def _send(self) -> None:
        while not self.stop.wait(LOOK_S):
            self._guarded("send", self._send_all)

    def _send_all(self) -> None:
        while send.deliver_next(self.config, self.jobs) is not None and not self.stop.is_set():
            pass

    def watch(self, received: Received) -> None:
        """Take in the files of the watched folder that have not changed since the last look."""
        sender = self.config.sender(FOLDER_SENDER)
        if self.config.watch is None or sender is None:
            return
        refused = self.config.watch / REFUSED
        now: dict[Path, tuple[int, float]] = {}
        for path in sorted(p for p in self.config.watch.rglob("*") if p.is_file() and not p.is_symlink()):
            if refused in path.parents or path.name.startswith("."):
                continue
            stat = path.stat()
            now[path] = (stat.st_size, stat.st_mtime)
            if self._seen.get(path) != now[path]:
                continue
            try:
                received.add(path.read_bytes(), sender)
                path.unlink()
            except NotDicom as error:
                log.warning("file refused: %s", error, extra={"about": {"sender": FOLDER_SENDER}})
                refused.mkdir(exist_ok=True)
                path.replace(refused / path.name)
        self._seen = now

    def tidy(self) -> None:
        """Remove patients' data that are not kept any longer."""
        if time.monotonic() - self._tidied >= EVERY_S or not self._tidied or self.config.remove_delivered:
            self._tidied = time.monotonic()
            tidy_node(self.config, self.jobs)


def run_node(config_file: Path, config: NodeConfig) -> None:
    """Run a node until SIGTERM or Ctrl-C. Raises ValueError or OSError if it cannot start."""
    with sole_owner(config.data) as lock:
        log_to(config.data / "log" / "node.jsonl")
        node = Node(config_file, config, Jobs(config.queue_url, most_attempts=config.most_attempts))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: node.stop.set())
        node.run(lock)
