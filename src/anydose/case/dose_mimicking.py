"""What given beams can deliver: the doses of all fluences that are nowhere negative. A plan's dose is one of
them, a network's need not be. `mimic` draws a dose towards the nearest one, as dose mimicking does (M.
Eriksson, T. Zhang, Med Phys 49, 2022), by the simplest dose engine there is: fluence on diverging rays,
weakened by the tissue that it has passed. Among fluences those with few steps are preferred, above all along
u, where leaves travel: plans bound the sum of such steps (D. Craft et al., IJROBP 67, 2007)."""

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
from anydose.case.beams import MU_PER_MM, THREADS, BeamsEyeView, beams_eye_views, project, radiological_depth
from anydose.case.case import Case
from anydose.case.grid import Floats, Grid

Mask = NDArray[np.bool_]
Dose = NDArray[np.float32]


@dataclass(frozen=True)
class MimicConfig:
    """How the nearest dose that the beams can deliver is found. Chosen on OpenKBP's validation patients
    (docs/results)."""

    # The fluence and its rays
    pixel_mm: float = 5.0
    """Pixel of the fluence, at the isocentre."""
    ray_step_mm: float = 8.0
    """Step in which the depth in tissue is summed along a ray."""
    margin_pixels: int = 2
    """How far the fluence goes beyond the targets' outline."""
    most_views: int = 24
    """An arc is drawn at more views, and can deliver nearly everything: it is not mimicked."""

    # What the dose is to be like
    target_weight: float = 6.0
    """Weight of a voxel in a target, against 1 elsewhere."""
    organ_weight: float = 8.0
    """Weight of a voxel in an organ at risk, against 1 elsewhere."""
    outlier_gy: float = 2.5
    """From where a difference counts linearly (Huber)."""
    share: float = 0.75
    """How much of the change is made, outside targets and organs."""
    inner_share: float = 0.4
    """The same in targets and organs, where a network knows more of the plan."""

    # What the fluence is to be like
    smoothness_u: float = 2.5
    """Cost of a step between pixels along u, where leaves travel, against the dose that a mean pixel
    gives."""
    smoothness_v: float = 1.0
    """The same along v."""
    small_step: float = 0.1
    """Share of the mean fluence up to where a step costs its square."""
    iterations: int = 60
    """Of L-BFGS-B."""


@dataclass(frozen=True)
class DoseInfluence:
    """The dose influence matrix (Dij) of a case's beams, and the steps of their fluences. Sparse matrices."""

    dose: Any
    """Gy to each voxel of the body (rows) from each fluence pixel of every view (columns)."""
    steps: Any
    """The differences between neighbouring pixels (rows, -1 and 1)."""
    step_cost: Dose
    """Cost of each step."""


def is_defined(case: Case, how: MimicConfig | None = None) -> bool:
    """True if the case states what is needed: a body, a target and beams that are no arcs."""
    count = len(beams_eye_views(case.beams, case.patient_position))
    return case.body is not None and bool(case.targets) and 0 < count <= (how or MimicConfig()).most_views


def mimic(doses_gy: Dose, case: Case, how: MimicConfig | None = None) -> Dose:
    """Each of `doses_gy` (..., d, h, w) drawn towards the nearest dose that the beams can deliver. ValueError
    for a case where that is not defined (`is_defined`)."""
    how = how or MimicConfig()
    if not is_defined(case, how) or case.body is None:
        raise ValueError(f"{case.name}: a body, a target and 1 to {how.most_views} beam angles are needed")
    target, organ = (
        np.logical_or.reduce([np.zeros_like(case.body), *masks])[case.body]
        for masks in (case.targets.values(), case.of_role("oar").values())
    )
    weight = np.where(target, how.target_weight, np.where(organ, how.organ_weight, 1.0)).astype(np.float32)
    share = np.where(target | organ, how.inner_share, how.share)
    influenced = influence(case, how)
    out = doses_gy.copy()
    for dose in out.reshape(-1, *case.grid.shape):
        wanted = dose[case.body]
        change = influenced.dose @ fluence(influenced, wanted, weight, how) - wanted
        dose[case.body] = np.maximum(wanted + share * change, 0)
    return out


def influence(case: Case, how: MimicConfig) -> DoseInfluence:
    """What the beams of a case that is defined can do."""
    assert case.body is not None
    target = np.logical_or.reduce(list(case.targets.values()))[case.body]
    of_view = partial(
        _of_view, grid=case.grid, body=case.body, target=target, density=modality.density(case), how=how
    )
    views = beams_eye_views(case.beams, case.patient_position)
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(of_view, views))
    return DoseInfluence(
        dose=sparse.hstack([part.dose for part in parts], format="csr"),
        steps=sparse.block_diag([part.steps for part in parts], format="csr"),
        step_cost=np.concatenate([part.step_cost for part in parts]),
    )


def _of_view(
    v: BeamsEyeView, grid: Grid, body: Mask, target: Mask, density: Dose, how: MimicConfig
) -> DoseInfluence:
    """One view's part: inverse square, exp(-mu * radiological depth), bilinear between pixels."""
    across, up, along = (k[body] for k in project(v, grid))
    depth = radiological_depth(v, density, grid, body, how.ray_step_mm)[body]
    strength = np.exp(-MU_PER_MM * depth) * (v.sad_mm / along) ** 2
    # pixels are counted from the axis, so that a mirrored patient has exactly the mirrored ones
    at = np.stack([up, across]) / how.pixel_mm
    pixel = np.floor(at).astype(int)
    part = (at - pixel).astype(np.float32)
    first = pixel[:, target].min(axis=1) - how.margin_pixels - 1
    size = pixel[:, target].max(axis=1) + how.margin_pixels + 3 - first
    pixel -= first[:, None]
    column = _columns(pixel[:, target], part[:, target], size, how)
    steps, step_cost = _steps(column, how)
    return DoseInfluence(_bilinear(strength, pixel, part, column), steps, step_cost)


CORNERS = tuple(np.array(corner)[:, None] for corner in itertools.product((0, 1), repeat=2))
"""Of a pixel, (v, u): a point's dose comes from the pixels at its four corners."""


def _share(part: Dose, corner: NDArray[Any]) -> Dose:
    """How much of a point counts for a corner of its pixel, along (v, u). part: (2, n) in [0, 1)."""
    return np.where(corner, part, 1 - part)


def _columns(pixel: NDArray[Any], part: Dose, size: NDArray[Any], how: MimicConfig) -> NDArray[np.int32]:
    """The column of every pixel (v, u) of a view, -1 for those that stay closed: open are those that a target
    touches, and a margin. pixel, part: (2, n) of the targets' voxels."""
    outline = np.zeros(size, dtype=bool)
    for corner in CORNERS:
        touched = (_share(part, corner) > 1e-3).all(axis=0)
        outline[tuple(pixel[:, touched] + corner)] = True
    opened = ndimage.binary_dilation(outline, iterations=how.margin_pixels)
    column = np.full(size, -1, dtype=np.int32)
    column[opened] = np.arange(opened.sum())
    return column


def _bilinear(strength: Floats, pixel: NDArray[Any], part: Dose, column: NDArray[np.int32]) -> Any:
    """Gy to each voxel (rows) from each open pixel (columns). strength: (n,) of each voxel; pixel, part: (2,
    n), where it lies."""
    size = np.array(column.shape)[:, None]
    values, rows, columns = [], [], []
    for corner in CORNERS:
        to = column[tuple(np.clip(pixel + corner, 0, size - 1))]  # the rim is never open
        row = np.flatnonzero(to >= 0)
        share = np.prod(_share(part, corner)[:, row], axis=0)
        values.append(strength[row] * share)
        rows.append(row.astype(np.int32))
        columns.append(to[row])
    where = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(strength), int(column.max()) + 1)
    return sparse.csr_array((np.concatenate(values).astype(np.float32), where), shape=shape)


def _steps(column: NDArray[np.int32], how: MimicConfig) -> tuple[Any, Dose]:
    """The steps between open pixels of a view (v, u) that holds their columns, and what each costs."""
    pairs = [
        np.stack([a.ravel(), b.ravel()])
        for a, b in ((column[:, :-1], column[:, 1:]), (column[:-1], column[1:]))
    ]
    open_ = [p[:, (p >= 0).all(axis=0)] for p in pairs]
    cost = np.repeat(np.array([how.smoothness_u, how.smoothness_v], np.float32), [p.shape[1] for p in open_])
    left, right = np.concatenate(open_, axis=1)
    row = np.arange(len(left))
    values = np.repeat(np.array([-1, 1], np.float32), len(row))
    where = (np.concatenate([row, row]), np.concatenate([left, right]))
    return sparse.csr_array((values, where), shape=(len(row), int(column.max()) + 1)), cost


def fluence(influenced: DoseInfluence, wanted: Dose, weight: Dose, how: MimicConfig) -> Dose:
    """The fluence of every column, nowhere negative, of the least weighted Huber loss between its dose and
    `wanted`, with its steps' cost."""
    dose, steps = influenced.dose, influenced.steps
    back, unstep = dose.T.tocsr(), steps.T.tocsr()
    flat = dose @ np.ones(dose.shape[1], np.float32)
    mean = max(float(flat @ wanted) / float(flat @ flat), 1e-6)
    cost = influenced.step_cost * np.float32((weight @ flat) / dose.shape[1])

    def loss(x: Floats) -> tuple[float, Floats]:
        x32 = x.astype(np.float32)
        off, slope = _huber(dose @ x32 - wanted, how.outlier_gy)
        step, pull = _huber(steps @ x32 / mean, how.small_step)
        value = np.sum(weight * off, dtype=float) + mean * np.sum(cost * step, dtype=float)
        return float(value), (back @ (weight * slope) + unstep @ (cost * pull)).astype(float)

    found = optimize.minimize(
        loss,
        np.full(dose.shape[1], mean),
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(0, np.inf),
        options={"maxiter": how.iterations},
    )
    fitted: Dose = found.x.astype(np.float32)
    return fitted


def _huber(x: Dose, bend: float) -> tuple[Any, Dose]:
    """Half the square up to `bend`, linear beyond; and the slope."""
    slope: Dose = np.clip(x, -bend, bend)
    return slope * (x - slope / 2), slope
