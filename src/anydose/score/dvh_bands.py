"""DVH curves of a cohort: of each case by the structure's TG-263 name, and their spread over the cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.score.dvh import structure_dvh

STEP_GY, TOP_GY = 1.0, 80.0
AT_GY = np.arange(0.0, TOP_GY + STEP_GY, STEP_GY)
"""Where a curve has its points."""
SHARES = (0.1, 0.5, 0.9)
"""Quantiles over the cases: the band and its median."""
FEWEST = 2  # cases of a band

Curves = Mapping[str, Mapping[str, list[float]]]
"""Structure -> {'predicted', 'reference'} -> volume in percent at every dose of AT_GY."""


def curves_of(case: Case, predicted: Volume, reference: Volume) -> dict[str, dict[str, list[float]]]:
    """The curves of one case's targets (by prescription) and organs (by TG-263 name). What has no voxel, or
    not everywhere a known dose, is left out."""
    found = {}
    for name, label in _labels(case).items():
        try:
            both = {
                "predicted": structure_dvh(case, predicted, name).curve(AT_GY),
                "reference": structure_dvh(case, reference, name).curve(AT_GY),
            }
        except ValueError:
            continue
        found[label] = {of: [round(float(v), 2) for v in curve] for of, curve in both.items()}
    return found


def _labels(case: Case) -> dict[str, str]:
    levels = case.prescription.levels_gy
    targets = {name: f"PTV {levels[name]:g} Gy" for name in case.targets}
    organs = {row.roi: row.tg263 for row in case.naming if row.role == "oar" and row.tg263}
    return {**targets, **organs}


@dataclass(frozen=True)
class Band:
    """One structure over the cases that have it."""

    structure: str
    cases: int
    predicted: NDArray[np.float64]
    """Volume in percent (3, m): the quantiles SHARES at every dose of AT_GY."""
    reference: NDArray[np.float64]
    """The same of the clinic's dose."""


def bands(cases: Iterable[Curves]) -> list[Band]:
    """A band of every structure that at least two cases have, those of most cases first."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for curves in cases:
        for name, both in curves.items():
            by_name.setdefault(name, []).append(both)
    found = [
        Band(name, len(rows), _spread(rows, "predicted"), _spread(rows, "reference"))
        for name, rows in by_name.items()
        if len(rows) >= FEWEST
    ]
    return sorted(found, key=lambda band: (-band.cases, band.structure))


def _spread(rows: list[Mapping[str, Any]], of: str) -> NDArray[np.float64]:
    return np.asarray(np.quantile([row[of] for row in rows], SHARES, axis=0), dtype=np.float64)
