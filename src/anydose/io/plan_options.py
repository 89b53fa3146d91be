"""Beams and prescription that the source does not state: given by the user, or read from structure names by
rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anydose.case.beams import Beam, equispaced
from anydose.case.case import Case, Prescription


def with_beams(case: Case, text: str) -> Case:
    """The case with beams from `text`: '9' is nine equispaced coplanar fields, '0,40,80' (one angle: '0,')
    are fields at these gantry angles in degrees; the isocentre is the plan's, else the centroid of the
    targets. ValueError for any other text and where neither plan nor target gives an isocentre."""
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [float(part) for part in parts if part]
    except ValueError:
        numbers = []
    if not numbers or not np.isfinite(numbers).all() or (len(parts) == 1 and not _is_count(numbers[0])):
        raise ValueError(
            f"--beams {text!r}: a count from 1 to 360 ('9') or gantry angles ('0,40,80') are accepted"
        )
    centre, source = isocentre(case)
    if len(parts) == 1:
        beams = equispaced(int(numbers[0]), centre)
        what = f"{len(beams)} equispaced coplanar fields from 0 degrees"
    else:
        if not all(-360 <= angle <= 360 for angle in numbers):
            raise ValueError(f"--beams {text!r}: gantry angles from -360 to 360 degrees are accepted")
        beams = tuple(Beam((angle % 360,), centre, name=f"G{angle % 360:g}") for angle in numbers)
        what = f"gantry angles {text} degrees, couch 0"
    kept = tuple(s for s in case.inferred if not s.startswith(("beams:", "isocentre:")))
    return replace(case, beams=beams, inferred=(*kept, f"beams: {what} (--beams)", f"isocentre: {source}"))


def isocentre(case: Case) -> tuple[tuple[float, float, float], str]:
    """((x, y, z) in LPS mm, where it comes from). ValueError if the case has neither beams nor targets."""
    if case.beams:
        return case.beams[0].isocentre_mm, "of the first beam of the plan"
    if not case.targets:
        raise ValueError(
            f"{case.name}: --beams needs an isocentre, so a target with a prescription (--rx PTV70=70)"
        )
    target = np.logical_or.reduce(list(case.targets.values()))
    return case.grid.centroid_mm(target), "centroid of the targets"


def with_prescription(case: Case, texts: Sequence[str]) -> Case:
    """The case with the prescription 'STRUCTURE=GY' of each text, replacing the source's own.
    ValueError for another form, an unknown or repeated structure, or a dose that is none."""
    levels: dict[str, float] = {}
    for text in texts:
        name, _, dose = text.rpartition("=")
        try:
            value = float(dose)
        except ValueError:
            value = float("nan")
        if name not in case.structures or name in levels:
            have = ", ".join(sorted(case.structures)) or "none"
            raise ValueError(
                f"--rx {text!r}: NAME=GY with each structure once is accepted; the case has {have}"
            )
        levels[name] = value
    kept = tuple(s for s in case.inferred if not s.startswith("prescription:"))
    given = ", ".join(f"{n} {d:g} Gy" for n, d in levels.items())
    return replace(
        case,
        prescription=Prescription(levels, case.prescription.fractions),
        inferred=(*kept, f"prescription: {given} (--rx)"),
    )


def from_names(case: Case) -> Case:
    """The case with the prescription its target names state (PTV70, PTV_5940, PTV_59.4Gy), if it has none. A
    number without a unit is Gy from 10 to 100 and cGy from 1000 to 10000; any other is no dose and is
    left."""
    if case.prescription.levels_gy:
        return case
    levels = {meaning.roi: meaning.level_gy for meaning in case.naming if meaning.role == "ptv"}
    found = {n: dose for n, dose in levels.items() if dose is not None}
    if not found:
        return case
    sentence = (
        "prescription: " + ", ".join(f"{n} {dose:g} Gy" for n, dose in found.items()) + " (from the names)"
    )
    return replace(
        case,
        prescription=Prescription(found, case.prescription.fractions),
        inferred=(*case.inferred, sentence),
    )


def _is_count(value: float) -> bool:
    return value == int(value) and 1 <= value <= 360
