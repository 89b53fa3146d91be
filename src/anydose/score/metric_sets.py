"""Sets of figures for a whole cohort, by name: OpenKBP's, GDP-HMM's, and the Any2Any paper's (its Table 1).

Each takes a case, its reference dose and a predicted one (d, h, w in Gy on the case's grid) and the voxels
where both are known, and returns figures by name. ValueError where the case lacks what a figure needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.case.volume import Volume, bounding_box
from anydose.score import challenge
from anydose.score.compare import psnr, scores, ssim

Dose = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Figures = dict[str, float]
Distance = Callable[[Dose, Dose], float]
MetricSet = Callable[[Case, Dose, Dose, Mask], Figures]
DVH_ERROR = "|"  # in the name of an OpenKBP DVH metric's error: 'D_95 PTV70 | error_gy'


def openkbp(case: Case, truth: Dose, guess: Dose, body: Mask) -> Figures:
    """Dose error, mean DVH error and each DVH metric's error in Gy, in OpenKBP's official arithmetic."""
    errors = challenge.dvh_errors(truth, guess, case.structures, body, 1000 * case.grid.voxel_cc)
    mean = {"openkbp_dvh_gy": float(np.mean(list(errors.values())))} if errors else {}
    each = {f"{name} {DVH_ERROR} error_gy": value for name, value in errors.items()}
    return {"openkbp_dose_gy": challenge.dose_error(truth, guess, body), **mean, **each}


def gdphmm(case: Case, truth: Dose, guess: Dose, body: Mask) -> Figures:
    """GDP-HMM's MAE in Gy: the reference normalised to D97 of the highest target, the prediction taken as it
    is."""
    levels = case.prescription.levels_gy
    if not levels:
        raise ValueError("no target with a prescription")
    high = case.structures[max(levels, key=lambda name: levels[name])]
    normalised = challenge.normalise_to_d97(truth, high, case.rx_max_gy)
    return {"gdphmm_mae_gy": challenge.gdp_hmm_mae(normalised, guess, body)}


def paper(case: Case, truth: Dose, guess: Dose, body: Mask) -> Figures:
    """MAE in the body (Gy), plan score of both doses (%), PSNR (dB) and SSIM in the body's box."""
    start, shape = bounding_box(body)
    box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    points, _ = scores(case, Volume(truth, case.grid, "Gy"), Volume(guess, case.grid, "Gy"))
    return {
        "mae_gy": float(np.abs(truth - guess)[body].mean(dtype=np.float64)),
        **points,
        "psnr_db": psnr(truth[box], guess[box]),
        "ssim": ssim(truth[box], guess[box]),
    }


TABLE: dict[str, MetricSet] = {"openkbp": openkbp, "gdphmm": gdphmm, "paper": paper}


def figures(
    case: Case,
    prediction: Dose,
    metrics: tuple[str, ...],
    perceptual: Mapping[str, Distance] | None = None,
) -> tuple[Figures, list[str]]:
    """(figures by name, sentences on what could not be computed) of a predicted dose (d, h, w) in Gy.
    Voxels beyond the reference's own grid are left out. perceptual: distances of two doses scaled by the
    reference's maximum, by name. Raises ValueError for an unknown set, or a case without dose or body."""
    unknown = [name for name in metrics if name not in TABLE]
    if unknown:
        raise ValueError(f"metrics {unknown[0]!r}: {', '.join(TABLE)} are accepted")
    if case.dose is None or case.body is None:
        raise ValueError(f"{case.name}: no {'reference dose' if case.dose is None else 'body'}")
    known = np.isfinite(case.dose.array)
    truth, body = np.where(known, case.dose.array, np.float32(0)), case.body & known
    guess = np.where(known, prediction, np.float32(0))
    found: Figures = {}
    notes: list[str] = []
    for name in metrics:
        try:
            found |= TABLE[name](case, truth, guess, body)
        except ValueError as error:
            notes.append(f"{name}: {error}")
    start, shape = bounding_box(body)
    box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    for name, distance in (perceptual or {}).items():
        found[name] = distance(truth[box] / truth.max(), guess[box] / truth.max())
    return found, notes
