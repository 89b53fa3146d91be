"""When a study is complete, and its way into the queue. No peer says when it has sent everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

from anydose.serve.config import NodeConfig
from anydose.serve.jobs import Jobs
from anydose.serve.received import CLASSES, Received, key_of, snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What is known of one object."""

    uid: str
    kind: str
    """CT, RTSTRUCT, RTPLAN or RTDOSE."""
    needs: frozenset[str] = field(default=frozenset())
    """SOPInstanceUIDs of what it refers to and the node could receive: slices, structure set."""


def facts(path: Path) -> Facts:
    """Of a received file. ValueError if it cannot be read."""
    try:
        head = dcmread(path, stop_before_pixels=True)
        kind = CLASSES[str(head.SOPClassUID)]
        needs = frozenset(_needs(head)) if kind in ("RTSTRUCT", "RTPLAN") else frozenset[str]()
        return Facts(str(head.SOPInstanceUID), kind, needs)
    except (Exception, RecursionError) as error:  # noqa: BLE001  (a reader of foreign bytes raises anything)
        raise ValueError(f"an object cannot be read ({type(error).__name__})") from error


def _needs(head: Dataset) -> Iterator[str]:
    """Every ReferencedSOPInstanceUID of a class that is received, but for doses, which may come later."""
    for element in head.iterall():
        if element.keyword == "ReferencedSOPClassUID":
            continue
        if element.VR == "SQ":
            for item in element.value:
                if CLASSES.get(str(item.get("ReferencedSOPClassUID", ""))) in ("CT", "RTSTRUCT"):
                    yield str(item.ReferencedSOPInstanceUID)


def is_satisfied(known: list[Facts]) -> bool:
    """True if there are slices and a structure set, and everything that is referred to is there. A structure
    set that names no slice leaves open which are to come."""
    there, kinds = {one.uid for one in known}, {one.kind for one in known}
    structs = [one for one in known if one.kind == "RTSTRUCT"]
    named = all(one.needs for one in structs)
    return {"CT", "RTSTRUCT"} <= kinds and named and all(one.needs <= there for one in known)


@dataclass
class Collector:
    """Looks at the received studies and puts those that are complete into the queue, each state of a study
    once, however often the node is started."""

    config: NodeConfig
    received: Received
    jobs: Jobs
    _facts: dict[Path, Facts | None] = field(default_factory=dict)
    _queued: set[str] = field(default_factory=set)

    def look(self) -> list[str]:
        """Queue what is complete now; returns the ids of its jobs. What one study lacks holds up no other."""
        there = {key_of(study, files): (study, files) for study, files in self.received.studies().items()}
        self._queued &= there.keys()  # one that was removed may come again
        found = []
        for key, (study, files) in there.items():
            if not files or key in self._queued:
                continue
            try:
                job = self._study(key, study, files)
            except OSError as error:
                log.error("study not queued: %s", error.strerror or error, extra={"about": {"study": study}})
                continue
            found += [job] if job else []
        return found

    def _study(self, key: str, study: str, files: list[Path]) -> str | None:
        quiet_s = time.time() - max(path.stat().st_mtime for path in files)
        if quiet_s < self.config.settle_s:
            return None
        if quiet_s < self.config.quiet_s and not is_satisfied([f for f in map(self._known, files) if f]):
            return None
        sender = self.config.sender(self.received.sender_of(study))
        if sender is None:
            return None  # taken off the list since
        place = self.config.data / "studies" / key
        if self.jobs.of_key(key) is None:
            snapshot(files, place)
        request = {"study": study, "sender": sender.ae, **self.config.prediction.model_dump()}
        request["names"] = str(sender.names) if sender.names else ""
        job = self.jobs.submit(request, place=str(place), key=key, hold=sender.hold, send_to=sender.send_to)
        self._queued.add(key)
        about = {"study": study, "job": job.id, "objects": len(files), "sender": sender.ae}
        log.info("study complete", extra={"about": about})
        return job.id

    def _known(self, path: Path) -> Facts | None:
        if path not in self._facts:
            try:
                self._facts[path] = facts(path)
            except ValueError as error:
                log.warning("%s", error, extra={"about": {"object": path.name}})
                self._facts[path] = None
        return self._facts[path]
