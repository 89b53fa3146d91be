"""Simulated IMRT plans on real anatomy, as a cohort store: each is drawn, then planned by one of the planners
(planning.py), and the patient with those beams and that dose is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from anydose.io import openkbp, store
from anydose.io.convert import Outcome
from anydose.io.files import write_json
from anydose.io.read import read_case
from anydose.io.sources import sources
from anydose.simulate.planning import Drawn, Planner

MANIFEST = ".plans.json"  # beside the store: a foreign file in it would be warned of by Zarr
ABOUT = ("planner", "draw", "setting", "plan")  # what a stored plan says of its making


def patients(cohort: Path) -> list[tuple[str, Path]]:
    """(name, path) of the patients to plan on: an OpenKBP dataset's training patients, or every case of any
    other cohort."""
    for base in (cohort, cohort / "provided-data"):
        if (base / "train-pats").is_dir():
            return [(path.name, path) for path in openkbp.patients(base, "train")]
    return sources(cohort)


def simulate(
    cohort: Path, out: Path, plans: int, planner: Planner, seed: int = 0, workers: int = 1
) -> Iterator[Outcome]:
    """Plan `plans` draws of `seed` on the cohort's patients into the cohort store `out`, `workers` at a time,
    one Outcome a plan as it is done: 'written', 'kept' or 'refused' and why. A killed run goes on where it
    was. OUT.plans.json, beside the store, holds the row of every plan that is there."""
    found = dict(patients(cohort))
    store.open_cohort(out)
    store.clear_scraps(out)
    wanted = [planner.draw(seed, number, list(found)) for number in range(plans)]
    work = partial(_simulate, out=out, planner=planner)
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


def _simulate(path: Path, out: Path, chosen: Drawn, planner: Planner) -> Outcome:
    about = planner.about(chosen)
    try:
        if (out / chosen.name).is_dir():
            there = store.attributes(out / chosen.name)
            if {key: there.get(key) for key in about} == about:
                return Outcome(chosen.name, "kept")
            raise ValueError(f"{out / chosen.name} was made by another draw or setting; give another folder")
        scratch = out / f".{os.getpid()}.plan-{chosen.number:05d}"
        case, figures = planner.plan(read_case(path), chosen, scratch)
        store.write_stored(case, out, chosen.name, source=path.name, **about, plan=figures)
    except (ValueError, OSError) as error:
        return Outcome(chosen.name, "refused", " ".join(str(error).split()))
    return Outcome(chosen.name, "written", f"{chosen.says}, {figures['seconds']:.1f} s")


def _write_manifest(out: Path) -> None:
    rows: list[dict[str, Any]] = []
    for place in out.iterdir():
        if place.is_dir() and not place.name.startswith("."):
            there = store.attributes(place)
            rows.append({"name": place.name, **{key: there[key] for key in ABOUT if key in there}})
    rows.sort(key=_order)
    write_json(rows, out.with_name(out.name + MANIFEST))


def _order(row: dict[str, Any]) -> tuple[int, int]:
    """By seed and number; a case that no draw made comes first."""
    drawn = row.get("draw")
    return (drawn["seed"], drawn["number"]) if drawn else (-1, 0)
