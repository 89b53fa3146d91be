"""The network alone beside its peers: `anydose bench peers`. One evaluation on whole patients, the same
inputs, grid, precision and threads for all, by turns in one run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from anydose.bench import averages
from anydose.bench.patients import Patients
from anydose.bench.registry import Rows, benchmark
from anydose.case.case import Case
from anydose.model import registry
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import load_model
from anydose.model.looks import sample_target
from anydose.model.network.baselines import KINDS, BaselineConfig
from anydose.model.options import Options
from anydose.model.sample import Sample, draw_sample

ONE_LOOK = Options(steps=1, looks=1, mimic=False)
REPEATS = 3  # turns that count, after one that does not
OURS = ("compact-hn", "compact-hn-dit")


def networks(ours: Iterable[str] = OURS) -> dict[str, Any2Any]:
    """The shipped models among `ours`, and every baseline at random weights: time does not depend on
    them."""
    torch.manual_seed(0)
    known = registry.shipped()
    shipped = {name: load_model(known[name]) for name in ours if name in known}
    peers = {kind: Any2Any(ModelConfig(BaselineConfig(kind=kind))).eval() for kind in KINDS}
    return {**shipped, **peers}


@benchmark(
    "peers",
    settings=Patients,
    says="Seconds of one evaluation of the shipped networks alone, beside DynUNet, MedNeXt and a cascade in "
    "the style of C3D.",
)
def measure_peers(settings: Patients) -> Rows:
    """A row a patient, then the means."""
    return compare(settings.cases(), networks())


def compare(cases: Iterable[Case], models: Mapping[str, Any2Any]) -> Rows:
    """A row a patient: the median seconds of each network's dose. The last row holds each network's size, its
    mean over patients, and how many times the first network's that is. ValueError without a patient."""
    rows: Rows = []
    for case in cases:
        sample, _ = draw_sample(case)
        sample.volumes.pop("dose", None)
        found = _by_turns(models, sample)
        rows.append(
            {
                "bench": "peers",
                "patient": case.name,
                "body_voxels": int(sample.body.sum()),
                "threads": torch.get_num_threads(),
                **{f"{name}_seconds": round(value, 3) for name, value in found.items()},
            }
        )
    if not rows:
        raise ValueError("no patient to predict")
    mean = {name: averages.mean(rows, f"{name}_seconds") for name in models}
    first = next(iter(models))
    sizes = {name: _million_parameters(model) for name, model in models.items()}
    return [
        *rows,
        {
            "bench": "peers",
            "patients": len(rows),
            **{f"{name}_million_parameters": round(size, 2) for name, size in sizes.items()},
            **{f"{name}_seconds": round(value, 3) for name, value in mean.items()},
            **{f"{name}_times_{first}": round(value / mean[first], 2) for name, value in mean.items()},
        },
    ]


def _million_parameters(model: Any2Any) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


def _by_turns(models: Mapping[str, Any2Any], sample: Sample) -> dict[str, float]:
    """The median seconds of each network on one patient. They take turns, as machines are shared and
    noisy."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(1 + REPEATS):
        for name, model in models.items():
            begin = time.perf_counter()
            list(sample_target(model, sample, ONE_LOOK))
            if turn:
                found[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in found.items()}
