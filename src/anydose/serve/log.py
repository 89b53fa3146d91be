"""Logs of a server: one JSON object a line, rotated, without the names of patients."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path

LONGEST = 400  # characters of a sentence
HIDDEN = "[...]"
NAMING = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "OtherPatientIDs", "StudyID")
PATIENT_WORDS = re.compile(r"[^\s^=,;:'\"()\[\]]{2,}")


def nameless(sentence: str, words: Iterable[str] = (), folders: Iterable[Path] = ()) -> str:
    """A sentence that may be kept: without the words of patients' names and numbers, with paths from the
    folder that holds them on, on one line, cut to LONGEST characters.

    Args:
        sentence: what was to be said.
        words: names, identifiers, birth dates as DICOM holds them ('Doe^John'); each part is hidden.
        folders: places whose own paths are left out.
    """
    said = " ".join(sentence.split())
    for folder in folders:
        said = said.replace(f"{folder}/", "").replace(str(folder), "the job's folder")
    parts = {part for word in words for part in PATIENT_WORDS.findall(word)}
    for part in sorted(parts, key=len, reverse=True):
        said = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", HIDDEN, said, flags=re.IGNORECASE)
    return said if len(said) <= LONGEST else said[: LONGEST - 3] + "..."


def words_of(source: Path) -> set[str]:
    """What names the patient in DICOM files: those of a folder, at any depth, or one."""
    from pydicom import dcmread

    found: set[str] = set()
    for path in sorted(source.rglob("*")) or [source]:
        try:
            head = dcmread(path, stop_before_pixels=True, specific_tags=[*NAMING])
        except (Exception, RecursionError):  # noqa: BLE001  (unreadable: then it names nobody)
            continue
        found |= {str(head.get(name) or "") for name in NAMING}
    return found


class JsonLines(logging.Formatter):
    """time, level, logger and message of a record, with whatever `extra={"about": {...}}` holds; of an
    exception its type and the line it came from, as its words may name a patient."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line |= {"message": record.getMessage(), **getattr(record, "about", {})}
        if record.exc_info and record.exc_info[0]:
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            line["exception"] = record.exc_info[0].__name__
            line["at"] = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
        return json.dumps(line)


def log_to(path: Path, *also: str, megabytes: float = 10.0, keep: int = 10) -> None:
    """Send what this room logs to a file that is rotated: `keep` old ones of so many megabytes stay. What
    libraries and readers say never gets here, as it may name a patient, but for the loggers `also`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=int(megabytes * 1e6), backupCount=keep, encoding="utf-8")
    handler.setFormatter(JsonLines())
    for name in ("anydose.serve", *also):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
