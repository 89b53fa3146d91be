"""Simulated IMRT plans on real anatomy, with many beam arrangements and priorities, as a cohort store.

Each plan is a Draw (draw.py); pyRadPlan plans it in a Python of its own (planner.py: arrays in, dose
out), and the patient with those beams and that dose is stored.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.beams import Beam, beams_eye_view
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.names import HEAD_NECK, Vocabulary
from anydose.case.volume import Volume, block, bounding_box
from anydose.io import openkbp, store
from anydose.io.convert import Outcome
from anydose.io.files import write_json
from anydose.io.plan_options import isocentre
from anydose.io.read import read_case
from anydose.io.sources import sources
from anydose.simulate.draw import Draw, draw
from anydose.simulate.setting import Setting

PROGRAM = Path(__file__).with_name("planner.py")
MANIFEST = ".plans.json"  # beside the store: a foreign file in it would be warned of by Zarr
INSTALL = (
    "make one with: python3 -m venv .venv-planner && .venv-planner/bin/pip install 'pyradplan==0.5.0' "
    "'pydantic<2.14' numba; then give --engine .venv-planner/bin/python or set ANYDOSE_PLANNER to it"
)
AIR_HU = -1000.0
PATIENT_HU = -500.0  # what absorbs: the CT is handed over as far as this reaches
HOT, HOT_WEIGHT = 1.0, 5000.0  # beyond this part of the highest prescription no dose outside the targets
TIMEOUT_S = 1800.0
SOURCE_MM = 0.1  # how far the planner's sources may be from ours


def task(
    case: Case, chosen: Draw, setting: Setting, vocabulary: Vocabulary = HEAD_NECK
) -> tuple[dict[str, Any], Grid]:
    """What planner.py is given, and the grid its dose will lie on: the CT as far as the patient reaches, with
    air around, so that every ray goes through it; doses are wanted a little beyond the body, so that they can
    be interpolated at its rim. ValueError if the case has no CT, body, target, or lies otherwise."""
    if case.ct is None or case.body is None or not case.targets:
        raise ValueError(f"{case.name}: a plan needs CT, body and a prescribed target")
    if case.patient_position != "HFS" or not np.allclose(case.grid.direction, np.eye(3), atol=1e-4):
        raise ValueError(
            f"{case.name}: {case.patient_position}, axes {case.grid.direction}; head first supine along the "
            "patient's axes is planned"
        )
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
    centre, _ = isocentre(case)
    beams = tuple(Beam((angle,), centre, name=f"G{angle:g}") for angle in chosen.gantry_deg)
    ours = np.array([beams_eye_view(b, b.gantry_deg[0], case.patient_position).source_mm for b in beams])
    if ours.shape != answer["source_mm"].shape or np.abs(ours - answer["source_mm"]).max() > SOURCE_MM:
        raise ValueError(f"{chosen.name}: the planner's sources stand at {answer['source_mm']}, not {ours}")
    assert case.body is not None
    raw = Volume(answer["dose_gy"], dose_grid, "Gy").resample(case.grid).array * case.body
    highest = max(case.targets, key=lambda name: case.prescription.levels_gy[name])
    middle = float(np.median(raw[case.structures[highest]]))
    if not middle > 0:
        raise ValueError(f"{chosen.name}: {highest} has no dose")
    dose = (raw * (chosen.scale * case.rx_max_gy / middle)).astype(np.float32)
    said = f"dose and beams: a simulated plan (pyRadPlan {answer['version']}), not the clinic's"
    kept = tuple(s for s in case.inferred if not s.startswith("beams:"))
    return replace(
        case,
        name=chosen.name,
        beams=beams,
        dose=Volume(dose, case.grid, "Gy"),
        inferred=(*kept, said),
    )


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


def patients(cohort: Path) -> list[tuple[str, Path]]:
    """(name, path) of the patients to plan on: an OpenKBP dataset's training patients, or every case of any
    other cohort."""
    for base in (cohort, cohort / "provided-data"):
        if (base / "train-pats").is_dir():
            return [(path.name, path) for path in openkbp.patients(base, "train")]
    return sources(cohort)


def simulate(
    cohort: Path,
    out: Path,
    plans: int,
    engine: str,
    seed: int = 0,
    workers: int = 1,
    setting: Setting | None = None,
    vocabulary: Vocabulary = HEAD_NECK,
) -> Iterator[Outcome]:
    """Plan `plans` draws of `seed` on the cohort's patients into the cohort store `out`, `workers` at a time,
    one Outcome a plan as it is done: 'written', 'kept' or 'refused' and why. Each channel of `vocabulary` has
    a limit of its own in every plan. A killed run goes on where it was. OUT.plans.json, beside the store,
    holds the row of every plan that is there."""
    setting = setting or Setting()
    engine = checked_engine(engine)
    found = dict(patients(cohort))
    store.open_cohort(out)
    store.clear_scraps(out)
    organs = len(vocabulary.organs)
    wanted = [draw(seed, number, list(found), organs) for number in range(plans)]
    work = partial(_simulate, out=out, engine=engine, setting=setting, vocabulary=vocabulary)
    pool = ThreadPoolExecutor(workers)
    try:
        jobs = [pool.submit(work, found[chosen.patient], chosen=chosen) for chosen in wanted]
        for job in as_completed(jobs):
            outcome = job.result()
            if outcome.state == "written":
                _write_manifest(out)
            yield outcome
        _write_manifest(out)
    finally:
        pool.shutdown(cancel_futures=True)


def _simulate(
    path: Path, out: Path, chosen: Draw, engine: str, setting: Setting, vocabulary: Vocabulary
) -> Outcome:
    about = {"draw": plain(chosen), "setting": plain(setting)}
    try:
        if (out / chosen.name).is_dir():
            there = store.attributes(out / chosen.name)
            if {key: there.get(key) for key in about} == about:
                return Outcome(chosen.name, "kept")
            raise ValueError(f"{out / chosen.name} was made by another draw or setting; give another folder")
        case = read_case(path)
        given, dose_grid = task(case, chosen, setting, vocabulary)
        answer = ask(engine, given, out / f".{os.getpid()}.plan-{chosen.number:05d}")
        figures = {key: value.item() for key, value in answer.items() if value.ndim == 0}
        store.write_stored(
            planned(case, chosen, answer, dose_grid),
            out,
            chosen.name,
            source=path.name,
            **about,
            plan=figures,
        )
    except (ValueError, OSError) as error:
        return Outcome(chosen.name, "refused", " ".join(str(error).split()))
    seconds = figures["matrix_seconds"] + figures["optimisation_seconds"]
    return Outcome(chosen.name, "written", f"{chosen.beams}, {len(chosen.gantry_deg)} beams, {seconds:.0f} s")


def plain(record: Draw | Setting) -> dict[str, Any]:
    """A record as JSON gives it back: lists, not tuples."""
    value: dict[str, Any] = json.loads(json.dumps(asdict(record)))
    return value


def _write_manifest(out: Path) -> None:
    rows: list[dict[str, Any]] = []
    for place in out.iterdir():
        if place.is_dir() and not place.name.startswith("."):
            there = store.attributes(place)
            known = {key: there.get(key) for key in ("draw", "setting", "plan")}
            rows.append({"name": place.name, **known})
    rows.sort(key=_order)
    write_json(rows, out.with_name(out.name + MANIFEST))


def _order(row: dict[str, Any]) -> tuple[int, int]:
    """By seed and number; a case that no draw made comes first."""
    drawn = row["draw"]
    return (drawn["seed"], drawn["number"]) if drawn else (-1, 0)
