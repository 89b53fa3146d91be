"""The objects that a node has received: a file each, whole or not at all, in a folder a study.

    received/STUDY/OBJECT.dcm     STUDY: hash of sender and StudyInstanceUID; OBJECT: hash of SOPInstanceUID
    studies/KEY/OBJECT.dcm        what a job reads: the study as it was when it was complete, by hard links

Hashes name no patient, and the same object twice is one file."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from anydose.atomic.files import PRIVATE, whole
from anydose.io.dicom.marks import MAKER
from anydose.serve.config import Sender

SENDER = "sender"  # file in a study's folder: the AE title
CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN",
}
"""SOP classes that are received."""
OWN = "own"
"""What `add` says of an object that a node like this one made: it is not received, or studies would go in
circles."""


class NotDicom(ValueError):
    """An object that cannot be filed."""


_ONE_WRITES = threading.Lock()  # `whole` tells processes apart, not threads


@dataclass(frozen=True)
class Received:
    """The folder of received objects."""

    root: Path
    keep_free_gb: float = 0.0

    def add(self, content: bytes, sender: Sender) -> str:
        """File an object, a DICOM file's bytes; returns its study's name, or OWN. An object that is there
        already stays as it is.

        Raises:
            NotDicom: it cannot be read, is of another class, or lacks what it is filed by.
            OSError: it cannot be written, or the disk has less free than is to be kept.
        """
        head = _head(content)
        if any(
            str(made.get("Manufacturer", "")) == MAKER
            for made in head.get("ContributingEquipmentSequence", ())
        ):
            return OWN  # of whatever class: a dose or its page
        if str(head.SOPClassUID) not in CLASSES:
            accepted = ", ".join(CLASSES.values())
            raise NotDicom(f"SOP class {str(head.SOPClassUID)[:64]}; {accepted} are accepted")
        study = _hashed(sender.ae, str(head.StudyInstanceUID))
        path = self.root / study / f"{_hashed(str(head.SOPInstanceUID))}.dcm"
        if path.exists():
            return study
        self.refuse_full()
        with _ONE_WRITES:
            self._write(path, content, sender)
        return study

    def _write(self, path: Path, content: bytes, sender: Sender) -> None:
        if path.exists():
            return
        if not (path.parent / SENDER).exists():
            with whole(path.parent / SENDER) as scratch:
                scratch.write_text(sender.ae)
        with whole(path) as scratch, scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # it is acknowledged next
        path.chmod(PRIVATE)

    def refuse_full(self) -> None:
        """Raises OSError if less is free than is to be kept."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        free_gb = shutil.disk_usage(self.root).free / 1e9
        if free_gb < self.keep_free_gb:
            raise OSError(f"the disk has {free_gb:.1f} GB free, of which {self.keep_free_gb:g} GB are kept")

    def studies(self) -> dict[str, list[Path]]:
        """Study -> its files."""
        if not self.root.is_dir():
            return {}
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        return {folder.name: sorted(folder.glob("[!.]*.dcm")) for folder in folders}

    def sender_of(self, study: str) -> str:
        """The AE title that sent a study."""
        return (self.root / study / SENDER).read_text()


def snapshot(files: list[Path], folder: Path) -> None:
    """Leave a study as it is now in `folder`, by hard links; nothing if it is there."""
    if folder.is_dir():
        return
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o700)
    for path in files:
        os.link(path, scratch / path.name)
    scratch.rename(folder)


def key_of(study: str, files: list[Path]) -> str:
    """What a study of exactly these objects is called."""
    return f"{study[:12]}-{_hashed(*(path.name for path in files))[:12]}"


def _head(content: bytes) -> Dataset:
    """The object without its pixels."""
    try:
        head = dcmread(BytesIO(content), stop_before_pixels=True)
        uids = [str(head.get(name) or "") for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")]
    except (Exception, RecursionError) as error:  # noqa: BLE001  (a reader of foreign bytes raises anything)
        raise NotDicom(f"no DICOM object ({type(error).__name__})") from error
    if not all(uids):
        raise NotDicom("an object without SOPClassUID, SOPInstanceUID or StudyInstanceUID")
    return head


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
