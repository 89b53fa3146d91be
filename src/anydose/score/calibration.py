"""Intervals that hold what they say: half-widths of a predicted dose, per voxel and per DVH point, calibrated
on patients whose true dose is known.

Locally weighted split conformal prediction (Lei et al., JASA 113, 2018, section 5.2): the expected error s of
a voxel is a non-negative combination of what is known beside the dose (FEATURES), fitted to |error|; the
half-width at coverage c is q(c) s with q(c) the c-quantile of |error| / s over the patients fitted on, each
counting alike. Voxels of one patient err together, so coverage is an average over patients, not a promise for
one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.score import sealed

Array = NDArray[np.floating]
COVERAGES = (0.5, 0.8, 0.95)
LEVELS = (0.1, 0.5, 0.8, 0.95)  # of the reference dose: what an error is expected to be jumps between them
FEATURES = ("spread", "gradient", *(f"level_{k}" for k in range(len(LEVELS) + 1)))
POINTS = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)  # D_v: the dose that v percent reach
VOXELS = 4000  # of a patient, drawn at random: they all weigh the same
SMALLEST_GY = 0.01  # no expected error is below it
RENAMED = {"views": "looks", "reachable": "mimic"}  # names in files of before version 0.2


@dataclass(frozen=True)
class Calibration:
    """weights: Gy of expected error per unit of each feature; voxel: coverage -> q; points: 'ptv D_95' ->
    coverage -> q; about: which model, options and patients it was fitted to."""

    weights: Mapping[str, float]
    voxel: Mapping[str, float]
    points: Mapping[str, Mapping[str, float]]
    about: Mapping[str, Any] = field(default_factory=dict)

    def expected_error(self, features: Array) -> Array:
        """s in Gy (...) of features (..., FEATURES)."""
        weights = np.array([self.weights[name] for name in FEATURES])
        expected: Array = np.maximum(features @ weights, SMALLEST_GY)
        return expected

    def half_width(self, dose_gy: Array, spread_gy: Array, grid: Grid, rx_max_gy: float, c: float) -> Array:
        """Half-width in Gy (d, h, w) of every voxel's interval at coverage c, one of COVERAGES."""
        found = self.expected_error(features(dose_gy, spread_gy, grid, rx_max_gy))
        return (found * self.voxel[f"{c:g}"]).astype(np.float32)


@dataclass(frozen=True)
class Point:
    """One DVH point of one patient: role ('ptv' or 'oar') and kind ('D_95', 'mean'), its value in Gy, the
    features' means over the structure, and the error in Gy where the truth is known."""

    structure: str
    role: str
    kind: str
    value_gy: float
    features: Array
    error_gy: float = 0.0


@dataclass(frozen=True)
class Observed:
    """What calibration keeps of a patient: features (n, FEATURES) and |error| in Gy (n,) of some voxels of
    the body, and every DVH point."""

    patient: str
    features: Array
    error_gy: Array
    points: tuple[Point, ...]


def features(dose_gy: Array, spread_gy: Array, grid: Grid, rx_max_gy: float) -> Array:
    """(d, h, w, FEATURES): the spread over views and samples in Gy, the dose gradient in Gy / mm, and which
    band of dose the voxel lies in."""
    z, y, x = grid.spacing_zyx_mm
    slopes = [
        np.gradient(dose_gy, mm, axis=k) if dose_gy.shape[k] > 1 else 0 for k, mm in enumerate((z, y, x))
    ]
    gradient = np.sqrt(sum(np.square(s) for s in slopes))
    band = np.searchsorted(LEVELS, dose_gy / rx_max_gy)
    levels = [band == k for k in range(len(LEVELS) + 1)]
    return np.stack([spread_gy, gradient, *levels], axis=-1).astype(np.float32)


def dvh_points(case: Case, dose_gy: Array, of_voxels: Array) -> list[Point]:
    """Every DVH point of the case's targets and organs; of_voxels: `features`."""
    found = []
    roles = {"ptv": case.targets or case.of_role("ptv"), "oar": case.of_role("oar")}
    for role, masks in roles.items():
        for name, mask in masks.items():
            if mask.any():
                mean = of_voxels[mask].mean(axis=0)
                values = _values(dose_gy[mask], 1000 * case.grid.voxel_cc)
                found += [Point(name, role, kind, gy, mean) for kind, gy in values.items()]
    return found


def _values(dose_gy: Array, voxel_mm3: float) -> dict[str, float]:
    hottest = max(1, round(100.0 / voxel_mm3))
    ranks = np.percentile(dose_gy, [100 - v for v in POINTS])
    values = {f"D_{v}": float(gy) for v, gy in zip(POINTS, ranks, strict=True)}
    values["D_0.1_cc"] = float(np.percentile(dose_gy, max(0.0, 100 - 100 * hottest / dose_gy.size)))
    return {**values, "mean": float(dose_gy.mean(dtype=np.float64))}


def observe(case: Case, dose_gy: Array, spread_gy: Array) -> Observed:
    """A patient with a true dose, and what was predicted of it (d, h, w) in Gy. ValueError without a true
    dose or a body."""
    if case.dose is None or case.body is None:
        raise ValueError(f"{case.name}: a true dose and a body are needed to calibrate on")
    truth = case.dose.in_unit("Gy")
    known = features(dose_gy, spread_gy, case.grid, case.rx_max_gy)
    error = np.abs(truth - dose_gy)
    inside = np.flatnonzero(case.body)
    chosen = np.random.default_rng(0).choice(inside, min(VOXELS, len(inside)), replace=False)
    right = dvh_points(case, truth, known)
    points = [
        Point(p.structure, p.role, p.kind, p.value_gy, p.features, abs(p.value_gy - t.value_gy))
        for p, t in zip(dvh_points(case, dose_gy, known), right, strict=True)
    ]
    return Observed(case.name, known.reshape(-1, len(FEATURES))[chosen], error.ravel()[chosen], tuple(points))


def fit(
    patients: Sequence[Observed], about: Mapping[str, Any] | None = None, used: Sequence[str] = FEATURES
) -> Calibration:
    """Calibrate on patients with a true dose; used: the features that may weigh anything."""
    known, error = _joined(patients)
    allowed = np.array([name in used for name in FEATURES])
    found, _ = nnls((known * allowed).astype(np.float64), error.astype(np.float64))
    weights = dict(zip(FEATURES, (round(float(w), 5) for w in found), strict=True))
    bare = Calibration(weights, {}, {})
    ratio = error / bare.expected_error(known)
    voxel = {f"{c:g}": round(float(np.quantile(ratio, c)), 4) for c in COVERAGES}
    ratios: dict[str, list[float]] = {}
    for p in (p for one in patients for p in one.points):
        ratios.setdefault(f"{p.role} {p.kind}", []).append(
            p.error_gy / float(bare.expected_error(p.features))
        )
    points = {kind: {f"{c:g}": _conformal(r, c) for c in COVERAGES} for kind, r in ratios.items()}
    return Calibration(weights, voxel, points, about or {})


def _joined(patients: Sequence[Observed]) -> tuple[Array, Array]:
    return np.concatenate([p.features for p in patients]), np.concatenate([p.error_gy for p in patients])


def _conformal(ratios: Sequence[float], c: float) -> float:
    """The ceil((n + 1) c)-th smallest ratio, the largest where n is too small for that."""
    ordered = np.sort(ratios)
    return round(float(ordered[min(int(np.ceil((len(ordered) + 1) * c)), len(ordered)) - 1]), 4)


def coverage(calibration: Calibration, patients: Sequence[Observed]) -> dict[str, float]:
    """Over patients that were not fitted on, for every coverage c: the share of voxels whose true dose lies
    in its interval, that of the worst patient, and the mean half-width in Gy."""
    rows: dict[str, float] = {}
    ratio = [p.error_gy / calibration.expected_error(p.features) for p in patients]
    expected = np.mean([calibration.expected_error(p.features).mean() for p in patients])
    for c, q in calibration.voxel.items():
        share = [float((r <= q).mean()) for r in ratio]
        rows |= {f"voxel_{c}": float(np.mean(share)), f"voxel_{c}_worst_patient": min(share)}
        rows[f"half_width_{c}_gy"] = float(expected * q)
    return rows


def point_coverage(
    calibration: Calibration, patients: Sequence[Observed]
) -> dict[str, dict[str, list[bool]]]:
    """Kind of DVH point -> coverage -> whether each patient's true value lay in its interval."""
    rows: dict[str, dict[str, list[bool]]] = {}
    for p in (p for one in patients for p in one.points):
        kind = f"{p.role} {p.kind}"
        if kind in calibration.points:
            ratio = p.error_gy / float(calibration.expected_error(p.features))
            for c, q in calibration.points[kind].items():
                rows.setdefault(kind, {}).setdefault(c, []).append(ratio <= q)
    return rows


def bands(calibration: Calibration, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Every DVH point with the bounds of its intervals in Gy: structure, point, gy, low_50, high_50, ..."""
    rows = []
    for p in points:
        q = calibration.points.get(f"{p.role} {p.kind}")
        if q is None:
            continue
        expected = float(calibration.expected_error(p.features))
        row: dict[str, Any] = {"structure": p.structure, "point": p.kind, "gy": p.value_gy}
        for c in COVERAGES:
            half = q[f"{c:g}"] * expected
            row |= {f"low_{100 * c:g}": max(p.value_gy - half, 0.0), f"high_{100 * c:g}": p.value_gy + half}
        rows.append(row)
    return rows


def read(path: Path) -> Calibration:
    """A calibration as `as_json` wrote it. Raises ValueError for a damaged file."""
    stored = sealed.read(path)
    try:
        stored["about"] = {RENAMED.get(key, key): value for key, value in stored.get("about", {}).items()}
        found = Calibration(**stored)
        if missing := [name for name in FEATURES if name not in found.weights]:
            raise ValueError(f"no weight of {missing[0]}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: damaged, no calibration ({type(error).__name__}: {error})") from error
    return found


def as_json(calibration: Calibration) -> dict[str, Any]:
    """What `read` reads."""
    return sealed.seal(asdict(calibration))
