"""How the outcome of one damaged input is judged: against the truth, never by the absence of an error."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

REFUSED, SAME, MARKED = "refused", "same", "marked"
SILENT, TRACEBACK, MUTE, SLOW, BIG = "SILENT", "TRACEBACK", "MUTE", "SLOW", "BIG"
GOOD, BAD = (REFUSED, SAME, MARKED), (SILENT, TRACEBACK, MUTE, SLOW, BIG)
MOST_S, MOST_MB = 10.0, 2048

Damage = Callable[[random.Random, Path], str]
"""Spoils the input that lies in a folder; returns what it did, in words."""


@dataclass
class Kind:
    """One kind of input: a clean one, what can be done to it, and how the result is judged."""

    name: str
    make: Callable[[Path], Any]
    """Writes a clean input into a new folder once a process; returns the truth."""
    judge: Callable[[Path, Any], tuple[str, str]]
    """Uses the damaged input; (state, words). Exceptions are judged by `judged`."""
    damages: tuple[Damage, ...] = ()
    share: int = 1
    """Part of all inputs, beside the other kinds."""


KINDS: dict[str, Kind] = {}


@dataclass
class Heard(logging.Handler):
    """What the library's log says, which the command shows."""

    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one sentence."""
        self.said.append(record.getMessage())


def judged(kind: Kind, folder: Path, truth: Any) -> tuple[str, str]:
    """(state, words) of one damaged input; what is refused must name a file or folder of the input."""
    from anydose.cli.app import said_of

    try:
        return kind.judge(folder, truth)
    except MemoryError as error:
        return BIG, said_of(error)
    except (ValueError, OSError, RecursionError) as error:
        said = said_of(error)
        names = str(folder) in said or said.startswith("/proc/")
        return (REFUSED if names and len(said) < 1000 else MUTE), said
    except Exception as error:  # noqa: BLE001 - there must be none
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return TRACEBACK, f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def same_or_said(found: Iterator[str], said: bool) -> tuple[str, str]:
    """The state of a result that was used, by its differences from the truth."""
    differences = list(found)
    if not differences:
        return SAME, ""
    return (MARKED if said else SILENT), ", ".join(differences)


def of_case(case: Any, clean: Any) -> Iterator[str]:
    """In what a case differs from the clean one. What is absent is not wrong: the commands say it."""
    if not case.grid.matches(clean.grid, 0.2):
        yield "grid"
        return
    if case.ct is not None and np.abs(case.ct.array - clean.ct.array).max() > 0.5:
        yield "ct"
    if case.dose is not None:  # where it is unknown it is not wrong
        off = np.abs(case.dose.array - clean.dose.array)
        if np.nanmax(off, initial=0.0) > 2e-3 * float(np.nanmax(clean.dose.array)):
            yield "dose"
    if case.structures.keys() != clean.structures.keys():
        yield "structures"
    for name in case.structures.keys() & clean.structures.keys():
        if not np.array_equal(case.structures[name], clean.structures[name]):
            yield f"structure {name}"
    levels = {name: round(gy, 3) for name, gy in case.prescription.levels_gy.items()}
    if levels and levels != {name: round(gy, 3) for name, gy in clean.prescription.levels_gy.items()}:
        yield "prescription"
    if case.prescription.fractions not in (None, clean.prescription.fractions):
        yield "fractions"
    if case.beams and not _same_beams(case.beams, clean.beams):
        yield "beams"
    if case.patient_position != clean.patient_position:
        yield "patient position"


def _same_beams(some: Any, others: Any) -> bool:
    def plain(beams: Any) -> Any:
        return [(b.gantry_deg, np.round(b.isocentre_mm, 1).tolist(), b.couch_deg, b.sad_mm) for b in beams]

    return bool(plain(some) == plain(others))


def a_case(folder: Path, clean: Any) -> tuple[str, str]:
    """Read the case at `folder`/case or its one file, as every command does."""
    from anydose.io.read import read_case

    heard = Heard()
    log = logging.getLogger("anydose")
    log.addHandler(heard)
    try:
        places = [p for p in folder.iterdir() if p.name in ("case", "case.npz")]
        case = read_case(places[0])
    finally:
        log.removeHandler(heard)
    return same_or_said(
        of_case(case, clean), bool(heard.said) or bool(set(case.inferred) - set(clean.inferred))
    )
