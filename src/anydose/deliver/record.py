"""How a result came about: inputs, model, options, versions, what was used and inferred, seconds, memory."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anydose import __version__
from anydose.case.case import Case
from anydose.model import registry
from anydose.model.any2any import pick_device
from anydose.model.checkpoint import file_hash
from anydose.predict import Options, Prediction


def title_of(case: Case, model: Path, options: Options, prediction: Prediction) -> str:
    """One line that says of which patient, by which model and how."""
    steps = f"{options.steps} {options.sampler} step{'s' * (options.steps > 1)}"
    mimicked = ", dose mimicking" if prediction.mimicked else ""
    return f"{case.name}: {model.stem}, {steps}, seed {options.seed}{mimicked}"


class Stopwatch:
    """Seconds of each stage of a run, and of all of it."""

    def __init__(self) -> None:
        self.begin = self.last = time.monotonic()
        self.stages: dict[str, float] = {}

    def done(self, stage: str) -> None:
        """A stage that began where the last one ended is done."""
        now = time.monotonic()
        self.stages[stage] = now - self.last
        self.last = now

    @property
    def seconds(self) -> dict[str, float]:
        """Every stage so far, and 'all'."""
        return {**self.stages, "all": self.last - self.begin}


def record(
    case: Case,
    prediction: Prediction,
    options: Options,
    source: Path,
    model: Path,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Inputs and their hashes, model and its hash, options, versions, what was used and inferred, seconds,
    memory."""
    inputs = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    return {
        "case": case.name,
        "inputs": {p.name if p == source else str(p.relative_to(source)): file_hash(p) for p in inputs},
        "model": {"file": model.name, "sha256": file_hash(model)},
        "options": asdict(options),
        "mimicked": prediction.mimicked,
        "used": list(prediction.used),
        "inferred": list(prediction.inferred),
        "rx_max_gy": case.rx_max_gy if case.prescription.levels_gy else None,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "versions": versions(),
        "notice": "AI prediction for research, not for clinical use",
    }


def versions() -> dict[str, str]:
    """What a result depends on."""
    return {
        "anydose": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def about() -> dict[str, Any]:
    """Models, device and versions."""
    return {"models": registry.listing(), "device": str(pick_device("auto")), "versions": versions()}
