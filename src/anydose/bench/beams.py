"""What the beams cost and what they can deliver: drawing their plates, and how near the clinic's doses are to
those of dose mimicking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.bench import averages
from anydose.bench.clock import median_seconds, timed
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.case import beams, dose_mimicking
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.model.sample import draw_sample

# All of the way to the nearest deliverable dose, not most of it as for a prediction.
WHOLE = dose_mimicking.MimicConfig(share=1.0, inner_share=1.0)


@benchmark(
    "beams",
    settings=Patients,
    says="Seconds to draw the beams' plates on the whole grid, beside a loop over rays as the GDP-HMM "
    "challenge has it, and the beam modality on the body's block.",
)
def measure_plates(settings: Patients) -> Rows:
    """One row a patient."""
    return [_plates(case) for case in settings.cases()]


def _plates(case: Case) -> Row:
    target = np.logical_or.reduce(list(case.targets.values()))
    views = beams.beams_eye_views(case.beams, case.patient_position)

    def draw_plates() -> None:
        for view in views:
            beams.beam_plate(view, target, case.grid)

    ours_seconds = median_seconds(draw_plates)
    some = views[:LOOPED_BEAMS]
    looped, seconds = timed(lambda: [plate_by_loop(view, target, case.grid) for view in some])
    loop_seconds = seconds / len(some) * len(views)
    drawn = [beams.beam_plate(view, target, case.grid) for view in some]
    return {
        "bench": "beams",
        "patient": case.name,
        "beams": len(views),
        "voxels": int(np.prod(case.grid.shape)),
        "plates_seconds": round(ours_seconds, 3),
        "loop_seconds": round(loop_seconds, 1),
        "loop_times_plates": round(loop_seconds / ours_seconds, 1),
        "loop_dice": round(float(np.mean([dice(a, b) for a, b in zip(looped, drawn, strict=True)])), 3),
        "drawn_modality_seconds": round(median_seconds(lambda: draw_sample(case, ("beam",))), 3),
    }


LOOPED_BEAMS = 1  # of a patient's; the loop's time is this one's times their number


def plate_by_loop(v: beams.BeamsEyeView, target: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """A beam's plate by the definition of the GDP-HMM challenge, as a loop: the ray from the source through
    every voxel on the surface of `target` is followed through the volume, voxel by voxel; what the rays leave
    open is closed (dilation by 4^3, erosion by 3^3); (SAD / distance)^2 inside. Only to be compared with."""
    surface = np.argwhere(target & ~ndimage.binary_erosion(target))
    plate = np.zeros(grid.shape, dtype=bool)
    source = grid.to_index(v.source_mm)
    nearest = float(np.linalg.norm(np.clip(source, 0, np.array(grid.shape) - 1) - source))
    for voxel in surface:
        ray = (voxel - source) / np.linalg.norm(voxel - source)
        place = source + nearest * ray
        inside = False
        while not inside or _is_in(place, grid):
            inside = inside or _is_in(place, grid)
            if inside:
                plate[tuple(np.rint(place).astype(int))] = True
            place = place + ray
    closed = ndimage.binary_erosion(ndimage.binary_dilation(plate, np.ones((4, 4, 4))), np.ones((3, 3, 3)))
    points_mm = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    distance_squared = np.square(points_mm - v.source_mm).sum(axis=-1)
    return np.asarray(closed * v.sad_mm**2 / distance_squared, dtype=np.float32)


def _is_in(place: NDArray[np.float64], grid: Grid) -> bool:
    """Whether a place (z, y, x) in voxels is in the volume."""
    return all(-0.5 <= at < size - 0.5 for at, size in zip(place, grid.shape, strict=True))


def dice(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """How far two plates cover the same voxels."""
    first, second = a > 0.25, b > 0.25
    return 2.0 * int((first & second).sum()) / int(first.sum() + second.sum())


@benchmark(
    "mimicking",
    settings=Patients,
    says="How far the clinic's own dose is from the nearest one that its beams can deliver, and that every "
    "third of them can.",
    old_names=("reach",),
)
def measure_mimicking(settings: Patients) -> Rows:
    """Mean absolute difference in the body in Gy, a row a patient; the last row is the mean over patients.
    ValueError if no patient has what dose mimicking needs."""
    found = [
        _mimicked(case)
        for case in settings.cases()
        if case.dose is not None and dose_mimicking.is_defined(case, WHOLE)
    ]
    if not found:
        raise ValueError("no case with a dose, a body, a target and static beams")
    return [*found, {"bench": "mimicking", "patients": len(found), **_means(found)}]


def _mimicked(case: Case) -> Row:
    assert case.dose is not None and case.body is not None
    dose = case.dose.in_unit("Gy")
    row: Row = {"bench": "mimicking", "patient": case.name, "beams": len(case.beams)}
    for name, fields in (("all", case.beams), ("every_third", case.beams[::3])):
        delivered, seconds = timed(partial(dose_mimicking.mimic, dose, replace(case, beams=fields), WHOLE))
        row[f"{name}_seconds"] = round(seconds, 2)
        row[f"{name}_gy"] = round(float(np.abs(delivered - dose)[case.body].mean()), 3)
    return row


def _means(rows: Sequence[Row]) -> dict[str, float]:
    measured = [name for name in rows[0] if name.endswith(("_gy", "_seconds"))]
    return {name: round(averages.mean(rows, name), 3) for name in measured}
