"""`anydose serve` as a process of its own, on a free port of loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from clinic_pacs import free_port, wait_for

START = """
import json, sys
from pathlib import Path
from anydose.serve.room import Room
from anydose.serve.server import serve
from anydose.serve.upload import Limits
data, port, limits, worker = sys.argv[1:]
room = Room(Path(data), Limits(**json.loads(limits)))
serve(room, "127.0.0.1", int(port), "", device="cpu", with_worker=worker == "worker")
"""


class RunningViewer:
    """A server with its data in `data`; `limits`: of its uploads; without `worker` nothing is predicted; with
    the YAML file of a `node` that node's doses are reviewed."""

    def __init__(self, data: Path, worker: bool = True, node: Path | None = None, **limits: Any) -> None:
        self.data, self.port = data, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [str(data), str(self.port), json.dumps(limits), "worker" if worker else "alone"]
        line = ["-c", START, *words]
        if node:
            line = ["-m", "anydose.cli", "serve", "--node", str(node), "--port", str(self.port)]
        self.process = subprocess.Popen([sys.executable, *line])
        self.client = httpx.Client(base_url=self.url, timeout=60)
        wait_for(self.answers, 120)

    def answers(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def children(self) -> list[int]:
        """The numbers of the processes that it started."""
        return [
            int(n)
            for n in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def memory_mb(self) -> float:
        """What the process holds now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1000

    def stored(self, name: str) -> str:
        """A patient of a stored case, surveyed; its id."""
        patient = str(self.client.post("/api/patients", json={"stored": name}).json()["id"])
        assert self.client.post(f"/api/patients/{patient}/survey").status_code == 200
        return patient

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
