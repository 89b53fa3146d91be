"""The curve of a scorecard's item: from a value to its points."""

from __future__ import annotations

from collections.abc import Sequence

from anydose.score.metrics import Number, as_float

CLOSE = 0.01  # two points nearer than this in PointX are one step


def curve(x: Sequence[float], scores: Sequence[float], value: Number) -> Number:
    """Piecewise linear score of `value` (float or scalar tensor) on points with ascending `x`.

    Beyond the ends an increasing curve (first score < last) gives the largest of all scores above and the
    smallest below, any other curve the mirror image; between two points closer than 0.01 the score of the
    lower one. One point scores always. ValueError without points."""
    if not x:
        raise ValueError("the curve has no points")
    flat = value * 0.0  # keeps a tensor a tensor
    at = as_float(value)
    increasing = scores[0] < scores[-1]
    if len(x) == 1:
        return flat + scores[0]
    if at >= x[-1]:
        return flat + (max(scores) if increasing else min(scores))
    if at <= x[0]:
        return flat + (min(scores) if increasing else max(scores))
    upper = next(i for i, edge in enumerate(x) if edge > at)
    x0, x1, y0, y1 = x[upper - 1], x[upper], scores[upper - 1], scores[upper]
    if x1 - x0 < CLOSE:
        return flat + y0
    return y0 + (value - x0) * ((y1 - y0) / (x1 - x0))
