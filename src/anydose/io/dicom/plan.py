"""RTPLAN to beams and prescription: photon beams of a linear accelerator, static or rotating.

Control point 0 holds everything, later ones only what changes. Angles are IEC 61217, the isocentre is LPS mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from anydose.case.beams import PATIENT_FROM_TABLE, Beam
from anydose.io.dicom.files import RTPLAN, items, load, naming, number, numbers, text

TREATMENT = ("", "TREATMENT", "CONTINUATION")
ARC_STEP_DEG = 5.0  # arcs given by fewer control points are filled up to this step
FIXED = ("GantryPitchAngle", "TableTopPitchAngle", "TableTopRollAngle")
SAME = 0.05  # degrees or mm within which a control point has not moved


@dataclass(frozen=True)
class Plan:
    """What an RTPLAN says."""

    beams: tuple[Beam, ...]
    """Its treatment beams."""
    levels_gy: dict[int, float]
    """ROI number -> prescribed Gy."""
    fractions: int | None
    """Their number; None if it states none."""
    patient_position: str
    """As 'HFS'; '' if it states none."""
    said: tuple[str, ...]
    """Sentences on what was passed over."""


def read_plan(path: Path) -> Plan:
    """One RTPLAN. ValueError (file, found, accepted) for ion, electron, brachy and robotic plans, several
    fraction groups, couch or isocentre that move during a beam, a tilted table, and numbers that are none."""
    dataset = load(path)
    with naming(path):
        if text(dataset, "SOPClassUID") != RTPLAN:
            raise ValueError(f"{dataset.SOPClassUID.name} found; RT Plan Storage is accepted")
        if items(dataset, "ApplicationSetupSequence"):
            raise ValueError("a brachytherapy plan; external photon beams are accepted")
        groups = items(dataset, "FractionGroupSequence")
        if len(groups) > 1:
            raise ValueError(f"{len(groups)} fraction groups; one is accepted")
        said: list[str] = [] if groups else ["plan: states no fraction group"]
        stated = [int(number(group, "NumberOfBeams")) for group in groups]
        if stated and stated[0] != len(items(dataset, "BeamSequence")):
            raise ValueError(
                f"{len(items(dataset, 'BeamSequence'))} beams, {stated[0]} stated; as many are accepted"
            )
        beams = tuple(
            _beam(item, said) for item in items(dataset, "BeamSequence") if _treats(item, groups, said)
        )
        levels = _levels(dataset, said)
        return Plan(
            beams=beams,
            levels_gy=levels,
            fractions=_fractions(groups),
            patient_position=_position(dataset),
            said=tuple(said),
        )


def _treats(beam: Dataset, groups: list[Dataset], said: list[str]) -> bool:
    """False for set-up fields and fields without meterset in a plan that has metersets."""
    kind = text(beam, "TreatmentDeliveryType", needed=False)
    beam_number = int(number(beam, "BeamNumber"))
    metersets = {
        int(number(item, "ReferencedBeamNumber")): number(item, "BeamMeterset")
        for group in groups
        for item in items(group, "ReferencedBeamSequence")
        if item.get("BeamMeterset") is not None
    }
    treats = kind in TREATMENT and (not metersets or metersets.get(beam_number, 0.0) > 0)
    if not treats:
        said.append(f"beam {beam_number}: {kind or 'without meterset'}, passed over")
    return treats


def _beam(beam: Dataset, said: list[str]) -> Beam:
    label = f"beam {int(number(beam, 'BeamNumber'))}"
    radiation = text(beam, "RadiationType", needed=False)
    if radiation not in ("", "PHOTON"):
        raise ValueError(f"{label}: radiation type {radiation}; PHOTON is accepted")
    points = items(beam, "ControlPointSequence")
    if not points or number(beam, "NumberOfControlPoints") != len(points):
        raise ValueError(
            f"{label}: {len(points)} control points; as many as NumberOfControlPoints are needed"
        )
    tracks = {
        name: _track(points, name, label)
        for name in ("GantryAngle", "BeamLimitingDeviceAngle", "PatientSupportAngle")
    }
    isocentre = _track(points, "IsocenterPosition", label, 3)
    for name in FIXED:
        if any(p.get(name) not in (None, "") and abs(number(p, name)) > SAME for p in points):
            raise ValueError(f"{label}: {name} is not 0; an upright gantry over a level table is accepted")
    for what, track in (("couch", tracks["PatientSupportAngle"]), ("isocentre", isocentre)):
        if np.ptp(track, axis=0).max() > SAME:
            raise ValueError(f"{label}: the {what} moves during the beam; a fixed one is accepted")
    if np.ptp(tracks["BeamLimitingDeviceAngle"]) > SAME:
        said.append(f"{label}: collimator turns during the beam, its first angle is taken")
    sad = number(beam, "SourceAxisDistance") if beam.get("SourceAxisDistance") else 1000.0
    if not 500 <= sad <= 2000:
        raise ValueError(f"{label}: SourceAxisDistance {sad:g} mm; 500 to 2000 mm is accepted")
    return Beam(
        gantry_deg=_gantry(tracks["GantryAngle"][:, 0], points, label),
        isocentre_mm=(float(isocentre[0, 0]), float(isocentre[0, 1]), float(isocentre[0, 2])),
        couch_deg=float(tracks["PatientSupportAngle"][0, 0]),
        collimator_deg=float(tracks["BeamLimitingDeviceAngle"][0, 0]),
        sad_mm=sad,
        name=text(beam, "BeamName", needed=False) or label,
    )


def _track(points: list[Dataset], keyword: str, label: str, count: int = 1) -> np.ndarray:
    """(control points, count): one attribute over all control points, carried forward where it is absent."""
    out: list[np.ndarray] = []
    for point in points:
        if point.get(keyword) not in (None, ""):
            out.append(numbers(point, keyword, count))
        elif out:
            out.append(out[-1])
        else:
            raise ValueError(f"{label}: no {keyword} at the first control point; it is needed")
    if np.abs(out).max() > 1e4:
        raise ValueError(f"{label}: {keyword} {np.abs(out).max():g}; degrees and millimetres are accepted")
    return np.array(out)


def _gantry(angles: np.ndarray, points: list[Dataset], label: str) -> tuple[float, ...]:
    """One angle for a static beam; for an arc one per control point, with steps of at most ARC_STEP_DEG."""
    if np.ptp(angles) <= SAME:
        return (float(angles[0] % 360),)
    out, turn = [float(angles[0] % 360)], ""
    for k, (start, stop) in enumerate(zip(angles, angles[1:], strict=False)):
        turn = text(points[k], "GantryRotationDirection", needed=False) or turn
        if abs(stop - start) <= SAME:
            continue
        if turn not in ("CW", "CC"):
            raise ValueError(
                f"{label}: the gantry turns and GantryRotationDirection is {turn!r}; CW or CC is accepted"
            )
        swept = (stop - start) % 360 if turn == "CW" else -((start - stop) % 360)
        count = int(np.ceil(abs(swept) / ARC_STEP_DEG - 1e-6))
        out += [float((start + swept * (i + 1) / count) % 360) for i in range(count)]
    return tuple(out)


def _levels(dataset: Dataset, said: list[str]) -> dict[int, float]:
    levels: dict[int, float] = {}
    for item in items(dataset, "DoseReferenceSequence"):
        if (
            item.get("TargetPrescriptionDose") is None
            or text(item, "DoseReferenceType", needed=False) != "TARGET"
        ):
            continue
        dose = number(item, "TargetPrescriptionDose")
        if item.get("ReferencedROINumber") is None:
            said.append(f"prescription: the plan states {dose:g} Gy without a structure, passed over")
            continue
        roi = int(number(item, "ReferencedROINumber"))
        if levels.setdefault(roi, dose) != dose:
            raise ValueError(
                f"prescription of ROI {roi}: {levels[roi]:g} and {dose:g} Gy; one dose is accepted"
            )
    return levels


def _fractions(groups: list[Dataset]) -> int | None:
    if not groups or groups[0].get("NumberOfFractionsPlanned") in (None, ""):
        return None
    return int(number(groups[0], "NumberOfFractionsPlanned"))


def _position(dataset: Dataset) -> str:
    stated = {
        text(item, "PatientPosition", needed=False) for item in items(dataset, "PatientSetupSequence")
    } - {""}
    if len(stated) > 1 or not stated <= set(PATIENT_FROM_TABLE):
        raise ValueError(
            f"PatientPosition {', '.join(sorted(stated))}; one of {', '.join(PATIENT_FROM_TABLE)} is accepted"
        )
    return next(iter(stated), "")
