"""The two challenges' scores, in their official arithmetic: OpenKBP dose and DVH score, GDP-HMM MAE.

Sources: ababier/open-kbp (A. Babier et al., Medical Physics 48, 2021); AAPM GDP-HMM challenge 2025. All doses
in Gy as arrays (d, h, w), all masks boolean of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

NORMALISED = 1e-5  # share of the prescription
Dose = NDArray[np.floating]
Mask = NDArray[np.bool_]

ORGANS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible")
TARGETS = ("PTV56", "PTV63", "PTV70")
METRICS = tuple(f"{m} {s}" for s in ORGANS for m in ("D_0.1_cc", "mean")) + tuple(
    f"{m} {s}" for s in TARGETS for m in ("D_99", "D_95", "D_1")
)


def dose_error(reference: Dose, prediction: Dose, possible_dose: Mask) -> float:
    """OpenKBP dose score of one patient: sum |reference - prediction| / voxels where dose is possible, in Gy;
    the prediction is zeroed outside that mask first."""
    inside = np.where(possible_dose, prediction, 0.0)
    return float(np.abs(reference - inside).sum(dtype=np.float64) / possible_dose.sum())


def dvh_metrics(dose: Dose, structures: Mapping[str, Mask], voxel_mm3: float) -> dict[str, float]:
    """OpenKBP's DVH metrics in Gy by name (METRICS); structures that are absent or empty have none."""
    out: dict[str, float] = {}
    for name in (*ORGANS, *TARGETS):
        mask = structures.get(name)
        if mask is None or not mask.any():
            continue
        values = dose[mask]
        if name in ORGANS:
            hottest = max(1, round(100.0 / voxel_mm3))
            percentile = max(0.0, 100 - 100 * hottest / values.size)  # an organ below 0.1 cc: its lowest dose
            out[f"D_0.1_cc {name}"] = float(np.percentile(values, percentile))
            out[f"mean {name}"] = float(values.mean(dtype=np.float64))
        else:
            for label, rank in (("D_99", 1), ("D_95", 5), ("D_1", 99)):
                out[f"{label} {name}"] = float(np.percentile(values, rank))
    return out


def dvh_errors(
    reference: Dose, prediction: Dose, structures: Mapping[str, Mask], possible_dose: Mask, voxel_mm3: float
) -> dict[str, float]:
    """|metric(reference) - metric(prediction)| in Gy for every metric of one patient."""
    truth = dvh_metrics(reference, structures, voxel_mm3)
    guess = dvh_metrics(np.where(possible_dose, prediction, 0.0), structures, voxel_mm3)
    return {name: abs(truth[name] - guess[name]) for name in truth}


def cohort_scores(dose_errors: Iterable[float], dvh: Iterable[Mapping[str, float]]) -> tuple[float, float]:
    """(dose score, DVH score) of a cohort in Gy: the mean over patients, and the flat mean over every metric
    of every patient."""
    every = [value for patient in dvh for value in patient.values()]
    return float(np.mean(list(dose_errors))), float(np.mean(every))


def normalise_to_d97(dose: Dose, high_ptv: Mask, prescription_gy: float) -> Dose:
    """GDP-HMM normalisation: scaled so that D97% of the high PTV is its prescription (Rx / (3rd percentile +
    1e-5)). A dose that is so already, within a hundred-thousandth, is left as it is: its reader did it."""
    d97_gy = float(np.percentile(dose[high_ptv], 3))
    if abs(d97_gy / prescription_gy - 1) < NORMALISED:
        return dose
    return dose * (prescription_gy / (d97_gy + 1e-5))


def gdp_hmm_mae(reference: Dose, prediction: Dose, body: Mask, threshold_gy: float = 5.0) -> float:
    """GDP-HMM MAE in Gy of doses that are both normalised already: sum of |reference - prediction| over body
    voxels where either exceeds 5 Gy, divided by the body voxels where the *reference* does."""
    either = ((reference > threshold_gy) | (prediction > threshold_gy)) & body
    counted = ((reference > threshold_gy) & body).sum()
    if not counted:
        raise ValueError(f"the reference dose exceeds {threshold_gy} Gy nowhere in the body: no GDP-HMM MAE")
    return float(np.abs(reference - prediction)[either].sum(dtype=np.float64) / counted)
