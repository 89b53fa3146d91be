"""Where a server keeps what it was given and what it made: one folder, `--data DIR`.

jobs.db                the queue
patients/ID/files      what was uploaded; about.json beside it says what it is
results/ID/prediction  what `anydose predict` writes
results/ID/view        what the page is drawn from
cases/                 stored cases that the page offers (put there by the clinic)
models/                the clinic's models, offered beside the shipped ones (put there by the clinic)
scorecards/            the clinic's scorecards, offered beside the packaged ones
log/                   a JSON object a line, without names of patients
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anydose.io.archive import innermost
from anydose.io.files import write_json
from anydose.io.sources import sources
from anydose.serve.jobs import Job
from anydose.serve.upload import Limits, Refused, safe_path, unpack_all

PRIVATE = 0o700
WHO = "who.txt"  # in a result's view: what its patient is called
LEAST_FREE_BYTES = 500_000_000


@dataclass(frozen=True)
class Room:
    """The data folder of a server."""

    data: Path
    limits: Limits = Limits()
    keep_days: float = 30.0
    """Results, and uploads that no job needs, are removed after so long."""
    remove_released: bool = False
    """Whether what was uploaded is removed as soon as its result is released."""
    node_queue: str = ""
    """The URL of a DICOM node's queue, where this is that node's folder: its doses are reviewed here, and
    nothing is predicted."""

    def prepare(self) -> None:
        """Make the folders; only this user may look into them."""
        for folder in (self.data, self.patients, self.results):
            folder.mkdir(PRIVATE, parents=True, exist_ok=True)

    @property
    def patients(self) -> Path:
        """The uploaded patients, a folder each."""
        return self.data / "patients"

    @property
    def results(self) -> Path:
        """The predictions, a folder each."""
        return self.data / "results"

    @property
    def models(self) -> Path:
        """The clinic's own models."""
        return self.data / "models"

    @property
    def logs(self) -> Path:
        """What the server and its worker log."""
        return self.data / "log"

    @property
    def queue(self) -> str:
        """The URL of the queue."""
        return self.node_queue or f"sqlite:///{self.data.resolve() / 'jobs.db'}"

    @property
    def scorecards(self) -> Path:
        """The clinic's own scorecards."""
        return self.data / "scorecards"

    def stored(self) -> dict[str, Path]:
        """Name -> path of the stored cases."""
        try:
            return dict(sources(self.data / "cases"))
        except ValueError:
            return {}

    def new_patient(self, stored: str | None, keep: set[str]) -> str:
        """A new patient, empty or of a stored case; returns its id. keep: patients that jobs need. Raises
        Refused for a stored case that is not there, for a full room and a full disk."""
        if self.free_bytes() < LEAST_FREE_BYTES:
            raise Refused("the server's disk is full; ask for old results to be deleted", 507)
        there = sorted(self.patients.iterdir(), key=lambda path: path.stat().st_mtime)
        idle = [path for path in there if path.name not in keep]
        for path in idle[: max(0, len(there) - self.limits.max_patients + 1)]:
            shutil.rmtree(path, ignore_errors=True)
        if len(there) - len(idle) >= self.limits.max_patients:
            raise Refused(f"{len(there)} patients wait; later ones are accepted", 429)
        if stored is not None and stored not in self.stored():
            raise Refused(f"stored case {ascii(stored[:60])}: not found", 404)
        name = uuid.uuid4().hex
        folder = self.patients / name
        (folder / "files").mkdir(PRIVATE, parents=True)
        write_json({"stored": stored, "created": time.time()}, folder / "about.json")
        return name

    def patient(self, name: str) -> dict[str, Any]:
        """What is known of a patient. Raises Refused for one that is not there."""
        try:
            found: dict[str, Any] = json.loads((self.patients / name / "about.json").read_text())
        except (OSError, ValueError) as error:
            raise Refused("no such patient", 404) from error
        return found

    def note(self, name: str, **more: Any) -> None:
        """Add to what is known of a patient."""
        write_json(self.patient(name) | more, self.patients / name / "about.json")

    def source(self, name: str) -> Path:
        """Where the case of a patient lies. Raises Refused for a stored case that has gone."""
        stored = self.patient(name)["stored"]
        if stored is None:
            return innermost(self.patients / name / "files")
        there = self.stored()
        if stored not in there:
            raise Refused(f"stored case {ascii(stored[:60])}: has gone", 404)
        return there[stored]

    def place(self, name: str, path: str) -> Path:
        """Where a file of a patient is to be written. Raises Refused for a path that is not accepted, a file
        that is there, and more files than allowed."""
        about, folder = self.patient(name), self.patients / name / "files"
        if about["stored"] is not None or about.get("survey"):
            raise Refused("this patient takes no more files; make a new one", 409)
        place = folder / safe_path(path)
        if place.exists() or any(part.is_file() for part in place.parents if part.is_relative_to(folder)):
            raise Refused(f"path {ascii(path[:60])}: is there already", 409)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def used(self, name: str) -> tuple[int, int]:
        """(files, bytes) of a patient so far."""
        sizes = [
            path.stat().st_size for path in (self.patients / name / "files").rglob("*") if path.is_file()
        ]
        return len(sizes), sum(sizes)

    def unpack_zips(self, name: str) -> None:
        """Put the content of uploaded zips in their place. Raises Refused for one that is not accepted."""
        unpack_all(self.patients / name / "files", self.limits)

    def forget_patient(self, name: str) -> None:
        """Delete what was uploaded of a patient."""
        shutil.rmtree(self.patients / name, ignore_errors=True)

    def called(self, job: Job) -> str | None:
        """What the patient of a job is called, for people; None where that is not known yet."""
        place = self.results / job.id / "view" / WHO
        if place.is_file():
            return place.read_text(encoding="utf-8")
        try:
            return str(self.patient(job.request.get("patient", ""))["survey"]["case"])
        except (Refused, KeyError):
            return None

    def forget_result(self, job: str) -> None:
        """Delete a prediction's files."""
        shutil.rmtree(self.results / job, ignore_errors=True)

    def free_bytes(self) -> int:
        """Free space where the data lies."""
        return shutil.disk_usage(self.data).free
