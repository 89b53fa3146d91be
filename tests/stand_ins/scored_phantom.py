"""A patient of boxes with a smooth dose, and scorecard items for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.score.metrics import Definition
from anydose.score.scorecard import Item, Point, Scorecard
from anydose.score.structures import StructureReference

GRID = Grid((20, 24, 22), (3.0, 2.5, 4.0))
Z, Y, X = np.indices(GRID.shape)
BODY = (np.abs(Y - 12) < 11) & (np.abs(X - 11) < 10)
PTV = (np.abs(Y - 11) < 5) & (np.abs(X - 11) < 5) & (np.abs(Z - 10) < 6)
CORD = (np.abs(Y - 19) < 2) & (np.abs(X - 11) < 2)


def dose_gy() -> np.ndarray:
    """60 Gy in the target, falling off around it; every voxel its own value."""
    distance = np.sqrt((Y - 11.0) ** 2 + (X - 11.0) ** 2 + 0.3 * (Z - 10.0) ** 2)
    rng = np.random.default_rng(0)
    return 62.0 / (1 + np.exp((distance - 8) / 1.5)) + rng.uniform(0, 0.5, GRID.shape)


def case(**structures: np.ndarray) -> Case:
    masks = {"Body": BODY, "PTV": PTV, "SpinalCord": CORD, **structures}
    return Case("phantom", GRID, masks, Prescription({"PTV": 60.0}, 30))


def item(name: str, metric: str, *pairs: tuple[float, float], comment: str = "", **of: Any) -> Item:
    curve = tuple(Point(float(x), float(s)) for x, s in pairs)
    return Item(StructureReference(template_id=name, comment=comment), Definition(metric, **of), curve)


COVERAGE = item("PTV", "VolumeAtDose", (0, 0), (100, 10), value=57.0, unit="Gy", output="%")
CORD_MAX = item("SpinalCord", "DoseAtVolume", (0, 8), (60, 0), value=0.03, unit="cc", output="Gy")
HEART = item("Heart", "MeanDose", (0, 5), (20, 0), output="Gy")
EMPTY = item("PTV", "MaxDose", output="Gy")
UNKNOWN = item("PTV", "MedianDose", (0, 1), (1, 0), output="Gy")
MISFIT = item("PTV", "DoseAtVolume", (0, 1), (1, 0), value=95.0, unit="Gy", output="Gy")
RIND = item("Rind", "MeanDose", (0, 4), (60, 0), output="Gy", comment="{<Body>} SUB {<Body>|-5}")
CONFORMITY = item("PTV", "ConformationNumber", (0, 0), (1, 6), value=57.0, unit="Gy")
HOMOGENEITY = item("PTV", "InhomogeneityIndex", (0, 3), (1, 0))


def card(*items: Item) -> Scorecard:
    return Scorecard("test", items, "", "", 2.0, 30)
