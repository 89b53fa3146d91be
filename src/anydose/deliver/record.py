"""How a result came about: inputs, model, options, versions, what was used and inferred, seconds, memory."""

from __future__ import annotations

import logging
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anydose import __version__
from anydose.case.names import Vocabulary, naming_table
from anydose.io.run_folder import hash_of
from anydose.model import registry
from anydose.model.any2any import pick_device
from anydose.predict import Prediction

log = logging.getLogger(__name__)


def title_of(prediction: Prediction) -> str:
    """One line that says of which patient, by which model and how."""
    options = prediction.options
    model = prediction.model.stem if prediction.model else "a model in memory"
    steps = f"{options.steps} {options.sampler} step{'s' * (options.steps > 1)}"
    mimicked = ", dose mimicking" if prediction.mimicked else ""
    return f"{prediction.case.name}: {model}, {steps}, seed {options.seed}{mimicked}"


class Stopwatch:
    """Seconds of each stage of a run, and of all of it; on_done hears the name of each as it ends."""

    def __init__(self, on_done: Callable[[str], object] | None = None) -> None:
        self.on_done = on_done
        self.begin = self.last = time.monotonic()
        self.stages: dict[str, float] = {}

    def done(self, stage: str) -> None:
        """A stage that began where the last one ended is done."""
        now = time.monotonic()
        self.stages[stage] = now - self.last
        log.info("%s: %.2f s", stage, self.stages[stage])
        self.last = now
        if self.on_done is not None:
            self.on_done(stage)

    @property
    def seconds(self) -> dict[str, float]:
        """Every stage so far, and 'all'."""
        return {**self.stages, "all": self.last - self.begin}


def input_hashes(source: Path | None) -> dict[str, str]:
    """File -> SHA-256 of everything in a case's folder, or of its one file."""
    if source is None:
        return {}
    if source.is_file():
        return {source.name: hash_of(source)}
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return {path.relative_to(source).as_posix(): hash_of(path) for path in files}


def record(prediction: Prediction, seconds: Mapping[str, float], inputs: Mapping[str, str]) -> dict[str, Any]:
    """How a prediction came about, as plain values; inputs: file -> SHA-256."""
    case, options, model = prediction.case, prediction.options, prediction.model
    return {
        "case": case.name,
        "target": options.target,
        "model": {"file": model.name if model else None, "sha256": model_hash(model)},
        "options": asdict(options),
        "mimicked": prediction.mimicked,
        "used": list(prediction.used),
        "inferred": list(prediction.inferred),
        "structures": naming_table(case, Vocabulary(prediction.organs)),
        "rx_max_gy": case.rx_max_gy if case.prescription.levels_gy else None,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "versions": versions(),
        "notice": "AI prediction for research, not for clinical use",
        "inputs": dict(inputs),
    }


def model_hash(model: Path | None) -> str:
    """SHA-256 of a checkpoint; 'in memory' for a model that has none."""
    return hash_of(model) if model else "in memory"


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


def peak_memory_mb() -> int:
    """The most memory that this process held. The count that every system gives begins with what the parent
    held when it started the process; Linux says it without that."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    own = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return round((int(own) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024)
