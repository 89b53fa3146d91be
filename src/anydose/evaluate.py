"""A cohort and a model in, a table of scores out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.volume import block
from anydose.io import openkbp
from anydose.model import registry
from anydose.model.any2any import pick_device
from anydose.model.checkpoint import budget, describe, load_model
from anydose.model.codec.codec import Codec
from anydose.model.codec.make import named_codec
from anydose.model.sample import draw_sample, padded
from anydose.predict import Options, predict
from anydose.score import challenge

Doses = Callable[[Case], NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """One patient's scores: OpenKBP dose error in Gy, DVH metric errors in Gy, seconds for the prediction."""

    patient: str
    dose_error: float
    dvh_errors: dict[str, float]
    seconds: float
    has_ct: bool

    @property
    def dvh_error(self) -> float:
        """Mean DVH metric error of this patient in Gy."""
        return float(np.mean(list(self.dvh_errors.values())))


def rows(cases: Iterable[Case], dose_of: Doses) -> Iterator[Row]:
    """Score every case that has a reference dose; `dose_of(case)` predicts (d, h, w) in Gy without seeing
    it."""
    for case in cases:
        if case.dose is None or case.body is None:
            continue
        begin = time.monotonic()
        dose = dose_of(case)
        seconds = time.monotonic() - begin
        reference = case.dose.in_unit("Gy")
        voxel_mm3 = 1000.0 * case.grid.voxel_cc
        dvh = challenge.dvh_errors(reference, dose, case.structures, case.body, voxel_mm3)
        error = challenge.dose_error(reference, dose, case.body)
        yield Row(case.name, error, dvh, seconds, case.ct is not None)


def summary(table: list[Row]) -> dict[str, float | int]:
    """The cohort's official scores and the mean time a case; ValueError for a cohort with no reference
    dose."""
    if not table:
        raise ValueError("no case with a reference dose: nothing to evaluate")
    dose, dvh = challenge.cohort_scores([r.dose_error for r in table], [r.dvh_errors for r in table])
    return {
        "patients": len(table),
        "patients_without_ct": sum(not r.has_ct for r in table),
        "dose_score": round(dose, 4),
        "dvh_score": round(dvh, 4),
        "seconds_per_case": round(float(np.mean([r.seconds for r in table])), 2),
    }


def from_folder(folder: Path) -> Doses:
    """Doses that somebody else predicted: `folder`/pt_N.csv in OpenKBP's form, one a case."""

    def read(case: Case) -> NDArray[np.float32]:
        path = folder / f"{case.name}.csv"
        if not path.is_file():
            raise ValueError(f"{path}: no prediction for {case.name}; one pt_N.csv a patient is needed")
        return openkbp.read_dose(path, case.grid).array

    return read


def from_model(path: Path, options: Options, device: str) -> Doses:
    """Doses of a checkpoint."""
    network = load_model(path).on(pick_device(device))
    return lambda case: predict(network, replace(case, dose=None), options).mean[0]


def openkbp_split(
    cohort: Path,
    split: str,
    model: str,
    predictions: Path | None,
    options: Options,
    device: str,
    limit: int,
    on_case: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Score a model (or the files in `predictions`) on one split: {'row': the cohort's scores and how they
    came about, 'patients': each one's}. `on_case` is told a line a patient."""
    folders = openkbp.patients(cohort, split)[: limit or None]
    path = registry.find(model) if predictions is None else None
    doses = from_model(path, options, device) if path else from_folder(predictions or Path())
    table = []
    for row in rows((openkbp.read_case(folder) for folder in folders), doses):
        table.append(row)
        on_case(
            f"{row.patient}: dose {row.dose_error:.3f} Gy, DVH {row.dvh_error:.3f} Gy, {row.seconds:.1f} s"
        )
    how = {
        "model": path.parent.name if path and path.stem == "model" else str(path and path.stem or predictions)
    }
    if path:
        how |= {"sampler": options.sampler, "steps": options.steps, "samples": options.samples}
        how |= {
            "looks": options.looks,
            "mimic": options.mimic,
            "seed": options.seed,
            "given": list(options.given),
        }
        how |= budget(describe(path)["record"])
    patients = [
        {"patient": r.patient, "dose_error": r.dose_error, "dvh_errors": r.dvh_errors, "has_ct": r.has_ct}
        for r in table
    ]
    return [{**how, "split": split, **summary(table)}, *patients]


def codec_round_trips(
    cohort: Path, split: str, codecs: list[str], limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Dose and DVH score of the true dose after encoding and decoding, one row a codec."""
    for name in codecs:
        codec = named_codec(name)
        folders = openkbp.patients(cohort, split)[: limit or None]
        table = list(
            rows((openkbp.read_case(folder) for folder in folders), lambda c, k=codec: round_trip(c, k))
        )
        row = summary(table)
        compression = codec.stride**3 / codec.latent_channels
        yield {"codec": name, "stride": codec.stride, "compression": compression, "split": split, **row}


@torch.inference_mode()
def round_trip(case: Case, codec: Codec) -> NDArray[np.float32]:
    """The case's own dose (d, h, w) in Gy through the codec and back."""
    sample, start = draw_sample(case, ("dose",))
    whole = padded(sample, codec.stride, (0.0, 0.0, 0.0))
    decoded = codec.decode(codec.encode(whole.volumes["dose"][None]))[0].numpy()
    d, h, w = sample.body.shape
    dose_gy = modality.TABLE["dose"].from_range(decoded[0, :d, :h, :w], sample.rx_max_gy)
    back = (-start[0], -start[1], -start[2])
    return block(np.maximum(dose_gy, 0.0), back, case.grid.shape, 0.0)
