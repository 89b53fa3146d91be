"""A small clinic on loopback: Orthanc, a node with a model that was never trained, and coarse studies."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
import yaml

from anydose.case.case import Case
from anydose.io.dicom.write import write_study
from anydose.io.phantom import make_phantom
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.serve.jobs import Jobs

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))


def tiny_model(path: Path) -> Path:
    torch.manual_seed(0)
    model = Any2Any(UNET)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.02) if p.abs().sum() == 0 else None
    save_model(model, path, {})
    return path


def coarse_phantom(seed: int = 1) -> Case:
    """A phantom of some thirty slices."""
    case = make_phantom(seed)
    x, y, _ = case.grid.spacing_mm
    return case.on(case.grid.with_spacing((3 * x, 3 * y, 10.0)))


def study(folder: Path, seed: int = 1) -> Path:
    """A coarse phantom as a DICOM study."""
    write_study(coarse_phantom(seed), folder)
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Orthanc:
    """A server of our own, with its data in `folder`; `peers`: AE title -> port on loopback."""

    def __init__(self, folder: Path, peers: dict[str, int]) -> None:
        self.http, self.dicom = free_port(), free_port()
        folder.mkdir()
        settings = {
            "Name": "TEST",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "Plugins": [str(PLUGIN)] * PLUGIN.is_file(),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {ae: [ae, "127.0.0.1", port] for ae, port in peers.items()},
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "Host": f"127.0.0.1:{self.http}",
                "Ssl": False,
            },
            "OverwriteInstances": False,
            "DicomScuTimeout": 120,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
        wait_for(lambda: self.get("/system"), 30)

    def get(self, path: str, kind: str = "application/json"):
        asked = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Accept": kind})
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer) if "json" in kind else answer.read()
        return None

    def post(self, path: str, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, method="POST")
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return json.load(answer)

    def upload(self, folder: Path) -> str:
        """Every file of a study; returns Orthanc's name of the study."""
        return [
            self.post("/instances", p.read_bytes())["ParentStudy"] for p in sorted(folder.rglob("*.dcm"))
        ][0]

    def sends(self, study: str, to: str) -> bool:
        try:
            return self.post(f"/modalities/{to}/store", study) is not None
        except (urllib.error.URLError, OSError):
            return False

    def instances(self, study: str, modality: str) -> list[str]:
        found = []
        for series in self.get(f"/studies/{study}/series") or []:
            if series["MainDicomTags"].get("Modality") == modality:
                found += series["Instances"]
        return found

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class RunningNode:
    """`anydose node` as a process; `settings` go into its YAML."""

    def __init__(self, folder: Path, **settings) -> None:
        self.folder, self.file = folder, folder / "node.yaml"
        self.port = settings.get("port") or free_port()
        base = {"data": "data", "port": self.port, "settle_s": 0.5, "keep_free_gb": 0, "retry_s": 0.5}
        self.file.write_text(yaml.safe_dump({**base, **settings}))
        self.process = None

    def line(self, *words):
        return [sys.executable, "-m", "anydose.cli", "node", "--config", str(self.file), *words]

    def start(self):
        with (self.folder / "node.out").open("a") as out:
            self.process = subprocess.Popen(self.line(), stdout=out, stderr=out)
        return self

    def wait_ready(self, seconds=120):
        wait_for(self.is_open, seconds)
        return self

    def is_open(self) -> bool:
        with socket.socket() as peer:
            return peer.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    @property
    def jobs(self) -> Jobs:
        return Jobs(f"sqlite:///{self.folder}/data/jobs.db")


def wait_for(true, seconds: float):
    """What `true()` returns once that is true. AssertionError if it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")
