"""How far a prediction can be trusted: what the files beside a model's weights say of a case."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anydose.case import anatomy
from anydose.case.names import naming_warnings
from anydose.model.weights import file_hash
from anydose.predict import Prediction
from anydose.score import calibration
from anydose.score import training_ranges as guard
from anydose.score.calibration import Calibration


@dataclass(frozen=True)
class TrustFiles:
    """What may lie beside a model's weights: its calibrated uncertainty, and the ranges of its training
    cohort."""

    uncertainty: Path
    ranges: Path


def trust_files(model: Path) -> TrustFiles:
    """Where they would lie."""
    return TrustFiles(*(model.with_name(f"{model.stem}.{kind}.json") for kind in ("uncertainty", "ranges")))


@dataclass(frozen=True)
class Trust:
    """How far a prediction can be trusted: its intervals, None if not asked for, and sentences on what is
    unusual."""

    intervals: Calibration | None = None
    warnings: tuple[str, ...] = field(default=())


def refuse_uncalibrated(model: Path | None, intervals: bool) -> None:
    """Raises ValueError if intervals are asked for and a model's were never calibrated."""
    if not intervals:
        return
    if model is None:
        raise ValueError("intervals: a model in memory has none; save it and give its file")
    calibrated = trust_files(model).uncertainty
    if not calibrated.is_file():
        raise ValueError(f"{calibrated}: not found; `anydose bench calibration --fit` writes it")


def trust(prediction: Prediction, intervals: bool) -> Trust:
    """What the files beside a model say of a case that it predicted: of the grid that it worked on, and of
    the case's own names and structures. intervals: ask for them. Raises ValueError if they are asked for and
    were never calibrated."""
    case, model, options = prediction.case, prediction.model, prediction.options
    refuse_uncalibrated(model, intervals)
    said = [*naming_warnings(case), *anatomy.warnings(case)]
    if model is None:
        said.append("the model was made in memory: nothing is known of its training data")
        return Trust(warnings=tuple(said))
    files, found = trust_files(model), None
    if files.ranges.is_file():
        said += guard.warnings(prediction.work, guard.read(files.ranges))
    if intervals:
        found = calibration.read(files.uncertainty)
        if found.about.get("sha256") != file_hash(model):
            said.append("the intervals were calibrated with other weights than these")
        theirs = {k: found.about.get(k) for k in ("steps", "looks", "samples", "mimic")}
        if any(value != getattr(options, k) for k, value in theirs.items()):
            words = ", ".join(f"{k} {value}" for k, value in theirs.items())
            said.append(f"the intervals were calibrated for {words}")
    return Trust(found, tuple(said))
