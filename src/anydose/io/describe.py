"""A case's words as JSON: prescription, beams, patient position. case.json of a NIfTI folder and the
attributes of a stored case are this one schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from anydose.case.beams import PATIENT_FROM_TABLE, Beam
from anydose.case.case import Case, Prescription


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BeamText(_Strict):
    """One beam: gantry_deg is one angle or, for an arc, one per control point; isocentre_mm is LPS (x, y,
    z)."""

    gantry_deg: float | tuple[float, ...]
    isocentre_mm: tuple[float, float, float]
    couch_deg: float = 0.0
    collimator_deg: float = 0.0
    sad_mm: float = 1000.0
    name: str = ""

    def beam(self) -> Beam:
        """The same as a Beam."""
        angles = self.gantry_deg if isinstance(self.gantry_deg, tuple) else (self.gantry_deg,)
        return Beam(**{**self.model_dump(), "gantry_deg": angles})


class CaseText(_Strict):
    """What a case holds beside its arrays. prescription_gy: structure -> Gy."""

    name: str | None = None
    prescription_gy: dict[str, float] = {}
    fractions: int | None = None
    beams: tuple[BeamText, ...] = ()
    patient_position: str = "HFS"
    inferred: tuple[str, ...] = ()


class Words(TypedDict):
    """The constructor arguments of Case that are not arrays."""

    prescription: Prescription
    beams: tuple[Beam, ...]
    patient_position: str
    inferred: tuple[str, ...]


def describe(case: Case) -> dict[str, Any]:
    """The words of a case as plain JSON values."""
    beams = tuple(BeamText(**vars(beam)) for beam in case.beams)
    text = CaseText(
        name=case.name,
        prescription_gy=dict(case.prescription.levels_gy),
        fractions=case.prescription.fractions,
        beams=beams,
        patient_position=case.patient_position,
        inferred=case.inferred,
    )
    return text.model_dump(mode="json")


def words(value: Mapping[str, Any], source: str) -> Words:
    """The inverse of `describe`, checked; ValueError names `source`, the field and what is accepted."""
    try:
        text = CaseText.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        accepted = ", ".join(CaseText.model_fields)
        raise ValueError(
            f"{source}: field {where!r}: {first['msg']}; the fields {accepted} are accepted"
        ) from error
    if text.patient_position not in PATIENT_FROM_TABLE:
        accepted = ", ".join(PATIENT_FROM_TABLE)
        raise ValueError(
            f"{source}: patient_position {text.patient_position!r}; one of {accepted} is accepted"
        )
    return Words(
        prescription=Prescription(text.prescription_gy, text.fractions),
        beams=tuple(beam.beam() for beam in text.beams),
        patient_position=text.patient_position,
        inferred=text.inferred,
    )
