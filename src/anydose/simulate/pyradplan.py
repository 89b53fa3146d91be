"""Plans by pyRadPlan, which runs in a Python of its own (planner.py: arrays in, dose out)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.beams import beams_eye_view
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.names import HEAD_NECK, Vocabulary
from anydose.case.volume import Volume, block, bounding_box
from anydose.io.plan_options import isocentre
from anydose.simulate.draw import HOT, HOT_WEIGHT, Draw, draw
from anydose.simulate.planning import (
    AIR_HU,
    coplanar,
    plain,
    refuse_unplannable,
    scaled_to_prescription,
    with_plan,
)
from anydose.simulate.setting import Setting

PROGRAM = Path(__file__).with_name("planner.py")
INSTALL = (
    "make one with: python3 -m venv .venv-planner && .venv-planner/bin/pip install 'pyradplan==0.5.0' "
    "'pydantic<2.14' numba; then give --engine .venv-planner/bin/python or set ANYDOSE_PLANNER to it"
)
PATIENT_HU = -500.0  # what absorbs: the CT is handed over as far as this reaches
TIMEOUT_S = 1800.0
SOURCE_MM = 0.1  # how far the planner's sources may be from ours


@dataclass(frozen=True)
class PyRadPlan:
    """Plans of many beam arrangements and priorities by pencil beams in the CT: about 30 s each. Raises
    ValueError, which says how to make one, for a Python that cannot plan."""

    engine: str
    """The Python that holds pyRadPlan."""
    setting: Setting
    """How finely it plans."""
    vocabulary: Vocabulary
    """Each of its channels has a limit of its own."""

    def __post_init__(self) -> None:
        checked_engine(self.engine)

    def draw(self, seed: int, number: int, patients: Sequence[str]) -> Draw:
        """What a plan is made from."""
        return draw(seed, number, patients, len(self.vocabulary.organs))

    def about(self, chosen: Draw) -> dict[str, Any]:
        """What a stored plan says of its making; one that says something else is another plan."""
        return {"draw": plain(chosen), "setting": plain(self.setting)}

    def plan(self, case: Case, chosen: Draw, scratch: Path) -> tuple[Case, dict[str, Any]]:
        """The case with the plan's beams and dose, and what the planner says of it."""
        given, dose_grid = task(case, chosen, self.setting, self.vocabulary)
        answer = ask(self.engine, given, scratch)
        figures = {key: value.item() for key, value in answer.items() if value.ndim == 0}
        figures["seconds"] = figures["matrix_seconds"] + figures["optimisation_seconds"]
        return planned(case, chosen, answer, dose_grid), figures


def task(
    case: Case, chosen: Draw, setting: Setting, vocabulary: Vocabulary = HEAD_NECK
) -> tuple[dict[str, Any], Grid]:
    """What planner.py is given, and the grid its dose will lie on: the CT as far as the patient reaches, with
    air around, so that every ray goes through it; doses are wanted a little beyond the body, so that they can
    be interpolated at its rim. ValueError if the case has no CT, body, target, or lies otherwise."""
    refuse_unplannable(case, ct=True)
    assert case.ct is not None and case.body is not None
    hu = case.ct.in_unit("HU").astype(np.float32)
    away_mm = ndimage.distance_transform_edt(~case.body, sampling=case.grid.spacing_zyx_mm)
    region = away_mm <= 1.8 * setting.grid_mm
    start, shape = bounding_box(region | (hu > PATIENT_HU))
    pad = np.ceil(3 * setting.bixel_mm / np.array(case.grid.spacing_zyx_mm)).astype(int)
    first = tuple(int(s - p) for s, p in zip(start, pad, strict=True))
    size = tuple(int(n + 2 * p) for n, p in zip(shape, pad, strict=True))
    grid = case.grid.crop(first, size)
    dose_grid = grid.with_spacing((setting.grid_mm,) * 3)
    rows, masks = _structures(case, chosen, region, vocabulary)
    given = {
        "hu": block(hu, first, size, AIR_HU),
        "masks": np.stack([block(mask, first, size, False) for mask in masks]).astype(np.uint8),
        "structures": json.dumps(rows),
        "spacing_mm": grid.spacing_mm,
        "origin_mm": grid.origin_mm,
        "dose_shape": dose_grid.shape,
        "dose_spacing_mm": dose_grid.spacing_mm,
        "dose_origin_mm": dose_grid.origin_mm,
        "gantry_deg": chosen.gantry_deg,
        "isocentre_mm": isocentre(case)[0],
        "bixel_mm": setting.bixel_mm,
        "iterations": setting.iterations,
    }
    return given, dose_grid


def _structures(
    case: Case, chosen: Draw, region: NDArray[np.bool_], vocabulary: Vocabulary
) -> tuple[list[dict[str, Any]], list[NDArray[np.bool_]]]:
    """A row and a mask for each structure that planner.py is given; a voxel counts for that of the lowest
    `overlap`: the highest target first, then organs, then the rest of the body."""
    assert case.body is not None
    rows, masks, most = [], [], case.rx_max_gy

    def add(
        name: str, kind: str, overlap: int, mask: NDArray[np.bool_], *goals: tuple[str, float, float]
    ) -> None:
        rows.append({"name": name, "kind": kind, "overlap": overlap, "goals": goals})
        masks.append(mask)

    highest_first = sorted(case.prescription.levels_gy.items(), key=lambda level: -level[1])
    for place, (name, gy) in enumerate(highest_first):
        add(name, "TARGET", place, case.structures[name], ("deviation", gy, chosen.target_weight))
    for name, mask in case.of_role("oar").items():
        channel = vocabulary.channel(case.meaning(name))
        if channel is not None:  # else it is a part of the rest
            limit = ("overdose", chosen.organ_limits[channel] * most, chosen.organ_weights[channel])
            add(name, "OAR", 50, mask, limit)
    rest = ("overdose", chosen.body_limit * most, chosen.body_weight)
    add("rest", "HELPER", 80, case.body, rest, ("overdose", HOT * most, HOT_WEIGHT))
    add("calculated", "EXTERNAL", 90, region)
    return rows, masks


def planned(case: Case, chosen: Draw, answer: dict[str, Any], dose_grid: Grid) -> Case:
    """The case with the plan's beams and its dose in Gy on the case's grid, scaled so that the highest target
    has a median of `scale` times its prescription. ValueError if a source stands elsewhere than ours, or the
    target has no dose."""
    beams = coplanar(chosen.gantry_deg, isocentre(case)[0])
    ours = np.array([beams_eye_view(b, b.gantry_deg[0], case.patient_position).source_mm for b in beams])
    if ours.shape != answer["source_mm"].shape or np.abs(ours - answer["source_mm"]).max() > SOURCE_MM:
        raise ValueError(f"{chosen.name}: the planner's sources stand at {answer['source_mm']}, not {ours}")
    assert case.body is not None
    raw = Volume(answer["dose_gy"], dose_grid, "Gy").resample(case.grid).array * case.body
    dose = scaled_to_prescription(raw, case, chosen.scale, chosen.name)
    said = f"dose and beams: a simulated plan (pyRadPlan {answer['version']}), not the clinic's"
    return with_plan(case, chosen.name, beams, dose, said)


def checked_engine(engine: str) -> str:
    """The Python that plans, tried; ValueError, which says how to make one, if it cannot."""
    if not engine:
        raise ValueError(f"no planner: simulating needs a Python that holds pyRadPlan; {INSTALL}")
    try:
        done = subprocess.run([engine, "-I", PROGRAM, "--check"], capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{engine}: cannot be run as a Python that plans ({error}); {INSTALL}") from error
    if done.returncode:
        raise ValueError(f"{engine}: cannot plan ({_last_line(done.stderr)}); {INSTALL}")
    return engine


def ask(engine: str, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the planner on a task in a new folder, which is removed; its answer. ValueError if it fails."""
    folder.mkdir()
    try:
        np.savez(folder / "task.npz", **given)
        command = [engine, "-I", str(PROGRAM), str(folder / "task.npz"), str(folder / "answer.npz")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            raise ValueError(f"the planner failed: {_last_line(done.stderr)}")
        with np.load(folder / "answer.npz", allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the planner was stopped after {error.timeout:g} s") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
