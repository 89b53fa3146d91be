"""What given beams can reach: the doses of all fluences that are nowhere negative. A plan's dose is one of
them, a network's need not be. `reachable` takes a dose to the nearest one, as dose mimicking does (M.
Eriksson, T. Zhang, Med Phys 49, 2022), by the simplest dose engine there is: fluence on diverging rays,
weakened by the tissue that it has passed."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse

from anydose.case import modality
from anydose.case.beams import MU_PER_MM, THREADS, View, project, radiological_depth, views
from anydose.case.case import Case
from anydose.case.grid import Floats, Grid

Mask = NDArray[np.bool_]
Dose = NDArray[np.float32]


@dataclass(frozen=True)
class Mimic:
    """How the nearest reachable dose is found. pixel_mm: of the fluence, at the isocentre; margin_pixels:
    how far it reaches beyond the targets' outline; target_weight, organ_weight: of a voxel there, against 1
    elsewhere; outlier_gy: from where a difference counts linearly (Huber); share: how much of the change is
    made in targets and organs, where a network knows more of the plan (all of it elsewhere); iterations: of
    L-BFGS-B; most_views: an arc is drawn at more, and reaches nearly everything. Chosen on OpenKBP's
    validation patients, who care little (docs/results)."""

    pixel_mm: float = 5.0
    margin_pixels: int = 2
    target_weight: float = 3.0
    organ_weight: float = 4.0
    outlier_gy: float = 2.0
    share: float = 0.5
    iterations: int = 60
    most_views: int = 24


def is_defined(case: Case, how: Mimic | None = None) -> bool:
    """True if the case states what is needed: a body, a target and beams that are no arcs."""
    count = len(views(case.beams, case.patient_position))
    return case.body is not None and bool(case.targets) and 0 < count <= (how or Mimic()).most_views


def reachable(dose_gy: Dose, case: Case, how: Mimic | None = None) -> Dose:
    """The reachable dose (d, h, w) in Gy nearest to `dose_gy`; ValueError for a case where it is not
    defined (`is_defined`)."""
    how = how or Mimic()
    if not is_defined(case, how) or case.body is None:
        raise ValueError(f"{case.name}: a body, a target and 1 to {how.most_views} beam angles are needed")
    target, organ = (
        np.logical_or.reduce([np.zeros_like(case.body), *masks])[case.body]
        for masks in (case.targets.values(), case.of_role("oar").values())
    )
    wanted = dose_gy[case.body]
    weight = np.where(target, how.target_weight, np.where(organ, how.organ_weight, 1.0)).astype(np.float32)
    matrix = influence(case, how)
    change = matrix @ fluence(matrix, wanted, weight, how) - wanted
    out = dose_gy.copy()
    out[case.body] = np.maximum(wanted + np.where(target | organ, how.share, 1.0) * change, 0)
    return out


def influence(case: Case, how: Mimic) -> Any:
    """The dose to each voxel of the body (rows) from each fluence pixel of each view (columns), a sparse
    matrix."""
    assert case.body is not None
    target = np.logical_or.reduce(list(case.targets.values()))[case.body]
    one = partial(
        _of_view, grid=case.grid, body=case.body, target=target, density=modality.density(case), how=how
    )

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(one, views(case.beams, case.patient_position)))
    return sparse.hstack(found, format="csr")


def _of_view(v: View, grid: Grid, body: Mask, target: Mask, density: Dose, how: Mimic) -> Any:
    """One view's columns: inverse square, exp(-mu * radiological depth), bilinear between pixels."""
    across, up, along = (k[body] for k in project(v, grid))
    strength = np.exp(-MU_PER_MM * radiological_depth(v, density, grid, body)[body]) * (v.sad_mm / along) ** 2
    # pixels are counted from the axis, so that a mirrored patient has exactly the mirrored ones
    at = np.stack([up, across]) / how.pixel_mm
    pixel = np.floor(at).astype(int)
    part = (at - pixel).astype(np.float32)
    first = pixel[:, target].min(axis=1) - how.margin_pixels - 1
    size = pixel[:, target].max(axis=1) + how.margin_pixels + 3 - first
    pixel -= first[:, None]
    corners = [np.array(c)[:, None] for c in itertools.product((0, 1), repeat=2)]
    outline = np.zeros(size, dtype=bool)
    for corner in corners:
        touched = target & (np.where(corner, part, 1 - part) > 1e-3).all(axis=0)
        outline[tuple(pixel[:, touched] + corner)] = True
    opened = ndimage.binary_dilation(outline, iterations=how.margin_pixels)
    column = np.full(size, -1)
    column[opened] = np.arange(opened.sum())
    entries = []
    for corner in corners:
        to = column[tuple(np.clip(pixel + corner, 0, size[:, None] - 1))]  # the rim is never open
        rows = np.flatnonzero(to >= 0)
        share = np.prod(np.where(corner, part, 1 - part)[:, rows], axis=0)
        entries.append((strength[rows] * share, rows, to[rows]))
    values, rows, to = (np.concatenate(column) for column in zip(*entries, strict=True))
    return sparse.csr_array((values.astype(np.float32), (rows, to)), shape=(len(along), int(opened.sum())))


def fluence(matrix: Any, wanted: Dose, weight: Dose, how: Mimic) -> Dose:
    """The fluence of every column, nowhere negative, whose dose to the rows has the least weighted Huber
    loss to `wanted`."""
    back = matrix.T.tocsr()

    def loss(x: Floats) -> tuple[float, Floats]:
        off = matrix @ x.astype(np.float32) - wanted
        slope = weight * np.clip(off, -how.outlier_gy, how.outlier_gy)
        value = np.sum(slope * (off - slope / weight / 2), dtype=float)
        return float(value), (back @ slope).astype(float)

    flat = matrix @ np.ones(matrix.shape[1], np.float32)
    start = np.full(matrix.shape[1], max(float(flat @ wanted) / float(flat @ flat), 0.0))
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(0, np.inf),
        options={"maxiter": how.iterations},
    )
    fitted: Dose = found.x.astype(np.float32)
    return fitted
