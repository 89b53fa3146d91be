"""TG-263's names of structures: which there are, which of them come in pairs, and the role of each.

Source: C. Mayo et al., AAPM TG-263, IJROBP 100 (2018), and its later list; head and neck, thorax,
breast, abdomen
and pelvis in full, of the other sites what is drawn as an organ at risk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ROLES = ("oar", "ptv", "ctv", "gtv", "body", "support", "derived", "unknown")

# Pairs: name_L, name_R, and after the colon the name of both together.
PAIRED = """
A_Carotid:A_Carotids A_Coronary:A_Coronaries A_Femoral: A_Iliac:A_Iliacs A_Subclavian: Acetabulum:Acetabula
Atrium:Atria Bone_Mastoid: Bone_Temporal: Bone_Zygomatic: BrachialPlex:BrachialPlexs Breast:Breasts
Bronchus: Buccal_Mucosa: Clavicle:Clavicles Cochlea:Cochleas Conjunctiva: Cornea:Corneas
Ear_External: Ear_Internal: Ear_Middle:
Elbow: Eye:Eyes Femur:Femurs Femur_Head:Femur_Heads Femur_Neck: Femur_Shaft: Foot:Feet
Glnd_Adrenal:Glnd_Adrenals Glnd_Lacrimal:Glnd_Lacrimals Glnd_Subling:Glnd_Sublings
Glnd_Submand:Glnd_Submands Hand:Hands Hemisphere:Hemispheres Hippocampus:Hippocampi Hip:Hips
Humerus:Humeri Humerus_Head: Joint_TM:Joint_TMs Kidney:Kidneys Kidney_Cortex: Kidney_Pelvis: Knee:
Lens:Lenses
Lobe_Frontal: Lobe_Occipital: Lobe_Parietal: Lobe_Temporal:Lobe_Temporals Lung:Lungs Macula:
Musc_Masseter:Musc_Masseters Musc_Pterygoid: Musc_Sclmast: Musc_Temporal: Nipple:
Orbit:Orbits OpticNrv:OpticNrvs OpticTract:
Ovary:Ovaries Parotid:Parotids Retina:Retinas Scapula:Scapulas Shoulder:Shoulders Sinus_Maxillary:
Testis:Testes
Tonsil:Tonsils Ureter:Ureters V_Jugular: Ventricle:Ventricles VestibSemi: Proc_Condyloid:
"""

# Pairs that TG-263 also names without a side, as one structure.
PAIRED_OR_ONE = """
Bronchus Chestwall:Chestwalls SeminalVes:SeminalVess Ribs: Bone_Ilium:Bone_Iliums Bone_Ischium: Bone_Pubis:
Hemisphere
"""

# Lobes and the like, whose name holds their side.
SIDED_ONES = "Lung_LLL:L Lung_LUL:L Lung_RLL:R Lung_RML:R Lung_RUL:R"

SINGLE = """
A_Aorta A_Aorta_Asc A_LAD A_LCX A_Celiac A_Mesenteric_S A_Pulmonary Anus Bag_Bowel Bag_Ostomy BileDuct_Common
Bladder Bladder_Wall Bone_Ethmoid Bone_Frontal Bone_Hyoid Bone_Mandible Bone_Nasal Bone_Occipital
Bone_Palatine
Bone_Parietal Bone_Pelvic Bone_Sphenoid Bone BoneMarrow BoneMarrow_Act Bowel Bowel_Large Bowel_Small Brain
Brain-CTV Brain-GTV Brainstem Brainstem_Core Brainstem_Surf Canal_Anal Carina Cartlg_Thyroid CaudaEquina
Cavernosum Cavity_Nasal Cavity_Oral Cecum Cerebellum Cerebrum Cervix Colon Colon_Ascending Colon_Descending
Colon_Sigmoid Colon_Transverse Cricoid Cricopharyngeus CribriformPlate Dens Diaphragm Duodenum Edema Esophagus
Esophagus_I Esophagus_M Esophagus_S Fossa_Posterior Gallbladder Genitals Glnd_Thymus Glnd_Thyroid Glottis
GreatVes
Hardpalate Heart Hypothalamus Ileum Jejunum Labia Larynx Larynx_SG Lips Lip_Lower Lip_Upper Liver Liver-CTV
Liver-GTV
Lungs-CTV Lungs-GTV Lungs-ITV Maxilla Mediastinum Musc_Constrict Musc_Constrict_I Musc_Constrict_M
Musc_Constrict_S
Nasopharynx Nose OpticChiasm Oropharynx Palate_Soft Pancreas Parametrium Penis PenileBulb Pericardium
Perineum Peritoneum Pharynx Pineal Pituitary Pons PosteriorNeck Prostate ProstateBed PubicSymphys
Rectum Rectum_Wall Sacrum Scalp Scrotum Sinus_Ethmoid Sinus_Frontal Sinus_Sphenoid Skin Skull Spc_Bowel
Spc_Supraclav
SpinalCanal SpinalCord Spleen Sternum Stomach Sys_Ventricular Teeth ThecalSac Tongue Tongue_All Tongue_Base
Tongue_Oral Trachea Urethra Uterus V_Portal V_Pulmonary V_Venacava_I V_Venacava_S Vagina Valve_Aortic
Valve_Mitral Valve_Pulmonic Valve_Tricuspid VB Vulva
"""

SUPPORT = "Bolus CouchSurface CouchInterior"
_SIDE = re.compile(r"_(L|R)(?=$|[-_])")


@dataclass(frozen=True)
class Name:
    """One structure of TG-263."""

    tg263: str
    """Its name there."""
    role: str
    """'oar', 'body', 'gtv', 'ctv', 'ptv' or 'support'."""
    mirror: str = ""
    """The name of its mirror image, the paired organ on the other side, or ''."""
    aliases: tuple[str, ...] = ()
    """Spellings of datasets and clinics, in English."""
    side: str = ""
    """'L', 'R' or ''."""


def mirrored(tg263: str) -> str:
    """The name of the mirror image: Parotid_L-PTV for Parotid_R-PTV; itself where there is no side in it."""
    return _SIDE.sub(lambda m: "_R" if m.group(1) == "L" else "_L", tg263, count=1)


def pairs() -> dict[str, str]:
    """Base name of every paired organ -> the name of both together, or ''."""
    found: dict[str, str] = {}
    for entry in (*PAIRED.split(), *PAIRED_OR_ONE.split()):
        base, _, both = entry.partition(":")
        found[base] = both or found.get(base, "")
    return found


def side_optional() -> frozenset[str]:
    """Base names of pairs that are one structure without a side."""
    return frozenset(entry.partition(":")[0] for entry in PAIRED_OR_ONE.split())


def table() -> tuple[Name, ...]:
    """Every name with its role and mirror image."""
    rows: dict[str, Name] = {}

    def add(tg263: str, role: str, mirror: str = "", side: str = "") -> None:
        rows.setdefault(tg263, Name(tg263, role, mirror, side=side))

    for base, both in pairs().items():
        add(f"{base}_L", "oar", f"{base}_R", "L")
        add(f"{base}_R", "oar", f"{base}_L", "R")
        if both:
            add(both, "oar")
    for base in (*side_optional(), *SINGLE.split()):
        add(base, "oar")
    for entry in SIDED_ONES.split():
        tg263, _, side = entry.partition(":")
        add(tg263, "oar", "", side)
    for tg263 in SUPPORT.split():
        add(tg263, "support")
    add("External", "body")
    for target in ("GTV", "CTV", "PTV"):
        add(target, target.lower())
    return tuple(sorted(rows.values(), key=lambda row: row.tg263))
