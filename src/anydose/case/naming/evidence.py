"""What an RTSTRUCT states beside a name: the type and the code of a structure, held against what its
name says."""

from __future__ import annotations

from dataclasses import replace

from anydose.case.naming import structures
from anydose.case.naming.meaning import Meaning
from anydose.case.naming.parse import parse

TARGETS = {"PTV": "ptv", "CTV": "ctv", "GTV": "gtv"}
SUPPORTS = ("SUPPORT", "FIXATION", "BOLUS")
ORGANS = ("ORGAN", "AVOIDANCE")
NO_ANATOMY = (
    "MARKER", "REGISTRATION", "ISOCENTER", "CONTROL", "DOSE_REGION", "CONTRAST_AGENT",
    "DOSE_MEASUREMENT", "TREATED_VOLUME", "IRRAD_VOLUME", "BRACHY_CHANNEL", "BRACHY_ACCESSORY",
    "BRACHY_SRC_APP", "BRACHY_CHNL_SHLD",
)  # fmt: skip
# Codes of the Foundational Model of Anatomy, which TG-263 lists and planning systems write.
FMA = {
    "7647": "SpinalCord", "79876": "Brainstem", "50801": "Brain", "7088": "Heart",
    "7309": "Lung_R", "7310": "Lung_L", "68877": "Lungs", "7197": "Liver",
    "7204": "Kidney_R", "7205": "Kidney_L", "7131": "Esophagus", "7148": "Stomach",
    "7196": "Spleen", "7198": "Pancreas", "7394": "Trachea", "9600": "Prostate",
    "15900": "Bladder", "14544": "Rectum", "55097": "Larynx", "52748": "Bone_Mandible",
    "59797": "Parotid_R", "59798": "Parotid_L", "62045": "OpticChiasm", "9603": "Glnd_Thyroid",
    "7206": "Duodenum", "12514": "Eye_R", "12515": "Eye_L", "59802": "Glnd_Submand_R",
    "59803": "Glnd_Submand_L",
}  # fmt: skip
_ROWS = {row.tg263: row for row in structures.table()}


def read(roi: str, kind: str = "", code: str = "") -> Meaning:
    """What a structure means by its name; where the name says nothing certain, by its type and code.
    Where they
    contradict each other nothing is certain.

    Args:
        roi: the name as the source spells it.
        kind: RTROIInterpretedType (3006,00A4), or ''.
        code: code value of its identification code (3006,0086), or ''.
    """
    named = replace(parse(roi), kind=kind)
    coded = FMA.get(code, "")
    if named.role == "derived":
        return named
    if named.role == "unknown":
        return _by_code(named, coded) if coded and kind not in TARGETS else _by_type(named, kind)
    if named.role == "oar" and coded and coded != named.tg263:
        return _contradiction(named, f"its code says {coded}")
    if named.role == "oar" and kind in TARGETS:
        return _contradiction(named, f"its type says {kind}")
    return named


def _contradiction(named: Meaning, other: str) -> Meaning:
    return Meaning(named.roi, why=f"its name says {named.tg263} and {other}", kind=named.kind)


def _by_code(named: Meaning, tg263: str) -> Meaning:
    row = _ROWS[tg263]
    if named.side and named.side != row.side:
        return replace(named, why=f"its name says {named.side} and its code says {tg263}")
    return Meaning(
        named.roi, tg263, row.role, row.side, why="by its code in the file", source="code", kind=named.kind
    )


def _by_type(named: Meaning, kind: str) -> Meaning:
    why = f"by its type {kind} in the file"
    if kind == "EXTERNAL":
        return Meaning(named.roi, "External", "body", why=why, source="type", kind=kind)
    if kind in TARGETS:
        return Meaning(named.roi, kind, TARGETS[kind], named.side, why=why, source="type", kind=kind)
    if kind in SUPPORTS:
        return Meaning(named.roi, "", "support", why=why, source="type", kind=kind)
    if kind in NO_ANATOMY:
        derived = f"its type is {kind}"
        return Meaning(named.roi, "", "derived", derived=derived, why=why, source="type", kind=kind)
    return named
