"""What a planner is to a simulated cohort, and what every planner does alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anydose.case.beams import Beam
from anydose.case.case import Case
from anydose.case.volume import Volume

AIR_HU = -1000.0  # around a patient that is handed over or moved


class Drawn(Protocol):
    """What one plan is made from, drawn from (seed, number) and the patients' names alone."""

    @property
    def name(self) -> str:
        """The stored case's name."""

    @property
    def number(self) -> int:
        """Which of the seed's draws it is, from 0."""

    @property
    def patient(self) -> str:
        """The patient's name."""

    @property
    def says(self) -> str:
        """The plan in a few words, for the line that is printed when it is done."""


class Planner(Protocol):
    """Who makes the plans of a simulated cohort: pyradplan.py, rays.py, replan.py."""

    def draw(self, seed: int, number: int, patients: Sequence[str]) -> Any:
        """What plan `number` of `seed` is made from: a Drawn of its own."""

    def about(self, chosen: Any) -> dict[str, Any]:
        """What a stored plan says of its making, as JSON gives it back; one that says something else is
        another plan."""

    def plan(self, case: Case, chosen: Any, scratch: Path) -> tuple[Case, dict[str, Any]]:
        """The case with the plan's beams and dose, and figures of the planning, its `seconds` among them.
        scratch: a folder that may be made and has to be gone afterwards. ValueError for a case that cannot be
        planned."""


def refuse_unplannable(case: Case, ct: bool = False) -> None:
    """ValueError for a case that lacks a body, a prescribed target or (where `ct`) a CT, or lies otherwise
    than head first supine along its axes."""
    if (ct and case.ct is None) or case.body is None or not case.targets:
        needed = "CT, body" if ct else "a body"
        raise ValueError(f"{case.name}: a plan needs {needed} and a prescribed target")
    refuse_other_positions(case)


def refuse_other_positions(case: Case) -> None:
    """ValueError for a case that does not lie head first supine along its axes."""
    if case.patient_position != "HFS" or not np.allclose(case.grid.direction, np.eye(3), atol=1e-4):
        raise ValueError(
            f"{case.name}: {case.patient_position}, axes {case.grid.direction}; head first supine along the "
            "patient's axes is planned"
        )


def coplanar(gantry_deg: Sequence[float], isocentre_mm: tuple[float, float, float]) -> tuple[Beam, ...]:
    """A field at each gantry angle (IEC 61217, degrees), couch 0."""
    return tuple(Beam((angle,), isocentre_mm, name=f"G{angle:g}") for angle in gantry_deg)


def with_plan(
    case: Case, name: str, beams: tuple[Beam, ...], dose_gy: NDArray[np.float32], said: str
) -> Case:
    """The case under another name with a plan's beams and dose (d, h, w), and a sentence on where they come
    from."""
    kept = tuple(s for s in case.inferred if not s.startswith("beams:"))
    dose = Volume(dose_gy.astype(np.float32), case.grid, "Gy")
    return replace(case, name=name, beams=beams, dose=dose, inferred=(*kept, said))


def scaled_to_prescription(dose_gy: NDArray[Any], case: Case, share: float, name: str) -> NDArray[np.float32]:
    """The dose so scaled that the highest target's median is `share` times its prescription. ValueError if
    that target has no dose."""
    highest = max(case.targets, key=lambda target: case.prescription.levels_gy[target])
    middle = float(np.median(dose_gy[case.structures[highest]]))
    if not middle > 0:
        raise ValueError(f"{name}: {highest} has no dose")
    scaled: NDArray[np.float32] = (dose_gy * (share * case.rx_max_gy / middle)).astype(np.float32)
    return scaled


def plain(record: Any) -> dict[str, Any]:
    """A record as JSON gives it back: lists, not tuples."""
    value: dict[str, Any] = json.loads(json.dumps(asdict(record)))
    return value
