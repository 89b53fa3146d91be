"""A row a patient in OpenKBP's official arithmetic, and the cohort's two scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.score import challenge

Doses = Callable[[Case], NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """One patient's scores: OpenKBP dose error in Gy, DVH metric errors in Gy, seconds for the prediction."""

    patient: str
    dose_error: float
    dvh_errors: dict[str, float]
    seconds: float
    has_ct: bool

    @property
    def dvh_error(self) -> float:
        """Mean DVH metric error of this patient in Gy."""
        return float(np.mean(list(self.dvh_errors.values())))


def rows(cases: Iterable[Case], dose_of: Doses) -> Iterator[Row]:
    """Score every case that has a reference dose; `dose_of(case)` predicts (d, h, w) in Gy without seeing
    it."""
    for case in cases:
        if case.dose is None or case.body is None:
            continue
        begin = time.monotonic()
        dose = dose_of(case)
        seconds = time.monotonic() - begin
        reference = case.dose.in_unit("Gy")
        voxel_mm3 = 1000.0 * case.grid.voxel_cc
        dvh = challenge.dvh_errors(reference, dose, case.structures, case.body, voxel_mm3)
        error = challenge.dose_error(reference, dose, case.body)
        yield Row(case.name, error, dvh, seconds, case.ct is not None)


def summary(table: list[Row]) -> dict[str, float | int]:
    """The cohort's official scores and the mean time a case; ValueError for a cohort with no reference
    dose."""
    if not table:
        raise ValueError("no case with a reference dose: nothing to evaluate")
    dose, dvh = challenge.cohort_scores([r.dose_error for r in table], [r.dvh_errors for r in table])
    return {
        "patients": len(table),
        "patients_without_ct": sum(not r.has_ct for r in table),
        "dose_score": round(dose, 4),
        "dvh_score": round(dvh, 4),
        "seconds_per_case": round(float(np.mean([r.seconds for r in table])), 2),
    }
