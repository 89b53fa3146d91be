"""What is missing or suspicious in a case, in sentences; each rule with its number and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anydose.case.case import Case
from anydose.io.read import read_case
from anydose.io.sources import sources

FEW_VOXELS = 10  # fewer say little about a DVH
OUTSIDE_BODY = 0.01  # part of a target outside the body
COARSE_MM = 6.0
USUAL = ("beams: ", "isocentre: ", "body: possible_dose_mask", "patient position: HFS (", "dose: scaled by")


@dataclass(frozen=True)
class Checked:
    """One row; of a case that cannot be read it holds the name and the refusal."""

    name: str
    """The case's name."""
    kind: str = ""
    """The name of its format."""
    shape: tuple[int, ...] = ()
    """Voxels (z, y, x)."""
    spacing_mm: tuple[float, ...] = ()
    """Millimetres (x, y, z)."""
    structures: int = 0
    """How many structures it has."""
    beams: int = 0
    """How many beams."""
    levels_gy: tuple[float, ...] = ()
    """Prescribed doses, the highest first."""
    findings: tuple[str, ...] = ()
    """What is missing or suspicious, or why it cannot be read."""


def check(root: Path) -> Iterator[Checked]:
    """One row for every case at or below `root`. ValueError if there is none."""
    for name, path in sources(root):
        try:
            case = read_case(path)
        except (ValueError, OSError, MemoryError) as error:
            yield Checked(name, findings=(" ".join(str(error).split()),))
            continue
        yield Checked(
            name,
            kind=case.source.format,
            shape=case.grid.shape,
            spacing_mm=case.grid.spacing_mm,
            structures=len(case.structures),
            beams=len(case.beams),
            levels_gy=tuple(sorted(case.prescription.levels_gy.values(), reverse=True)),
            findings=tuple(findings(case)),
        )


def findings(case: Case) -> Iterator[str]:
    """What a case lacks and what looks wrong in it."""
    bodies = case.of_role("body")
    absent = {
        "ct": case.ct is None,
        "dose": case.dose is None,
        "target": not case.targets,
        "beams": not case.beams,
        "organ at risk": not case.of_role("oar"),
        "body": not bodies,
    }
    yield from (f"no {what}" for what, missing in absent.items() if missing)
    if len(bodies) > 1:
        yield f"several bodies: {', '.join(bodies)}"
    if max(case.grid.spacing_mm) > COARSE_MM:
        yield f"voxels of {max(case.grid.spacing_mm):g} mm"
    for name, mask in case.structures.items():
        if mask.sum() < FEW_VOXELS:
            yield f"{name}: {mask.sum()} voxels"
    body = next(iter(bodies.values())) if len(bodies) == 1 else None
    if body is not None:
        yield from _in_body(case, body)
    yield from (sentence for sentence in case.inferred if not sentence.startswith(USUAL))


def _in_body(case: Case, body: np.ndarray) -> Iterator[str]:
    for name, mask in case.targets.items():
        outside = float((mask & ~body).sum() / mask.sum())
        if outside > OUTSIDE_BODY:
            yield f"{name}: {outside:.0%} outside the body"
