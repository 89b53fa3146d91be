"""Contours of one structure that overlap in a slice: a hole, a lobe drawn twice over, or the same line twice.

The standard leaves open what two closed contours of one slice mean together (PS3.3 C.8.8.6.3). One inside the
other is a hole, as every planning system draws it. Where they overlap in part, the structure is both of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOBE, HOLE = 0.9, 0.99  # part of the smaller one inside the larger: below it is a lobe, above a hole
THIN_PIXELS, THIN_MM = 0.25, 0.5  # a ring thinner than both is a line drawn twice
SAMPLES = 48  # along the longer side of a pair's common box
EDGES = 256  # tested at a time


@dataclass(frozen=True)
class Overlaps:
    """What was found in one slice."""

    together: tuple[frozenset[int], ...] = ()
    """Groups of contours of which the union is meant."""
    repeated: frozenset[int] = frozenset()
    """Contours drawn again within less than a pixel, to be left out."""
    unclear: int = 0
    """How many pairs may be a hole or a lobe."""


def find_overlaps(polygons: Sequence[Floats], pixel_mm: float) -> Overlaps:
    """How the closed contours of a slice overlap; polygons: (n, 2) in mm."""
    lobes: list[set[int]] = []
    repeated: set[int] = set()
    unclear = 0
    for a, b in _near(polygons):
        if a in repeated or b in repeated:
            continue
        small, large = sorted((a, b), key=lambda k: abs(_area(polygons[k])))
        if _is_thin(polygons[small], polygons[large], pixel_mm):
            repeated.add(small)
        elif _cross(polygons[small], polygons[large]):
            inside = _part_inside(polygons[small], polygons[large])
            if 0 < inside < LOBE:
                lobes.append({a, b})
            unclear += LOBE <= inside < HOLE
    return Overlaps(_joined(lobes), frozenset(repeated), unclear)


def _near(polygons: Sequence[Floats]) -> Iterator[tuple[int, int]]:
    """Pairs whose boxes overlap."""
    low = np.array([p.min(axis=0) for p in polygons])
    high = np.array([p.max(axis=0) for p in polygons])
    for a in range(len(polygons) - 1):
        touch = (low[a + 1 :] < high[a]).all(axis=1) & (high[a + 1 :] > low[a]).all(axis=1)
        yield from ((a, a + 1 + int(b)) for b in np.flatnonzero(touch))


def _area(polygon: Floats) -> float:
    """Signed area in mm2 (shoelace formula)."""
    x, y = (polygon - polygon[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _length(polygon: Floats) -> float:
    return float(np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1).sum())


def _is_thin(small: Floats, large: Floats, pixel_mm: float) -> bool:
    """True if the two are one line drawn twice: what lies between them is thinner than can be drawn."""
    limit = min(THIN_PIXELS * pixel_mm, THIN_MM)
    box = np.abs([small.min(axis=0) - large.min(axis=0), small.max(axis=0) - large.max(axis=0)])
    between = 2 * (abs(_area(large)) - abs(_area(small))) / max(_length(small) + _length(large), 1e-9)
    return bool(box.max() < 2 * limit and between < limit and _part_inside(small, large) > LOBE)


def _cross(a: Floats, b: Floats) -> bool:
    """True if an edge of one properly crosses an edge of the other."""
    start, end = b, np.roll(b, -1, axis=0)
    ends = np.roll(a, -1, axis=0)
    for k in range(0, len(a), EDGES):
        p, q = a[k : k + EDGES, None], ends[k : k + EDGES, None]
        apart = (_side(p, q, start) * _side(p, q, end) < 0) & (
            _side(start, end, p) * _side(start, end, q) < 0
        )
        if apart.any():
            return True
    return False


def _side(a: Floats, b: Floats, point: Floats) -> Floats:
    """Positive where `point` lies left of the line from `a` to `b`."""
    return np.asarray(
        (b[..., 0] - a[..., 0]) * (point[..., 1] - a[..., 1])
        - (b[..., 1] - a[..., 1]) * (point[..., 0] - a[..., 0])
    )


def _part_inside(small: Floats, large: Floats) -> float:
    """The part of the smaller contour's area that lies inside the larger one, by sampling."""
    low, high = small.min(axis=0), small.max(axis=0)
    step = (high - low).max() / SAMPLES
    x, y = (np.arange(a + step / 2, b, step) for a, b in zip(low, high, strict=True))
    own = _inside(small, x, y)
    return float((own & _inside(large, x, y)).sum() / max(own.sum(), 1))


def _inside(polygon: Floats, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Which points of a lattice (len(y), len(x)) lie inside: an odd number of edges cross the row left of
    them."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    inside = np.zeros((len(y), len(x)), dtype=bool)
    for row, height in enumerate(y):
        hit = (y0 > height) != (y1 > height)
        cuts = x0[hit] + (height - y0[hit]) * (x1 - x0)[hit] / (y1 - y0)[hit]
        inside[row] = (np.searchsorted(np.sort(cuts), x) % 2).astype(bool)
    return inside


def _joined(pairs: Sequence[set[int]]) -> tuple[frozenset[int], ...]:
    """Pairs that share a contour as one group."""
    groups: list[set[int]] = []
    for pair in pairs:
        touching = [group for group in groups if group & pair]
        groups = [group for group in groups if not group & pair]
        groups.append(pair.union(*touching))
    return tuple(frozenset(group) for group in groups)
