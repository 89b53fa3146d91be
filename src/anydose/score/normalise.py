"""The factor on a dose with which it scores best: plan normalisation as the PlanScoreCard format knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from anydose.score.binding import BoundScorecard
from anydose.score.dvh import DVH
from anydose.score.scorecard import Item, Point
from anydose.score.scoring import Score, on_case, total_of

STEP_PARTS = (10, 100, 1000)
REACH = 0.2


def normalised(bound: BoundScorecard, dose: Any, without: Iterable[int] = ()) -> tuple[float, Score]:
    """The factor on the dose, within 20 % of 1, with the highest total, and its score. Searched in steps of
    a tenth, a hundredth and a thousandth of the distance, each about the best so far; while searching, a
    point of score 0 counts -1000 and recovers within 0.1 of PointX, so that no item is given up. without:
    items (from 0) that do not count in the search."""
    flat = np.asarray(on_case(bound.case, dose)).reshape(-1)
    base = {key: DVH(flat[index], bound.case.grid.voxel_cc) for key, index in bound.index.items()}
    left_out = set(without)
    steep = tuple(_steep(item) for item in bound.card.items)
    kept = [k for k in range(len(steep)) if k not in left_out]
    card = replace(bound.card, items=tuple(steep[k] for k in kept))
    search = replace(bound, card=card, rows=tuple(bound.rows[k] for k in kept))

    def at_factor(of: BoundScorecard, factor: float) -> Score:
        scaled = {key: histogram.scaled(factor) for key, histogram in base.items()}
        return total_of(of, scaled.__getitem__)

    best, reach = 1.0, REACH
    for parts in STEP_PARTS:
        step = REACH / parts
        around = best + step * np.arange(-round(reach / step), round(reach / step) + 1)
        allowed = [float(f) for f in around if abs(f - 1) <= REACH + 1e-9]
        best = max(allowed, key=lambda factor: (at_factor(search, factor).total, -abs(factor - 1)))
        reach = step
    return best, at_factor(bound, best)


def _steep(item: Item) -> Item:
    """The curve with -1000 at its zero-score points and a tail of 0.1 back to 0 on the side that scores."""
    points: list[Point] = []
    for number, point in enumerate(item.points):
        if point.score != 0:
            points.append(point)
            continue
        after = item.points[number + 1 :]
        side = 0.1 if after and max(p.score for p in after) > 0 else -0.1
        points += [replace(point, score=-1000.0), replace(point, x=point.x + side, variation=False)]
    return replace(item, points=tuple(points))
