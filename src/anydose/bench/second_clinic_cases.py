"""The patients of `bench second-clinic`: a DICOM clinic drawn for training, and what a dose is worth."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.naming.vocabulary import PROSTATE
from anydose.io.read import read_case
from anydose.model.any2any import Any2Any
from anydose.model.looks import sample_target
from anydose.model.options import Options
from anydose.model.perceptual import Distance
from anydose.model.sample import Sample
from anydose.score.compare import psnr, ssim
from anydose.train.data import render_file

Dose = NDArray[np.float32]

ORGANS = PROSTATE.organs  # a channel each; the shipped model has others, so these start at nothing
DOSE_MARGIN_MM = 25.0  # as in OpenKBP dose is learned and scored this far above and below the targets
HOT_CC = 0.1  # of an organ: its hottest dose (D_0.1cc)
TARGET_RANKS = (1, 5, 99)  # percentiles: D99, D95 and D1


def patients(clinic: Path) -> list[Path]:
    """The folders of a clinic's patients, by number. ValueError if there are none."""
    found = [path for path in clinic.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not found:
        raise ValueError(f"{clinic}: no patient; `anydose clinic {clinic}` writes some")
    return sorted(found, key=lambda path: (int((re.findall(r"\d+", path.name) or ["0"])[-1]), path.name))


def render_clinic(
    clinic: Path, folder: Path, held: int, spacing_mm: tuple[float, ...] = (), workers: int = 1
) -> None:
    """Draw a clinic's patients into `folder`/train, the last `held` of them into `folder`/held, on voxels of
    `spacing_mm` (x, y, z; () keeps theirs); what is there is kept. ValueError if no patient would be left to
    train on."""
    found = patients(clinic)
    if not 0 < held < len(found):
        raise ValueError(f"{held} held patients: 1 to {len(found) - 1} of {len(found)} is accepted")
    jobs = [(path, folder / ("train" if k < len(found) - held else "held")) for k, path in enumerate(found)]
    for _, place in jobs:
        place.mkdir(parents=True, exist_ok=True)
    draw = partial(render_one, spacing_mm=spacing_mm)
    if workers == 1:
        for job in jobs:
            draw(*job)
        return
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(draw, *zip(*jobs, strict=True)))


def render_one(
    source: Path,
    folder: Path,
    read: Callable[[Path], Case] = read_case,
    spacing_mm: tuple[float, ...] = (),
) -> Path:
    """Draw one patient where dose is possible, with ORGANS, unless it is there already."""

    def drawn(path: Path) -> Case:
        case = read(path)
        if spacing_mm:
            x, y, z = spacing_mm
            case = case.on(case.grid.with_spacing((x, y, z)))
        return where_dose_is_possible(case)

    return render_file(drawn, source, folder, ORGANS)


def where_dose_is_possible(case: Case) -> Case:
    """The case with its body cut to DOSE_MARGIN_MM above and below the targets. ValueError without body or
    target."""
    if case.body is None or not case.targets:
        raise ValueError(f"{case.name}: a body and a prescribed target are needed")
    slices = np.flatnonzero(np.logical_or.reduce(list(case.targets.values())).any(axis=(1, 2)))
    margin = round(DOSE_MARGIN_MM / case.grid.spacing_zyx_mm[0])
    body = case.body.copy()
    body[: max(slices[0] - margin, 0)] = body[slices[-1] + margin + 1 :] = False
    (name,) = case.of_role("body")
    return replace(case, structures={**case.structures, name: body}, edges=())


def predicted(model: Any2Any, sample: Sample, seed: int) -> Dose:
    """The dose (d, h, w) in Gy that a model gives a drawn patient: one step, one look, no dose mimicking."""
    volumes = {name: volume for name, volume in sample.volumes.items() if name != "dose"}
    blind = replace(sample, volumes=volumes)
    (found,) = sample_target(model, blind, Options(steps=1, looks=1, seed=seed, mimic=False))
    gy = modality.TABLE["dose"].from_range(found[0].numpy(), sample.rx_max_gy)
    return np.asarray(np.where(sample.body.numpy(), np.maximum(gy, 0.0), 0.0), dtype=np.float32)


def reference(sample: Sample) -> Dose:
    """The planned dose (d, h, w) in Gy, where dose is possible."""
    gy = modality.TABLE["dose"].from_range(sample.volumes["dose"][0].numpy(), sample.rx_max_gy)
    return np.asarray(np.where(sample.body.numpy(), np.maximum(gy, 0.0), 0.0), dtype=np.float32)


def masks(sample: Sample) -> dict[str, NDArray[np.bool_]]:
    """The organs that the patient has, and each level of the prescription as 'target N Gy'."""
    found = {
        name: (channel > 0).numpy()
        for name, channel in zip(sample.organs, sample.volumes["oar"], strict=True)
        if name != "other" and bool((channel > 0).any())
    }
    level = modality.TABLE["ptv"].from_range(sample.volumes["ptv"][0].numpy(), sample.rx_max_gy)
    level = np.round(level, 1)
    for gy in np.unique(level[level > 1.0]):
        found[f"target {gy:g} Gy"] = level == gy
    return found


def dvh_points(dose: Dose, sample: Sample) -> dict[str, float]:
    """D_0.1cc and mean dose of each organ, D99, D95 and D1 of each target, in Gy by name, in the arithmetic
    of OpenKBP's DVH score (score/challenge.py)."""
    voxel_cc = float(np.prod(sample.spacing_mm)) / 1000
    out: dict[str, float] = {}
    for name, mask in masks(sample).items():
        values = dose[mask]
        if name.startswith("target"):
            out |= {f"D_{100 - rank} {name}": float(np.percentile(values, rank)) for rank in TARGET_RANKS}
        else:
            hottest = max(1, round(HOT_CC / voxel_cc))
            out[f"D_0.1cc {name}"] = float(np.percentile(values, max(0.0, 100 - 100 * hottest / values.size)))
            out[f"mean {name}"] = float(values.mean(dtype=np.float64))
    return out


def figures(guess: Dose, sample: Sample, distance: Distance | None = None) -> dict[str, float]:
    """What a predicted dose (d, h, w) in Gy is worth: mean absolute error where dose is possible (Gy), and
    where it exceeds 5 Gy; PSNR (dB), SSIM and, with `distance`, ST-LPIPS in the body's box; mean absolute
    error of `dvh_points` (Gy)."""
    truth, body = reference(sample), sample.body.numpy()
    points, theirs = dvh_points(guess, sample), dvh_points(truth, sample)
    off = np.abs(truth - guess)
    irradiated = body & (truth > 5.0)
    found = {
        "mae_gy": float(off[body].mean(dtype=np.float64)),
        "mae_5gy_gy": float(off[irradiated].mean(dtype=np.float64)),
        "dvh_gy": float(np.mean([abs(points[name] - theirs[name]) for name in theirs])),
        "psnr_db": psnr(truth, guess),
        "ssim": ssim(truth, guess),
    }
    if distance is not None:
        found["st_lpips"] = distance(truth / truth.max(), guess / truth.max())
    return {name: round(value, 4) for name, value in found.items()}


def scored(
    model: Any2Any, cases: list[Sample], seed: int, distance: Distance | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(patient, figures) of every drawn patient."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for sample in cases:
            yield sample.name, figures(predicted(model, sample, seed), sample, distance)
    model.train(was_training)
