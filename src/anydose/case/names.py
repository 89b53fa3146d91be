"""What structures are called: TG-263 names, the aliases of each dataset, and the role each name plays.

One table; roles, organ channels and dataset names are derived from it. A name that the table does not hold is
never matched by similarity: `find` returns None and the caller says so.
Sources: AAPM TG-263 (names), ababier/open-kbp (OpenKBP), AAPM GDP-HMM 2025 challenge (GDP-HMM).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """One structure: TG-263 name, role ('oar', 'body', 'gtv', 'ctv', 'support'), its mirror image (the name
    of the paired organ on the other side, or ''), aliases as the datasets and clinics write them."""

    tg263: str
    role: str
    mirror: str = ""
    aliases: tuple[str, ...] = ()


TABLE: tuple[Name, ...] = (
    Name("Brainstem", "oar", "", ("BrainStem", "Brain_Stem", "BRAIN STEM")),
    Name("SpinalCord", "oar", "", ("Spinal_Cord", "Cord", "Spinal Cord", "SPINL CORD")),
    Name(
        "Parotid_R",
        "oar",
        "Parotid_L",
        ("RightParotid", "Right Parotid", "Parotid R", "Rt Parotid", "ParotidR"),
    ),
    Name(
        "Parotid_L",
        "oar",
        "Parotid_R",
        ("LeftParotid", "Left Parotid", "Parotid L", "Lt Parotid", "ParotidL"),
    ),
    Name("Esophagus", "oar", "", ("Oesophagus", "Esophagus_S")),
    Name("Larynx", "oar", "", ("LarynxGlottis", "GlotticLarynx")),
    Name("Bone_Mandible", "oar", "", ("Mandible", "Mandible_Bone")),
    Name("Cavity_Oral", "oar", "", ("OralCavity", "Oral Cavity", "OCavity")),
    Name("Glnd_Submand_L", "oar", "Glnd_Submand_R", ("Submandibular_L", "SubmandL", "Left Submandibular")),
    Name("Glnd_Submand_R", "oar", "Glnd_Submand_L", ("Submandibular_R", "SubmandR", "Right Submandibular")),
    Name("Brain", "oar"),
    Name("OpticChiasm", "oar", "", ("Chiasm", "Optic Chiasm")),
    Name("OpticNrv_L", "oar", "OpticNrv_R", ("OpticNerve_L", "Left Optic Nerve")),
    Name("OpticNrv_R", "oar", "OpticNrv_L", ("OpticNerve_R", "Right Optic Nerve")),
    Name("Eye_L", "oar", "Eye_R", ("Left Eye",)),
    Name("Eye_R", "oar", "Eye_L", ("Right Eye",)),
    Name("Lens_L", "oar", "Lens_R", ("Left Lens",)),
    Name("Lens_R", "oar", "Lens_L", ("Right Lens",)),
    Name("Cochlea_L", "oar", "Cochlea_R", ("Left Cochlea",)),
    Name("Cochlea_R", "oar", "Cochlea_L", ("Right Cochlea",)),
    Name("BrachialPlex_L", "oar", "BrachialPlex_R", ("BrachialPlexus_L", "Left Brachial Plexus")),
    Name("BrachialPlex_R", "oar", "BrachialPlex_L", ("BrachialPlexus_R", "Right Brachial Plexus")),
    Name("BrachialPlexs", "oar", "", ("BrachialPlexus", "Brachial Plexus")),
    Name("Musc_Constrict", "oar", "", ("PharynxConst", "PharConst", "Pharynx", "Constrictors")),
    Name("Lips", "oar"),
    Name("Glnd_Thyroid", "oar", "", ("Thyroid",)),
    Name("Pituitary", "oar", "", ("Hypophysis",)),
    Name("Shoulders", "oar", "", ("Shoulder",)),
    Name("PosteriorNeck", "oar", "", ("Posterior_Neck", "PostNeck")),
    Name("Lung_L", "oar", "Lung_R", ("Left Lung", "LungLeft")),
    Name("Lung_R", "oar", "Lung_L", ("Right Lung", "LungRight")),
    Name("Lungs", "oar", "", ("Lung_Total", "Total Lung", "LungTotal")),
    Name("Lungs-GTV", "oar", "", ("Lungs_Sub_GTV", "Lung_Total-GTV", "LungTotal-GTV", "Lungs-IGTV")),
    Name("Heart", "oar"),
    Name("A_LAD", "oar", "", ("LAD",)),
    Name("GreatVes", "oar", "", ("GreatVessels", "Great Vessels")),
    Name("Trachea", "oar"),
    Name("Liver", "oar"),
    Name("Kidney_L", "oar", "Kidney_R", ("Left Kidney",)),
    Name("Kidney_R", "oar", "Kidney_L", ("Right Kidney",)),
    Name("Rectum", "oar", "", ("Rectum_O",)),
    Name("Bladder", "oar", "", ("Bladder_O",)),
    Name("Femur_Head_L", "oar", "Femur_Head_R", ("Left Femur", "FemoralHead_L", "Femur_L")),
    Name("Femur_Head_R", "oar", "Femur_Head_L", ("Right Femur", "FemoralHead_R", "Femur_R")),
    Name("PenileBulb", "oar", "", ("Penile Bulb",)),
    Name("Bowel", "oar", "", ("Bowel_Small", "BowelBag", "Bag_Bowel")),
    Name("External", "body", "", ("Body", "Skin", "BODY", "Patient", "possible_dose_mask", "Outer Contour")),
    Name("GTV", "gtv"),
    Name("CTV", "ctv"),
    Name("CouchSurface", "support", "", ("Couch", "CouchInterior", "Couch Surface", "Couch Interior")),
)

# The organs of the compact head-and-neck model, one channel each, and a last channel for every other organ.
ORGAN_CHANNELS = (
    "Brainstem",
    "SpinalCord",
    "Parotid_R",
    "Parotid_L",
    "Esophagus",
    "Larynx",
    "Bone_Mandible",
    "other",
)


def _key(text: str) -> str:
    return re.sub(r"[\s_.\-]+", "", text).lower()


_BY_KEY = {_key(alias): row for row in TABLE for alias in (row.tg263, *row.aliases)}
_TARGET = re.compile(r"^z?(ptv|gtv|ctv|itv)", re.IGNORECASE)


def find(name: str) -> Name | None:
    """The row that `name` means, or None. Case, blanks, '_', '-' and '.' do not matter; nothing else is
    bent."""
    return _BY_KEY.get(_key(name))


def role(name: str) -> str:
    """'ptv', 'gtv', 'ctv', 'oar', 'body', 'support' or 'unknown'. A target is any name that starts with PTV,
    GTV or CTV; planning helpers (rings, 'minus' structures, 'NS_...') are 'unknown'."""
    row = find(name)
    if row is not None:
        return row.role
    match = _TARGET.match(name.strip())
    if match is None or re.search(r"ring|minus|avoid|[^a-z]eval|prv", name, re.IGNORECASE):
        return "unknown"
    kind = match.group(1).lower()
    return "ctv" if kind == "itv" else kind


def organ_channel(name: str) -> int:
    """The channel of an organ among ORGAN_CHANNELS; the last one for organs without a channel of their
    own."""
    row = find(name)
    label = row.tg263 if row is not None and row.tg263 in ORGAN_CHANNELS else "other"
    return ORGAN_CHANNELS.index(label)


def mirrored_channels() -> tuple[int, ...]:
    """Where each organ channel comes from once left and right are exchanged."""
    mirror = {row.tg263: row.mirror or row.tg263 for row in TABLE}
    return tuple(ORGAN_CHANNELS.index(mirror.get(name, name)) for name in ORGAN_CHANNELS)
