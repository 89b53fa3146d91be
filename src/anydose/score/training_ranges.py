"""Is a case like those that a model was trained on? Facts of a case, their ranges over the training patients,
and a sentence for every fact outside, with what was found and what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anydose.case.beams import beams_eye_views
from anydose.case.case import Case
from anydose.case.names import HEAD_NECK, Vocabulary
from anydose.case.volume import bounding_box
from anydose.score import sealed

MARGIN = 0.1  # of the range seen: so far beyond it a number is still usual
ANGLE_DEG = 5.0  # beams this far from those of training are others
BODY_HU = -300.0  # what of the body counts for its median CT number

# fact -> how a sentence names it; the unit stands in it
WORDS = {
    "spacing_x_mm": "voxels of {} mm from left to right",
    "spacing_y_mm": "voxels of {} mm from front to back",
    "spacing_z_mm": "slices {} mm apart",
    "prescription_gy": "a highest prescription of {} Gy",
    "lowest_level": "a lowest target level of {} times the highest",
    "levels": "target levels: {}",
    "target_cc": "targets of {} cc",
    "high_target_cc": "a highest-dose target of {} cc",
    "body_cc": "a body of {} cc",
    "body_x_mm": "a body {} mm wide",
    "body_y_mm": "a body {} mm deep",
    "body_z_mm": "a body {} mm long",
    "target_share": "targets that fill {} of the body",
    "organs": "organs at risk with a channel of their own: {}",
    "other_organs": "other organs at risk: {}",
    "beams": "beam directions: {}",
    "median_hu": "a median CT number of {} HU in the body",
}
OPTIONAL = ("ct", "oar", "beams")  # a case without them is another kind of case


@dataclass(frozen=True)
class Ranges:
    """What the training patients of a model were like."""

    numbers: Mapping[str, tuple[float, float, float]]
    """Fact -> (lowest, median, highest)."""
    directions_deg: tuple[float, ...]
    """Every beam direction among them: azimuth in the axial plane, 0 anterior, 90 the patient's left."""
    without: Mapping[str, int]
    """How many of the patients lacked each of OPTIONAL."""
    patients: int
    """How many there were."""
    organs: tuple[str, ...] = HEAD_NECK.organs
    """The organs that the model has a channel for."""


def facts(case: Case, vocabulary: Vocabulary = HEAD_NECK) -> dict[str, float]:
    """The numbers of a case by the names of WORDS, those that it does not have left out; vocabulary: the
    organs that the model has a channel for."""
    found = {**_of_voxels(case), **_of_targets(case), **_of_body(case)}
    if "target_cc" in found and "body_cc" in found:
        found["target_share"] = found["target_cc"] / found["body_cc"]
    known = [vocabulary.holds(case.meaning(name)) for name in case.of_role("oar")]
    found |= {"organs": sum(known), "other_organs": len(known) - sum(known)}
    if case.beams:
        found["beams"] = len(directions(case))
    if case.ct is not None and case.body is not None:
        inside = case.ct.in_unit("HU")[case.body]
        tissue = inside[inside > BODY_HU]
        found["median_hu"] = float(np.median(tissue)) if tissue.size else float(np.median(inside))
    return {name: float(value) for name, value in found.items()}


def _of_voxels(case: Case) -> dict[str, float]:
    x, y, z = np.array(case.grid.spacing_mm)[case.grid.patient_axes]
    return {"spacing_x_mm": x, "spacing_y_mm": y, "spacing_z_mm": z}


def _of_targets(case: Case) -> dict[str, float]:
    levels, voxel_cc = case.prescription.levels_gy, case.grid.voxel_cc
    if not levels:
        return {}
    highest = max(levels, key=lambda name: levels[name])
    target = np.logical_or.reduce(list(case.targets.values()))
    return {
        "prescription_gy": levels[highest],
        "lowest_level": min(levels.values()) / levels[highest],
        "levels": len(set(levels.values())),
        "target_cc": target.sum() * voxel_cc,
        "high_target_cc": case.structures[highest].sum() * voxel_cc,
    }


def _of_body(case: Case) -> dict[str, float]:
    if case.body is None or not case.body.any():
        return {}
    _, shape = bounding_box(case.body)
    size_mm = np.array(shape[::-1]) * np.array(case.grid.spacing_mm)
    x, y, z = size_mm[case.grid.patient_axes]
    return {
        "body_x_mm": x,
        "body_y_mm": y,
        "body_z_mm": z,
        "body_cc": case.body.sum() * case.grid.voxel_cc,
    }


def directions(case: Case) -> list[float]:
    """Where the case's beams come from, in degrees as in Ranges, each once."""
    found = {round(v.azimuth_deg, 1) % 360 for v in beams_eye_views(case.beams, case.patient_position)}
    return sorted(found)


def missing(case: Case) -> tuple[str, ...]:
    """Which of OPTIONAL the case lacks."""
    have = {"ct": case.ct is not None, "oar": bool(case.of_role("oar")), "beams": bool(case.beams)}
    return tuple(name for name in OPTIONAL if not have[name])


def learn(cases: Iterable[Case], vocabulary: Vocabulary = HEAD_NECK) -> Ranges:
    """The ranges of a training cohort, for a model that sees the organs of `vocabulary`. ValueError without a
    case."""
    columns: dict[str, list[float]] = {}
    angles: set[float] = set()
    without, count = dict.fromkeys(OPTIONAL, 0), 0
    for case in cases:
        count += 1
        for name, value in facts(case, vocabulary).items():
            columns.setdefault(name, []).append(value)
        angles |= set(directions(case))
        for name in missing(case):
            without[name] += 1
    if not count:
        raise ValueError("no case to learn the usual ranges from")
    numbers = {name: _three(values) for name, values in columns.items()}
    return Ranges(
        numbers=numbers,
        directions_deg=tuple(sorted(angles)),
        without=without,
        patients=count,
        organs=vocabulary.organs,
    )


def _three(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = (float(f"{v:.5g}") for v in (min(values), np.median(values), max(values)))
    return low, middle, high


def warnings(case: Case, ranges: Ranges) -> list[str]:
    """One sentence for everything in which a case is unlike the training patients; none for a usual one."""
    seen = f"the {ranges.patients} training patients"
    known = facts(case, Vocabulary(ranges.organs))
    found = []
    for name, value in known.items():
        if name not in ranges.numbers:
            continue
        low, _, high = ranges.numbers[name]
        slack = MARGIN * (high - low) + 1e-4 * abs(high)
        if not low - slack <= value <= high + slack:
            span = _number(low) if low == high else f"{_number(low)} to {_number(high)}"
            found.append(f"{WORDS[name].format(_number(value))}; {seen} had {span}")
    strange = [a for a in directions(case) if _nearest(a, ranges.directions_deg) > ANGLE_DEG]
    if strange:
        listed = ", ".join(f"{a:g}" for a in strange[:6]) + (", ..." if len(strange) > 6 else "")
        usual = ", ".join(f"{a:g}" for a in ranges.directions_deg[:12])
        found.append(f"beams from {listed} degrees; {seen} had beams from {usual}")
    for name in missing(case):
        if ranges.without[name] < MARGIN * ranges.patients:
            what = {"ct": "CT", "oar": "organ at risk", "beams": "beam"}[name]
            found.append(f"no {what}; {ranges.without[name]} of {seen} had none")
    if case.of_role("oar") and not known["organs"]:
        found.append("no organ that the model knows among the organs at risk: another site than in training")
    return [f"unlike the training data: {sentence}" for sentence in found]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _nearest(angle: float, known: Iterable[float]) -> float:
    return min((abs((angle - k + 180) % 360 - 180) for k in known), default=360.0)


def read(path: Path) -> Ranges:
    """Ranges as `as_json` wrote them. Raises ValueError for a damaged file."""
    value = sealed.read(path)
    try:
        numbers = {name: (low, middle, high) for name, (low, middle, high) in value["numbers"].items()}
        return Ranges(
            numbers=numbers,
            directions_deg=tuple(value["directions_deg"]),
            without=value["without"],
            patients=value["patients"],
            organs=tuple(value.get("organs", HEAD_NECK.organs)),  # older files are of head and neck
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: damaged, no ranges of training patients ({said})") from error


def as_json(ranges: Ranges) -> dict[str, Any]:
    """What `read` reads."""
    return sealed.seal(asdict(ranges))
