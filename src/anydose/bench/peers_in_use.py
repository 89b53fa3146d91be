"""The networks and their peers in use, `anydose bench peers-in-use`: a prediction from the start of its
process to its last file, and examples of a training a second, beside what the machine itself multiplies."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from anydose.bench import averages
from anydose.bench.patients import Patients
from anydose.bench.peers import networks
from anydose.bench.registry import Row, benchmark
from anydose.io import openkbp
from anydose.model.any2any import Any2Any
from anydose.model.checkpoint import save_model
from anydose.model.network.baselines import KINDS
from anydose.model.sample import draw_sample
from anydose.train.config import TrainConfig
from anydose.train.examples import Prepared, changed_patient, geometry_of
from anydose.train.gradients import Gradients
from anydose.train.head_neck import SLABS
from anydose.train.tasks import Draw, TaskConfig

REPEATS = 3
SIDE = 2048  # of the product that the machine's rate is measured with
SAMPLINGS = {"one look": ("--looks", "1", "--no-mimic"), "as shipped": ()}


@dataclass(frozen=True)
class Settings(Patients):
    """What is measured."""

    limit: int = 3
    """Only the first N validation patients; 0 for all."""
    predicts: bool = True
    """Measure `anydose predict` from start to files."""
    trains: bool = True
    """Measure training."""


@benchmark(
    "peers-in-use",
    settings=Settings,
    says="The shipped networks beside DynUNet, MedNeXt and a cascade in the style of C3D: `anydose predict` "
    "from the start of its process to its last file, with its peak memory, and training examples a second "
    "with the share of the machine's own measured bfloat16 product rate. Peers have random weights.",
    has_page=True,
)
def measure(settings: Settings) -> Iterator[Row]:
    """A row for each network and sampling, then one for each network that trains."""
    models = networks()
    if settings.predicts:
        yield from _predictions(models, settings.folders())
    if settings.trains:
        yield from _trainings(models, settings.folders()[0])


def _predictions(models: Mapping[str, Any2Any], folders: list[Path]) -> Iterator[Row]:
    """By turns: each network predicts a patient before any of them predicts the next."""
    with tempfile.TemporaryDirectory() as place:
        files = {}
        for name, model in models.items():
            files[name] = Path(place) / f"{name}.safetensors"
            shown = constant(model) if name in KINDS else model
            save_model(shown, files[name], {"trained": name not in KINDS})
        ways = [(name, how) for name in models for how in SAMPLINGS if how == "one look" or name not in KINDS]
        found: dict[tuple[str, str], list[Row]] = {way: [] for way in ways}
        for folder in folders:
            for name, how in ways:
                out = Path(place) / f"{name} {how} {folder.name}"
                found[name, how].append(_predicted(folder, out, files[name], SAMPLINGS[how]))
    for (name, how), rows in found.items():
        seconds, network = averages.median(rows, "seconds"), averages.median(rows, "sample")
        yield {
            "bench": "peers-in-use",
            "network": name,
            "sampling": how,
            "patients": len(rows),
            "start_to_files_seconds": round(seconds, 2),
            "of_it_network_seconds": round(network, 2),
            "peak_memory_mb": round(max(averages.column(rows, "memory_mb"))),
        }


def constant(model: Any2Any) -> Any2Any:
    """A copy whose dose is the same everywhere: random weights may give one that `predict` refuses."""
    still = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in still.parameters():
            parameter.zero_()
    return still


def _predicted(folder: Path, out: Path, model: Path, sampling: tuple[str, ...]) -> Row:
    line = [sys.executable, "-m", "anydose.cli", "predict", str(folder), "--out", str(out)]
    begin = time.perf_counter()
    subprocess.run([*line, "--model", str(model), *sampling], check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    run = json.loads((out / "run.json").read_text())
    return {"seconds": seconds, "sample": run["seconds"]["sample"], "memory_mb": run["peak_memory_mb"]}


def _trainings(models: Mapping[str, Any2Any], folder: Path) -> Iterator[Row]:
    """Gradients of one slab, by turns, as the first stage of the shipped model takes them four at a time."""
    sample, _ = draw_sample(openkbp.read_case(folder))
    visible = tuple(name for name in sample.volumes if name != "dose")
    drawn = Draw(case=0, target="dose", visible=visible, t=1.0, noise_seed=0)
    config = TrainConfig(name="peers", task=TaskConfig(), accumulate=1, crop=SLABS["crop"])
    works: dict[str, tuple[Gradients, Prepared]] = {}
    for name, model in models.items():
        slab = changed_patient(geometry_of(model), sample, drawn, config.crop)
        works[name] = Gradients(model.train(), config), (slab, drawn)
    rate = _products_a_second()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(1 + REPEATS):
        for name, (gradients, prepared) in works.items():
            taken = _seconds_of(gradients, prepared)
            if turn:
                seconds[name].append(taken)
    for name, (gradients, prepared) in works.items():
        with FlopCounterMode(display=False) as counter:
            gradients.of([prepared])
        each = float(np.median(seconds[name]))
        yield {
            "bench": "peers-in-use",
            "trained": name,
            "examples_a_second": round(1 / each, 3),
            "gflop_an_example": round(counter.get_total_flops() / 1e9, 1),
            "machine_gflop_a_second": round(rate / 1e9, 1),
            "share_of_the_machine": round(counter.get_total_flops() / each / rate, 3),
            "threads": torch.get_num_threads(),
        }


def _seconds_of(gradients: Gradients, prepared: Prepared) -> float:
    begin = time.perf_counter()
    gradients.of([prepared])
    for parameter in gradients.learning:
        parameter.grad = None
    return time.perf_counter() - begin


def _products_a_second() -> float:
    """FLOP/s of this machine in a bfloat16 product of SIDE x SIDE matrices, the best of several."""
    a, b = (torch.randn(SIDE, SIDE).to(torch.bfloat16) for _ in range(2))
    best = np.inf
    for _ in range(1 + 2 * REPEATS):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return float(2 * SIDE**3 / best)
