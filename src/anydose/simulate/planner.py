"""Plan one treatment with pyRadPlan: an .npz of arrays in, an .npz with the dose out.

This file is a program of its own: `python -I planner.py TASK.npz ANSWER.npz`, run by the Python of an
environment that holds pyRadPlan and need not hold anydose; so nothing of anydose is imported here
(simulate.py writes the task and reads the answer). All arrays are (z, y, x), millimetres (x, y, z) in DICOM
LPS with axes along the patient's, who lies head first supine; angles are IEC 61217 degrees; doses Gy of the
whole treatment.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ENERGY_MV = 6.0
PYDANTIC_BELOW = (2, 14)  # from there on pyRadPlan 0.5.0 raises where it makes its beams


def plan(task: dict[str, Any]) -> dict[str, Any]:
    """The answer to a task: dose_gy (z, y, x) on the task's dose grid, the beams' sources in mm, and what the
    plan cost. One fraction, so that nothing is divided behind our back."""
    import pyRadPlan
    from pyRadPlan.optimization import fluence_optimization

    start = time.monotonic()
    ct, structures = _patient(task)
    dose_grid = _grid(task["dose_shape"], task["dose_spacing_mm"], task["dose_origin_mm"])
    angles = [float(a) for a in task["gantry_deg"]]
    intended = pyRadPlan.PhotonPlan(
        machine="Generic",
        num_of_fractions=1,
        prop_stf={
            "generator": "photonIMRT",
            "gantry_angles": angles,
            "couch_angles": [0.0] * len(angles),
            "bixel_width": float(task["bixel_mm"]),
            "iso_center": np.asarray(task["isocentre_mm"], dtype=float),
            "energy": ENERGY_MV,
        },
        prop_dose_calc={"engine": "SVDPB", "dose_grid": dose_grid, "ignore_outside_densities": False},
        prop_opt={"solver": "scipy", "max_iter": int(task["iterations"])},
    )
    beams = pyRadPlan.generate_stf(ct, structures, intended)
    matrix = pyRadPlan.calc_dose_influence(ct, structures, beams, intended)
    reached = time.monotonic()
    about: dict[str, Any] = {}
    fluence = fluence_optimization(ct, structures, beams, matrix, intended, opt_info=about)
    return {
        "dose_gy": _dose_gy(matrix, fluence, dose_grid),
        "source_mm": np.array([beam.source_point + beam.iso_center for beam in beams.beams]),
        "bixels": fluence.size,
        "iterations": about.get("num_iter", 0),
        "matrix_seconds": reached - start,
        "optimisation_seconds": time.monotonic() - reached,
        "version": pyRadPlan.__version__,
    }


def _patient(task: dict[str, Any]) -> tuple[Any, Any]:
    """CT and structures; each with what its row in task["structures"] (JSON) states: name, kind, overlap
    (a voxel counts for the lowest) and goals, each (deviation or overdose, Gy, weight)."""
    from pyRadPlan import StructureSet, validate_ct
    from pyRadPlan.cst import validate_voi
    from pyRadPlan.optimization.objectives import SquaredDeviation, SquaredOverdosing

    ct = validate_ct(
        {
            "cube_hu": task["hu"].astype(np.float32),
            "resolution": _by_axis(task["spacing_mm"]),
            "origin": [float(v) for v in task["origin_mm"]],
        }
    )
    vois = []

    def objective(goal: str, gy: float, weight: float) -> Any:
        if goal == "deviation":
            return SquaredDeviation(d_ref=gy, priority=weight)
        return SquaredOverdosing(d_max=gy, priority=weight)

    for row, mask in zip(json.loads(str(task["structures"])), task["masks"], strict=True):
        objectives = [objective(*goal) for goal in row["goals"]]
        vois.append(
            validate_voi(
                name=row["name"],
                voi_type=row["kind"],
                ct_image=ct,
                mask=mask.astype(np.uint8),
                overlap_priority=row["overlap"],
                objectives=objectives,
            )
        )
    return ct, StructureSet(vois=vois, ct_image=ct)


def _grid(shape: np.ndarray, spacing_mm: np.ndarray, origin_mm: np.ndarray) -> Any:
    """The dose grid, given whole: pyRadPlan's own Grid.resample puts it half a voxel aside."""
    from pyRadPlan.core import Grid

    return Grid(
        resolution=_by_axis(spacing_mm),
        dimensions=tuple(int(n) for n in shape[::-1]),
        origin=np.asarray(origin_mm, dtype=float),
        direction=np.eye(3),
    )


def _by_axis(spacing_mm: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", spacing_mm.tolist(), strict=True))


def _dose_gy(matrix: Any, fluence: np.ndarray, wanted: Any) -> np.ndarray:
    """Influence matrix times fluence (z, y, x); ValueError if it lies on another grid than was asked for."""
    grid = matrix.dose_grid
    pairs = [(getattr(grid, name), getattr(wanted, name)) for name in ("dimensions", "origin", "direction")]
    pairs.append((grid.resolution_vector, wanted.resolution_vector))
    if not all(np.allclose(a, b, atol=1e-3) for a, b in pairs):
        raise ValueError(f"the dose lies on {grid}, {wanted} was asked for")
    dose = matrix.get_result_arrays_from_intensity(fluence)["physical_dose"]
    return np.asarray(dose, dtype=np.float32).reshape(grid.dimensions[::-1])


def _end_with_parent() -> None:
    """A planner whose parent was killed would finish a plan that nobody waits for: it looks every second."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> None:
    """TASK.npz ANSWER.npz; `--check` alone imports pyRadPlan and writes its version."""
    if arguments == ["--check"]:
        import pydantic
        import pyRadPlan

        if tuple(int(part) for part in pydantic.VERSION.split(".")[:2]) >= PYDANTIC_BELOW:
            sys.exit(
                f"pydantic {pydantic.VERSION} found, pyRadPlan {pyRadPlan.__version__} needs one below 2.14"
            )
        sys.stdout.write(f"{pyRadPlan.__version__}\n")
        return
    _end_with_parent()
    task_file, answer_file = (Path(argument) for argument in arguments)
    with np.load(task_file, allow_pickle=False) as file:
        task = {name: file[name] for name in file.files}
    scratch = answer_file.with_name(f".{answer_file.name}")
    np.savez(scratch, **plan(task))
    scratch.replace(answer_file)


if __name__ == "__main__":
    main(sys.argv[1:])
