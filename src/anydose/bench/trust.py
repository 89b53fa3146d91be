"""How far a prediction can be trusted: calibrated intervals, fitted and measured on validation patients, the
ranges of the training cohort that a case is held against, and what each condition is worth. The first two can
leave the small JSON files that ship beside a model's weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anydose.bench.patients import Modelled, Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.case.case import Case
from anydose.case.names import Vocabulary
from anydose.deliver.trust import trust_files
from anydose.io import openkbp
from anydose.io.files import write_json
from anydose.model import registry
from anydose.model.any2any import config_from_dict, pick_device
from anydose.model.checkpoint import describe, load_model
from anydose.model.options import Options
from anydose.model.weights import file_hash
from anydose.predict import predict
from anydose.score import calibration, challenge, training_ranges
from anydose.score.calibration import FEATURES, Calibration, Observed

NORMAL = {"0.5": 0.6745, "0.8": 1.2816, "0.95": 1.96}  # half-widths in standard deviations
SHOWN = ("ptv D_99", "ptv D_95", "ptv D_1", "oar mean", "oar D_0.1_cc")  # OpenKBP's DVH metrics
REMOVED = ("angle", "beam", "ct", "oar", "body", "ptv")  # in this order, where one goes after the other
SCALES = {
    "constant": (),
    "dose level": tuple(name for name in FEATURES if name.startswith("level")),
    "dose level, gradient": tuple(name for name in FEATURES if name != "spread"),
    "dose level, gradient, spread": FEATURES,
}


@dataclass(frozen=True)
class CalibrationSettings(Modelled):
    """Whether the calibration is kept."""

    fit: bool = False
    """Leave the calibration on all patients beside the model's weights."""


@benchmark(
    "calibration",
    settings=CalibrationSettings,
    says="Coverage of 50, 80 and 95 % intervals, per voxel and per DVH point, of patients that the intervals "
    "were not fitted to.",
    has_page=True,
)
def measure_calibration(settings: CalibrationSettings) -> Rows:
    """The rows of the cohort's patients."""
    cases, options = settings.cases(), settings.options
    return calibration_rows(cases, settings.model, options, settings.device, fitted=settings.fit)


def calibration_rows(
    cases: Iterable[Case], model: str, options: Options, device: str, fitted: bool = False
) -> Rows:
    """Coverage of 50, 80 and 95 % intervals, per voxel and per DVH point, of patients that the intervals were
    not fitted to (two halves by turns), for expected errors that know more and more. fitted: leave the
    calibration on all patients beside the model's weights."""
    path = registry.find(model)
    network = load_model(path).on(pick_device(device))
    options = network.as_trained(options)
    patients = []
    for case in cases:
        found = predict(network, replace(case, dose=None), options)
        patients.append(calibration.observe(case, found.mean[0], found.look_std[0]))
    if len(patients) < 4:
        raise ValueError(f"{len(patients)} patients: at least 4 are needed to calibrate and to measure")
    how = {"model": path.stem, "sha256": file_hash(path), "steps": options.steps, "looks": options.looks}
    how |= {"samples": options.samples, "mimic": options.mimic, "patients": len(patients)}
    as_it_is = Calibration({**dict.fromkeys(FEATURES, 0.0), "spread": 1.0}, NORMAL, {})
    raw = {name: round(value, 4) for name, value in calibration.coverage(as_it_is, patients).items()}
    rows: Rows = [{"bench": "calibration", "scale": "spread as it is, as if normal", **raw, **how}]
    for scale, used in SCALES.items():
        rows.append({"bench": "calibration", "scale": scale, **_voxels(patients, used), **how})
    for row in _points(patients):
        rows.append({"bench": "calibration", **row})
    if fitted:
        whole = calibration.fit(patients, how)
        write_json(calibration.as_json(whole), trust_files(path).uncertainty)
    return rows


def _halves(patients: Sequence[Observed]) -> list[tuple[Sequence[Observed], Sequence[Observed]]]:
    """(fitted on, measured on), both ways round."""
    return [(patients[::2], patients[1::2]), (patients[1::2], patients[::2])]


def _voxels(patients: Sequence[Observed], used: Sequence[str]) -> dict[str, float]:
    """Coverage of voxels: the mean over both halves, and the worst patient of both."""
    found = [calibration.coverage(calibration.fit(a, used=used), b) for a, b in _halves(patients)]
    row = {}
    for name in found[0]:
        values = [coverage[name] for coverage in found]
        value = min(values) if name.endswith("worst_patient") else float(np.mean(values))
        row[name] = round(value, 4)
    return row


def _points(patients: Sequence[Observed]) -> Rows:
    """Coverage of OpenKBP's DVH metrics, a row for each kind."""
    hits: dict[str, dict[str, list[bool]]] = {}
    for a, b in _halves(patients):
        for kind, shares in calibration.point_coverage(calibration.fit(a), b).items():
            for coverage, inside in shares.items():
                hits.setdefault(kind, {}).setdefault(coverage, []).extend(inside)
    rows: Rows = []
    for kind in SHOWN:
        if kind in hits:
            measured = {name: round(float(np.mean(inside)), 4) for name, inside in hits[kind].items()}
            rows.append({"point": kind, "points": len(hits[kind]["0.8"]), **measured})
    return rows


def _readable(folders: Iterable[Path], refused: list[str]) -> Iterator[Case]:
    """The cases that training can read; the names of the others go to `refused`."""
    for folder in folders:
        try:
            yield openkbp.read_case(folder)
        except ValueError:
            refused.append(folder.name)


@dataclass(frozen=True)
class RangesSettings(Patients):
    """Whose ranges, and whether they are kept."""

    model: str = registry.DEFAULT
    """A shipped model's name or a .safetensors file."""
    fit: bool = False
    """Leave the ranges of the training patients beside the model's weights."""


@benchmark(
    "guard",
    settings=RangesSettings,
    says="What the ranges of the training patients say of validation patients, who are of the same kind: "
    "each sentence is a false alarm.",
    has_page=True,
)
def measure_ranges(settings: RangesSettings) -> Rows:
    """A row a patient with what would be said, then how many have a sentence."""
    path = registry.find(settings.model)
    refused: list[str] = []
    training = _readable(openkbp.patients(settings.cohort, "train"), refused)
    organs = config_from_dict(describe(path)["config"]).organs
    ranges = training_ranges.learn(training, Vocabulary(organs))
    rows: Rows = []
    for case in settings.cases():
        said = training_ranges.warnings(case, ranges)
        rows.append({"bench": "guard", "patient": case.name, "warnings": said})
    flagged = sum(bool(row["warnings"]) for row in rows)
    if settings.fit:
        write_json(training_ranges.as_json(ranges), trust_files(path).ranges)
    how = {"trained_on": ranges.patients, "refused": refused, "patients": len(rows), "flagged": flagged}
    return [*rows, {"bench": "guard", "model": path.stem, **how}]


def removals(conditions: Sequence[str]) -> list[tuple[str, ...]]:
    """What is taken away: nothing, each condition alone, then the first two, three, ... until one is left."""
    alone = [(name,) for name in conditions]
    return [(), *alone, *(tuple(conditions[:k]) for k in range(2, len(conditions)))]


@benchmark(
    "conditions",
    settings=Modelled,
    says="OpenKBP's scores of the dose as conditions are taken away, one after the other and each alone.",
    has_page=True,
)
def measure_conditions(settings: Modelled) -> Rows:
    """The rows of the cohort's patients."""
    return condition_rows(settings.cases(), settings.model, settings.options, settings.device)


def condition_rows(cases: Iterable[Case], model: str, options: Options, device: str) -> Rows:
    """OpenKBP's scores of the dose as conditions are taken away, on patients who have them all; the change of
    the dose error is paired, with its standard error over patients. The region where dose is possible and
    the prescription stay known, and a beam's plate is the target's shadow. ValueError without such
    patients."""
    path = registry.find(model)
    network = load_model(path).on(pick_device(device))
    options = network.as_trained(options)
    known = tuple(name for name in REMOVED if name in network.config.modalities)
    found: dict[tuple[str, ...], list[Errors]] = {removed: [] for removed in removals(known)}
    for case in cases:
        if case.dose is None or case.ct is None or not (case.beams and case.targets and case.of_role("oar")):
            continue
        for removed, errors in found.items():
            given = tuple(name for name in known if name not in removed)
            made = predict(network, replace(case, dose=None), replace(options, given=given)).mean[0]
            errors.append(_errors(case, made))
    if not found[()]:
        raise ValueError("no patient with CT, targets, organs, beams and a dose: nothing to take away")
    how = {
        "model": path.stem,
        "steps": options.steps,
        "looks": options.looks,
        "mimic": options.mimic,
        "patients": len(found[()]),
    }
    return [{**_change(removed, errors, found[()]), **how} for removed, errors in found.items()]


@dataclass(frozen=True)
class Errors:
    """How far one patient's dose is off, in Gy."""

    dose: float
    """OpenKBP's dose error."""
    dvh: dict[str, float]
    """Its DVH metrics' errors, by name."""


def _errors(case: Case, made: calibration.Array) -> Errors:
    """OpenKBP's dose error and DVH metric errors of one patient, in Gy."""
    assert case.dose is not None and case.body is not None
    reference = case.dose.in_unit("Gy")
    dvh = challenge.dvh_errors(
        reference, made, case.structures, case.body, voxel_mm3=1000.0 * case.grid.voxel_cc
    )
    return Errors(dose=challenge.dose_error(reference, made, case.body), dvh=dvh)


def _change(removed: Sequence[str], errors: Sequence[Errors], complete: Sequence[Errors]) -> Row:
    """One row; complete: the same patients' errors with all conditions."""
    doses = [patient.dose for patient in errors]
    dose, dvh = challenge.cohort_scores(doses, [patient.dvh for patient in errors])
    gaps = np.array(doses) - np.array([patient.dose for patient in complete])
    error = float(gaps.std(ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else float("inf")
    values = {"dose_score": dose, "dvh_score": dvh, "change": float(gaps.mean()), "standard_error": error}
    rounded = {name: round(value, 4) for name, value in values.items() if np.isfinite(value)}
    return {"bench": "conditions", "without": list(removed), **rounded}
