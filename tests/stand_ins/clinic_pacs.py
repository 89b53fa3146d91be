"""A small clinic on loopback: Orthanc, a node with a model that was never trained, and coarse studies."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import cache
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
UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16), mimic=False)


def tiny_model(path: Path) -> Path:
    torch.manual_seed(0)
    model = Any2Any(UNET)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.02) if p.abs().sum() == 0 else None
    save_model(model, path, {})
    return path


@cache
def coarse_phantom(seed: int = 1) -> Case:
    """A phantom of some thirty slices."""
    case = make_phantom(seed)
    x, y, _ = case.grid.spacing_mm
    return case.on(case.grid.with_spacing((3 * x, 3 * y, 10.0)))


def study(folder: Path, seed: int = 1) -> Path:
    """A coarse phantom as a DICOM study; each time another one, by its UIDs."""
    write_study(coarse_phantom(seed), folder)
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def certificates(folder: Path) -> Path:
    """An authority of one's own and what it has signed for `node` and `pacs`, both called localhost."""
    folder.mkdir()

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "authority.key",
            "-out", "authority.pem", "-days", "2", "-subj", "/CN=authority")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("node", "pacs"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", "/CN=localhost")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    return folder


@contextlib.contextmanager
def https_before(port: int, keys: Path):
    """A proxy that ends TLS before an HTTP server, as a clinic's does; the URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(keys / "pacs.pem", keys / "pacs.key")

    async def pipe(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

    async def serve(reader, writer):
        behind = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, behind[1]), pipe(behind[0], writer))

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    front = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context), loop)
    try:
        yield f"https://localhost:{front.result(10).sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)


class Orthanc:
    """A server of our own, with its data in `folder`; `peers`: AE title -> port on loopback; `keys`: DICOM
    over TLS with the files of `certificates` (HTTPS of Debian's Orthanc breaks off, see `https_before`)."""

    def __init__(self, folder: Path, peers: dict[str, int], keys: Path | None = None) -> None:
        self.http, self.dicom = free_port(), free_port()
        self.root = f"http://127.0.0.1:{self.http}"
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
            "DicomModalities": {
                ae: {"AET": ae, "Host": "127.0.0.1", "Port": port, "UseDicomTls": keys is not None}
                for ae, port in peers.items()
            },
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "Host": f"127.0.0.1:{self.http}",
                "Ssl": False,
            },
            "OverwriteInstances": False,
            "DicomScuTimeout": 120,
            "DicomTlsEnabled": keys is not None,
        }
        if keys:
            settings |= {
                "DicomTlsCertificate": str(keys / "pacs.pem"),
                "DicomTlsPrivateKey": str(keys / "pacs.key"),
                "DicomTlsTrustedCertificates": str(keys / "authority.pem"),
            }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
        wait_for(lambda: self.get("/system"), 30)

    def get(self, path: str, kind: str = "application/json"):
        asked = urllib.request.Request(f"{self.root}{path}", headers={"Accept": kind})
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer) if "json" in kind else answer.read()
        return None

    def post(self, path: str, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.root}{path}", data, method="POST")
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
