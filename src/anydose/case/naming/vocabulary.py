"""Which organs a model sees, each in a channel of its own: a table that lies in the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from anydose.case.naming import structures
from anydose.case.naming.meaning import Meaning
from anydose.case.naming.parse import parse

OTHER = "other"


@dataclass(frozen=True)
class Vocabulary:
    """The organ channels of a model, in order."""

    organs: tuple[str, ...]
    """TG-263 names, each once; 'other' is the channel of every organ without one of its own."""

    def __post_init__(self) -> None:
        if not self.organs or len(set(self.organs)) < len(self.organs):
            raise ValueError(
                f"organs {', '.join(self.organs) or 'none'}: each once, and at least one, is accepted"
            )

    def channel(self, meaning: Meaning) -> int | None:
        """The channel of a structure, or None if it has none. A derived structure is drawn only where the
        vocabulary holds it by name (Parotids-PTV)."""
        if meaning.tg263 in self.organs:
            return self.organs.index(meaning.tg263)
        is_other = meaning.role == "oar" and OTHER in self.organs
        return self.organs.index(OTHER) if is_other else None

    def mirrored(self) -> tuple[int, ...]:
        """Where each channel comes from once left and right are exchanged."""
        partners = (structures.mirrored(organ) for organ in self.organs)
        return tuple(
            self.organs.index(partner if partner in self.organs else organ)
            for organ, partner in zip(self.organs, partners, strict=True)
        )

    @classmethod
    def from_cohort(cls, names: Iterable[str | Meaning]) -> Vocabulary:
        """A channel for every organ, and every derived structure with a name of its own, that the structures
        of a cohort name, in alphabetical order; and of every pair both sides. ValueError if there is none."""
        meanings = [parse(name) if isinstance(name, str) else name for name in names]
        found = {m.tg263 for m in meanings if m.tg263 and m.role in ("oar", "derived")}
        return cls(tuple(sorted(found | {structures.mirrored(organ) for organ in found})))


def _table(text: str) -> Vocabulary:
    return Vocabulary(tuple(text.split()))


HEAD_NECK = _table("Brainstem SpinalCord Parotid_R Parotid_L Esophagus Larynx Bone_Mandible other")
PROSTATE = _table(
    "Bladder Rectum Femur_Head_R Femur_Head_L PenileBulb Bag_Bowel Colon_Sigmoid SeminalVes other"
)
LUNG = _table(
    "Lung_R Lung_L Lungs-GTV Heart Esophagus SpinalCord Trachea GreatVes A_LAD BrachialPlex_R "
    "BrachialPlex_L Liver other"
)
BREAST = _table(
    "Breast_R Breast_L Lung_R Lung_L Heart A_LAD Humerus_Head_R Humerus_Head_L SpinalCord Esophagus "
    "Glnd_Thyroid "
    "Liver other"
)
GDPHMM = _table(
    """Brain Brainstem Brainstem_PRV03 SpinalCord SpinalCord_PRV05 OpticChiasm OpticNrv_R OpticNrv_L Eyes
    Lens_R Lens_L
    Pituitary Cochlea_R Cochlea_L Parotids Parotids-PTV Parotid_Ipsi-PTV Parotid_Contra-PTV Glnd_Submands
    Glnd_Submands-PTV Glnd_Submand_R-PTV Glnd_Submand_L-PTV Cavity_Oral Cavity_Oral-PTV Lips Bone_Mandible
    Bone_Mandible-PTV Larynx Larynx-PTV Musc_Constrict Musc_Constrict-PTV Glnd_Thyroid Glnd_Thyroid-PTV
    PosteriorNeck Shoulders Trachea Esophagus BrachialPlexs Lungs Lungs-GTV Heart A_LAD GreatVes"""
)
BUILT_IN = {
    "head_neck": HEAD_NECK,
    "prostate": PROSTATE,
    "lung": LUNG,
    "breast": BREAST,
    "gdphmm": GDPHMM,
}


def built_in(name: str) -> Vocabulary:
    """The built-in vocabulary of a name; ValueError names those that there are."""
    if name not in BUILT_IN:
        raise ValueError(f"vocabulary {name!r}: one of {', '.join(BUILT_IN)} is accepted")
    return BUILT_IN[name]
