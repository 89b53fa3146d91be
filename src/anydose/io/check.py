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
    """One row: the case's name, form, shape (z, y, x), spacing (x, y, z) mm, counts, prescription, and
    findings; a case that cannot be read has its refusal as the only finding."""

    name: str
    kind: str = ""
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    structures: int = 0
    beams: int = 0
    levels_gy: tuple[float, ...] = ()
    findings: tuple[str, ...] = ()


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
            case.source.format,
            case.grid.shape,
            case.grid.spacing_mm,
            len(case.structures),
            len(case.beams),
            tuple(sorted(case.prescription.levels_gy.values(), reverse=True)),
            tuple(findings(case)),
        )


def findings(case: Case) -> Iterator[str]:
    """What a case lacks and what looks wrong in it."""
    absent = {
        "ct": case.ct is None,
        "dose": case.dose is None,
        "target": not case.targets,
        "beams": not case.beams,
    }
    absent["organ at risk"] = not case.of_role("oar")
    bodies = case.of_role("body")
    absent["body"] = not bodies
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
