"""Does the anatomy of a case fit its names? The left organ lies on the patient's left, the cord and the
targets
inside the body, and organs have volumes that people have. What does not fit is a sentence, never a change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.case.naming import structures
from anydose.case.naming.meaning import Meaning

Mask = NDArray[np.bool_]
SIDE_MM = 10.0  # a lone organ may lie so far beyond the midline of the body
TARGET_OUTSIDE = 0.05  # of a target may lie outside the body: contours are drawn to half a voxel
ORGAN_OUTSIDE = 0.3  # of an organ: OpenKBP's body is where dose is possible, which cuts through cords
INSIDE = ("SpinalCord", "SpinalCanal", "Brainstem")

# TG-263 stem -> (smallest, largest) volume in cc of an adult's organ, generous; small where scans cut
# organs off.
VOLUME_CC = {
    "Brain": (300, 2000), "Brainstem": (2, 70), "SpinalCord": (1, 160), "SpinalCanal": (2, 300),
    "Parotid": (3, 110), "Glnd_Submand": (1, 40), "Bone_Mandible": (15, 220), "Larynx": (1.5, 120),
    "Esophagus": (1, 120), "Cavity_Oral": (15, 400), "Glnd_Thyroid": (1, 250), "OpticChiasm": (0.05, 4),
    "OpticNrv": (0.05, 5), "Eye": (3, 18), "Lens": (0.02, 2), "Cochlea": (0.02, 3), "Pituitary": (0.02, 5),
    "Musc_Constrict": (1, 80), "Lips": (3, 120), "Lung": (150, 5500), "Lungs": (300, 10000),
    "Heart": (150, 2000), "Trachea": (3, 200), "Liver": (300, 4500), "Kidney": (40, 500),
    "Kidneys": (90, 1000), "Spleen": (20, 1500), "Stomach": (20, 2000), "Bladder": (15, 1500),
    "Rectum": (10, 500), "Femur_Head": (15, 300), "PenileBulb": (0.5, 25), "Prostate": (5, 300),
    "Breast": (50, 4500), "Skin": (20, 6000), "BrachialPlex": (1, 120), "Hippocampus": (0.5, 12),
}  # fmt: skip


def warnings(case: Case) -> list[str]:
    """One sentence for everything in which the anatomy of a case does not fit the names of its structures."""
    organs = [meaning for meaning in case.naming if meaning.role == "oar"]
    filled = [meaning for meaning in organs if case.structures[meaning.roi].any()]
    found = [sentence for meaning in filled if (sentence := _volume(case, meaning))]
    found += _sides(case, [meaning for meaning in filled if meaning.side])
    inner = {m.roi: ORGAN_OUTSIDE for m in filled if m.tg263 in INSIDE} | dict.fromkeys(
        case.targets, TARGET_OUTSIDE
    )
    return found + [sentence for roi, most in inner.items() if (sentence := _outside(case, roi, most))]


def _stem(tg263: str) -> str:
    return tg263 if structures.mirrored(tg263) == tg263 else tg263.rpartition("_")[0]


def _volume(case: Case, meaning: Meaning) -> str:
    low, high = VOLUME_CC.get(_stem(meaning.tg263), (0.0, np.inf))
    cc = float(case.structures[meaning.roi].sum()) * case.grid.voxel_cc
    voxel = case.grid.voxel_cc
    if low - 4 * voxel <= cc <= high + 4 * voxel:
        return ""
    usual = f"{low:g} to {high:g} cc is usual of {meaning.tg263}"
    return f"{meaning.roi!r} has {cc:.3g} cc; {usual}: is it that organ?"


def _sides(case: Case, sided: list[Meaning]) -> list[str]:
    """Of pairs the left one against the right one; of a lone organ its place against the body's middle."""
    left_mm = {meaning.tg263: _x_mm(case, case.structures[meaning.roi]) for meaning in sided}
    middle_mm = None if case.body is None or not case.body.any() else _x_mm(case, case.body)
    found = []
    for meaning in sided:
        partner = left_mm.get(structures.mirrored(meaning.tg263))
        is_pair = partner is not None and structures.mirrored(meaning.tg263) != meaning.tg263
        against_mm = partner if is_pair else middle_mm
        if against_mm is None:
            continue
        towards_its_side_mm = (left_mm[meaning.tg263] - against_mm) * (1 if meaning.side == "L" else -1)
        if towards_its_side_mm < (0.0 if is_pair else -SIDE_MM):
            side, other = ("left", "right") if meaning.side == "L" else ("right", "left")
            found.append(
                f"{meaning.roi!r} means {meaning.tg263} and lies on the patient's {other}, not on the "
                f"{side}: "
                "sides or orientation are wrong"
            )
    return found


def _x_mm(case: Case, mask: Mask) -> float:
    """Where the middle of a mask lies from right to left, in LPS mm."""
    x, _, _ = case.grid.centroid_mm(mask)
    return x


def _outside(case: Case, roi: str, most: float) -> str:
    """A structure that leaves the body, in slices that the body reaches."""
    if case.body is None or not case.body.any():
        return ""
    reached = case.body.any(axis=(1, 2), keepdims=True)
    mask = case.structures[roi] & reached
    outside = float((mask & ~case.body).sum()) / max(float(mask.sum()), 1.0)
    if outside <= most:
        return ""
    return f"{roi!r} lies by {100 * outside:.0f} % outside the body: is the body's contour right?"
