"""How far a prediction can be trusted: what the files beside a model's weights say of a case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anydose.case import anatomy
from anydose.case.names import naming_warnings
from anydose.model.options import Options
from anydose.model.weights import file_hash
from anydose.predict import Prediction
from anydose.score import calibration, training_ranges
from anydose.score.calibration import Calibration

SAMPLING = ("steps", "looks", "samples", "mimic")  # the options that intervals depend on


@dataclass(frozen=True)
class TrustFiles:
    """What may lie beside a model's weights."""

    uncertainty: Path
    """Its calibrated intervals."""
    ranges: Path
    """The ranges of its training cohort."""


def trust_files(model: Path) -> TrustFiles:
    """Where they would lie."""
    return TrustFiles(
        uncertainty=model.with_name(f"{model.stem}.uncertainty.json"),
        ranges=model.with_name(f"{model.stem}.ranges.json"),
    )


@dataclass(frozen=True)
class Trust:
    """How far a prediction can be trusted."""

    intervals: Calibration | None = None
    """Its calibrated intervals; None if they were not asked for."""
    warnings: tuple[str, ...] = ()
    """Sentences on what is unusual."""


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
    files = trust_files(model)
    if files.ranges.is_file():
        said += training_ranges.warnings(prediction.work, training_ranges.read(files.ranges))
    if not intervals:
        return Trust(warnings=tuple(said))
    calibrated = calibration.read(files.uncertainty)
    said += _other_than_calibrated(calibrated, model, options)
    return Trust(calibrated, tuple(said))


def _other_than_calibrated(calibrated: Calibration, model: Path, options: Options) -> list[str]:
    """Sentences on what differs from how the intervals were calibrated: the weights, the sampling."""
    said = []
    if calibrated.about.get("sha256") != file_hash(model):
        said.append("the intervals were calibrated with other weights than these")
    calibrated_for = {name: calibrated.about.get(name) for name in SAMPLING}
    if any(value != getattr(options, name) for name, value in calibrated_for.items()):
        words = ", ".join(f"{name} {value}" for name, value in calibrated_for.items())
        said.append(f"the intervals were calibrated for {words}")
    return said
