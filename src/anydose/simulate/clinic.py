"""A simulated clinic: procedural patients (io/pelvis.py) with plans of one habit, as DICOM-RT studies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anydose.case.case import Case
from anydose.io.files import write_json
from anydose.io.pelvis import make_pelvis
from anydose.io.phantom import write_patient
from anydose.simulate.habit import Habit, habit_of
from anydose.simulate.inverse import planned

MANIFEST = "clinic.json"  # beside the patients: their habit, seed and how good each plan is
CLINIC_SEEDS = 100_000  # patients of one seed of a clinic


def write_clinic(folder: Path, patients: int, habit: str, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Plan `patients` patients of `seed` by a habit's name and write each as `folder`/pelvis_N, a study of
    CT, structures, plan and dose; a row each: its name, seconds and `plan_figures`. A study that is there is
    kept. ValueError for an unknown habit, and for a folder that holds a clinic of another habit or seed."""
    chosen = habit_of(habit)
    about: dict[str, Any] = {"habit": habit, "seed": seed, "patients": {}}
    manifest = folder / MANIFEST
    if manifest.is_file():
        there = json.loads(manifest.read_text())
        if (there["habit"], there["seed"]) != (habit, seed):
            raise ValueError(
                f"{folder}: a clinic of {there['habit']}, seed {there['seed']}; another folder is needed"
            )
        about = there
    for number in range(patients):
        patient = seed * CLINIC_SEEDS + number
        place = folder / f"pelvis_{patient}"
        if place.name in about["patients"] and place.is_dir():
            continue
        begin = time.monotonic()
        case = planned(make_pelvis(patient), chosen, patient)
        write_patient(lambda case=case: case, place, "dicom")  # type: ignore[misc]  # called at once
        row = plan_figures(case, chosen) | {"seconds": round(time.monotonic() - begin, 1)}
        about["patients"][place.name] = row
        write_json(about, manifest)
        yield {"patient": place.name, **row}


def plan_figures(case: Case, habit: Habit) -> dict[str, float]:
    """How good a plan is: of the highest target D98 and D95 (% of its prescription) and the homogeneity index
    (D2 - D98) / D50 (ICRU 83); percent of rectum and bladder above five sixths and two thirds of that
    prescription (50 and 40 Gy of 60); D2 of the femoral heads (Gy)."""
    assert case.dose is not None
    dose, rx = case.dose.in_unit("Gy"), habit.targets[0].dose_gy

    def at(name: str, percent: float) -> float:
        mask = case.find(name)
        return float("nan") if mask is None else float(np.percentile(dose[mask], 100 - percent))

    def above(name: str, share: float) -> float:
        mask = case.find(name)
        return float("nan") if mask is None else 100 * float((dose[mask] >= share * rx).mean())

    high = habit.targets[0].name
    heads = max(at("Femur_Head_L", 2), at("Femur_Head_R", 2))
    return {
        "d98_percent": round(100 * at(high, 98) / rx, 1),
        "d95_percent": round(100 * at(high, 95) / rx, 1),
        "homogeneity": round((at(high, 2) - at(high, 98)) / at(high, 50), 3),
        "rectum_v83_percent": round(above("Rectum", 5 / 6), 1),
        "rectum_v67_percent": round(above("Rectum", 2 / 3), 1),
        "bladder_v83_percent": round(above("Bladder", 5 / 6), 1),
        "femoral_heads_d2_gy": round(heads, 1),
    }
