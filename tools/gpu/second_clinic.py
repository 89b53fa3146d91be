"""`anydose bench second-clinic` on a lent GPU, with steps fitted to the time there is.

Here: `second_clinic.py pack CLINIC PACKED` (0.3 MB a patient of `anydose clinic`).
There: `second_clinic.py run PACKED OUT [--seconds 180] [--processes 12]`: patients are drawn on all cores,
the pace of every arm is measured beside the others (unless --steps says how many), and the rows are written
to OUT as they are made. DynUNet needs MONAI: carry its wheel.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

WORK = Path("/tmp/second-clinic")
BEGIN = time.monotonic()
PACE_STEPS = 24
HELD = 16
ARMS = ("lora", "full", "scratch", "regression")
FEWEST, MOST = 40, 600  # steps of a row


def say(text: str) -> None:
    """Print with the seconds since the start."""
    print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", flush=True)


def pack_all(clinic: Path, packed: Path) -> None:
    """Pack every patient of a DICOM clinic, cut to where dose is possible."""
    from packed_case import pack

    from anydose.bench.second_clinic_cases import patients, where_dose_is_possible
    from anydose.io.read import read_case
    from anydose.model.sample import body_block

    packed.mkdir(parents=True, exist_ok=True)
    for source in patients(clinic):
        path = packed / f"{source.name}.xz"
        if not path.is_file():
            case = where_dose_is_possible(read_case(source))
            pack(case.block(*body_block(case)), path)
    say(f"{packed}: {len(list(packed.glob('*.xz')))} patients")


def draw(path: Path, folder: Path) -> None:
    """One packed patient as a rendered file."""
    from packed_case import unpack

    from anydose.bench.second_clinic_cases import render_one

    render_one(path.with_suffix(""), folder, lambda place: unpack(place.with_suffix(".xz")))


def pace(arm: str, plan: Any) -> tuple[float, float]:
    """(seconds a step, seconds a scored patient) of an arm, while others run beside it."""
    from anydose.bench import second_clinic as bench
    from anydose.bench.second_clinic_cases import scored
    from anydose.train.data import Cohort
    from anydose.train.trainer import Trainer

    job = bench.Job(arm, 50, os.getpid() % 1000)
    config = replace(bench.config_of(job, plan), name=f"pace-{arm}-{os.getpid()}", steps=MOST)
    trainer = Trainer(config, plan.device)
    times = [time.monotonic()]
    for step in trainer.run():
        times.append(time.monotonic())
        if step.step == PACE_STEPS:
            break
    held = Cohort(plan.rendered / "held")
    begin = time.monotonic()
    for _ in scored(trainer.model, [held.load(k) for k in range(2)], 0):
        pass
    warm = PACE_STEPS // 2
    return (times[-1] - times[warm]) / (PACE_STEPS - warm), (time.monotonic() - begin) / 2


def fitted(plan: Any, seconds: float) -> int:
    """Steps of a row with which all rows take about so many seconds."""
    arms = [ARMS[k % len(ARMS)] for k in range(plan.processes)]
    with ProcessPoolExecutor(plan.processes, multiprocessing.get_context("spawn")) as pool:
        paces = list(pool.map(pace, arms, [plan] * len(arms)))
    mean: dict[str, list[float]] = {}
    for arm in set(arms):
        each_pace = zip(*(one for name, one in zip(arms, paces, strict=True) if name == arm), strict=True)
        mean[arm] = [sum(times) / len(times) for times in each_pace]
    say(f"seconds a step and a scored patient, {plan.processes} at a time: {json.dumps(mean)}")
    each = len(plan.patients) * len(plan.seeds)
    rows = each * len(mean)
    idle = -(-rows // plan.processes) * plan.processes / rows  # of processes that have nothing left to do
    scoring = sum(each * len(plan.points) * plan.held * score for _, score in mean.values())
    steps = (seconds * plan.processes / idle - scoring) / (each * sum(step for step, _ in mean.values()))
    return int(min(MOST, max(FEWEST, steps // 10 * 10)))


def run(packed: Path, out: Path, seconds: float, steps: int, held: int, **others: Any) -> None:
    """Draw the patients, find the pace, make the rows."""
    from anydose.bench import second_clinic as bench

    out.mkdir(parents=True, exist_ok=True)
    found = sorted(packed.glob("*.xz"), key=lambda path: int(path.stem.split("_")[-1]))
    places = [WORK / "rendered" / ("train" if k < len(found) - held else "held") for k in range(len(found))]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 16), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(draw, found, places))
    say(f"{len(found)} patients drawn")
    plan = bench.Plan(
        clinic=WORK / "none",  # the patients are drawn already
        rendered=WORK / "rendered",
        held=held,
        runs=str(WORK / "runs"),
        **others,
    )
    weights = packed.parent / "alex_shift_tolerant.pth"
    plan = replace(plan, st_lpips=str(weights) if weights.is_file() else "")
    plan = replace(plan, training_steps=steps or fitted(plan, seconds))
    say(f"{plan.training_steps} steps a row")
    bench.rows(plan, out / "second-clinic.json", say)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    ask = argparse.ArgumentParser()
    ask.add_argument("what", choices=("pack", "run"))
    ask.add_argument("source", type=Path)
    ask.add_argument("out", type=Path)
    ask.add_argument("--seconds", type=float, default=180.0)
    ask.add_argument("--processes", type=int, default=12)
    ask.add_argument("--device", default="cuda")
    ask.add_argument("--steps", type=int, default=0)
    ask.add_argument("--held", type=int, default=HELD)
    ask.add_argument("--patients", type=int, nargs="+", default=(5, 20, 50))
    ask.add_argument("--model", default="compact-hn")
    given = ask.parse_args()
    if given.what == "pack":
        pack_all(given.source, given.out)
    else:
        run(
            given.source,
            given.out,
            given.seconds,
            given.steps,
            given.held,
            processes=given.processes,
            device=given.device,
            patients=tuple(given.patients),
            model=given.model,
        )
