"""What the beams cost and what they can deliver: drawing their plates, and how near the clinic's doses are to
those of dose mimicking."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anydose.bench import averages
from anydose.bench.clock import median_seconds
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.case import beams, dose_mimicking
from anydose.case.case import Case
from anydose.model.sample import draw_sample

# All of the way to the nearest deliverable dose, not most of it as for a prediction.
WHOLE = dose_mimicking.MimicConfig(share=1.0, inner_share=1.0)


@benchmark(
    "beams",
    settings=Patients,
    says="Seconds to draw nine beam plates on the whole grid, and the beam modality on the body's block.",
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

    return {
        "bench": "beams",
        "patient": case.name,
        "beams": len(views),
        "voxels": int(np.prod(case.grid.shape)),
        "plates_seconds": round(median_seconds(draw_plates), 3),
        "drawn_modality_seconds": round(median_seconds(lambda: draw_sample(case, ("beam",))), 3),
    }


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
        begin = time.perf_counter()
        delivered = dose_mimicking.mimic(dose, replace(case, beams=fields), WHOLE)
        row[f"{name}_seconds"] = round(time.perf_counter() - begin, 2)
        row[f"{name}_gy"] = round(float(np.abs(delivered - dose)[case.body].mean()), 3)
    return row


def _means(rows: Sequence[Row]) -> dict[str, float]:
    measured = [name for name in rows[0] if name.endswith(("_gy", "_seconds"))]
    return {name: round(averages.mean(rows, name), 3) for name in measured}
