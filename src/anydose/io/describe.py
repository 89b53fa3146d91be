"""A case's words as JSON: prescription, beams, patient position. case.json of a NIfTI folder and the
attributes of a stored case are this one schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from anydose.case.beams import PATIENT_FROM_TABLE, Beam
from anydose.case.case import Case, Prescription
from anydose.case.naming import evidence
from anydose.case.naming.mapping import IGNORE, NameMap
from anydose.case.naming.meaning import Meaning


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
    """What a case holds beside its arrays. prescription_gy: structure -> Gy; names: structure -> what
    a person said that it is; structure_types, structure_codes: what an RTSTRUCT stated of it."""

    name: str | None = None
    prescription_gy: dict[str, float] = {}
    fractions: int | None = None
    beams: tuple[BeamText, ...] = ()
    patient_position: str = "HFS"
    inferred: tuple[str, ...] = ()
    names: dict[str, str] = {}
    structure_types: dict[str, str] = {}
    structure_codes: dict[str, str] = {}

    def naming(self) -> tuple[Meaning, ...]:
        """The meanings that do not follow from the structures' names alone."""
        types, codes, names = self.structure_types, self.structure_codes, NameMap(self.names)
        rois = dict.fromkeys((*types, *codes, *self.names))
        return tuple(names.read(evidence.read(roi, types.get(roi, ""), codes.get(roi, ""))) for roi in rois)


class Words(TypedDict):
    """The constructor arguments of Case that are not arrays."""

    prescription: Prescription
    beams: tuple[Beam, ...]
    patient_position: str
    inferred: tuple[str, ...]
    naming: tuple[Meaning, ...]


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
        names={m.roi: m.tg263 or IGNORE for m in case.naming if m.source == "clinic"},
        structure_types={m.roi: m.kind for m in case.naming if m.kind},
        structure_codes=_there(case.source.structure_codes, case),
    )
    return text.model_dump(mode="json")


def _there(values: Mapping[str, str], case: Case) -> dict[str, str]:
    """The values of structures that the case has."""
    return {roi: value for roi, value in values.items() if roi in case.structures}


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
    try:
        return _checked(text)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _checked(text: CaseText) -> Words:
    return Words(
        prescription=Prescription(text.prescription_gy, text.fractions),
        beams=tuple(beam.beam() for beam in text.beams),
        patient_position=text.patient_position,
        inferred=text.inferred,
        naming=text.naming(),
    )
