"""Side-by-side timings, each a function that returns JSON rows: `anydose bench NAME --json FILE`. Ratios are
taken within one run, by turns, as machines are shared and noisy."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anydose.bench import io as bench_io
from anydose.bench import posttrain as bench_scard
from anydose.bench import scoring as bench_score
from anydose.bench import speed as bench_model
from anydose.bench import trust as bench_trust
from anydose.bench.io import seconds
from anydose.case import beams, dose_mimicking, modality
from anydose.case.case import Case
from anydose.io import openkbp
from anydose.model import registry
from anydose.model.any2any import Any2Any, ModelConfig, pick_device
from anydose.model.checkpoint import load_model
from anydose.model.looks import sample_target
from anydose.model.network.body_voxels import pyramid, take
from anydose.model.network.dit import DiTConfig
from anydose.model.network.layers import Conv3
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options
from anydose.model.sample import draw_sample, padded

Rows = list[dict[str, Any]]
MEASURED = (
    "predict",
    "fast",
    "candidates",
    "complete",
    "calibration",
    "guard",
    "conditions",
    "ablation",
    "transfer",
    "masks",
    "convert",
)


@dataclass(frozen=True)
class How:
    """What the benchmarks of a model take: the model, how it samples, and whether what was fitted is left
    beside its weights."""

    model: str = registry.DEFAULT
    options: Options = field(default_factory=Options)
    device: str = "auto"
    fit: bool = False


def bench_beams(cases: Iterable[Case]) -> Rows:
    """Nine beam plates on the whole 128^3 grid, and the drawn beam modality on the body's block."""
    rows = []
    for case in cases:
        target = np.logical_or.reduce(list(case.targets.values()))
        views = beams.beams_eye_views(case.beams, case.patient_position)
        plates = seconds(lambda v=views, t=target, g=case.grid: [beams.beam_plate(one, t, g) for one in v])
        drawn = seconds(lambda c=case: draw_sample(c, ("beam",)))
        rows.append(
            {
                "bench": "beams",
                "patient": case.name,
                "beams": len(views),
                "voxels": int(np.prod(case.grid.shape)),
                "plates_seconds": round(plates, 3),
                "drawn_modality_seconds": round(drawn, 3),
            }
        )
    return rows


def bench_reach(cases: Iterable[Case]) -> Rows:
    """How near the clinic's own dose is to the doses within its beams' reach (mean absolute difference in the
    body, in Gy), and to those of every third beam; the last row is the mean over patients."""
    rows: Rows = []
    whole = dose_mimicking.MimicConfig(share=1.0, inner_share=1.0)
    for case in cases:
        if case.dose is None or not dose_mimicking.is_defined(case, whole):
            continue
        dose = case.dose.in_unit("Gy")
        row: dict[str, Any] = {"bench": "reach", "patient": case.name, "beams": len(case.beams)}
        for name, fields in (("all", case.beams), ("every_third", case.beams[::3])):
            begin = time.perf_counter()
            found = dose_mimicking.mimic(dose, replace(case, beams=fields), whole)
            row[f"{name}_seconds"] = round(time.perf_counter() - begin, 2)
            row[f"{name}_gy"] = round(float(np.abs(found - dose)[case.body].mean()), 3)
        rows.append(row)
    if not rows:
        raise ValueError("no case with a dose, a body, a target and static beams")
    measured = [name for name in rows[0] if name.endswith(("_gy", "_seconds"))]
    mean = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in measured}
    return [*rows, {"bench": "reach", "patients": len(rows), **mean}]


def bench_sparse(cases: Iterable[Case]) -> Rows:
    """One network evaluation of the default transformer inside its sampler: body-sparse tokens against tokens
    everywhere, on the body's block and on the whole 128^3 grid. Random weights, as time does not depend on
    them."""
    torch.manual_seed(0)
    sparse = Any2Any(ModelConfig(DiTConfig(), "compact:32")).eval()
    dense = Any2Any(ModelConfig(DiTConfig(dense=True), "compact:32")).eval()
    rows: Rows = []
    for case in cases:
        block, _ = draw_sample(replace(case, dose=None))
        masks = {name: np.ones(case.grid.shape, dtype=bool) for name in case.of_role("body")}
        whole, _ = draw_sample(replace(case, dose=None, structures={**case.structures, **masks}))
        times = {
            label: seconds(
                lambda m=model, s=sample: list(sample_target(m, s, Options(steps=1, looks=1))),
                1,
                warm=not rows,
            )
            for label, model, sample in (
                ("sparse", sparse, block),
                ("dense_block", dense, block),
                ("dense_grid", dense, whole),
            )
        }
        rows.append(
            {
                "bench": "sparse",
                "patient": case.name,
                "body_voxels": int(block.body.sum()),
                "threads": torch.get_num_threads(),
                **{f"{label}_seconds": round(value, 3) for label, value in times.items()},
                "ratio_block": round(times["dense_block"] / times["sparse"], 2),
                "ratio_grid": round(times["dense_grid"] / times["sparse"], 2),
            }
        )
    medians = {
        f"median_{k}": float(np.median([row[k] for row in rows])) for k in ("ratio_block", "ratio_grid")
    }
    return [*rows, {"bench": "sparse", "patients": len(rows), **medians}]


def bench_rows(cases: Iterable[Case]) -> Rows:
    """A 3 x 3 x 3 convolution and its gradients at every level of the compact U-Net, in bfloat16, one of each
    width: among the rows of the body, and torch's over the body's box."""
    widths, rows = UNetConfig().widths, []
    for case in cases:
        sample = padded(draw_sample(case, ("body",))[0], 2 * UNetConfig().multiple)
        mask = F.max_pool3d(sample.body[None].float(), 2) > 0
        ours, theirs = [], []
        for width, level in zip(widths, pyramid(mask, len(widths)), strict=True):
            layer = Conv3(width).to(memory_format=torch.channels_last_3d)
            box = torch.randn(1, width, *level.mask.shape[1:]).to(memory_format=torch.channels_last_3d)
            few = take(box, level).requires_grad_()
            box.requires_grad_()
            for found, x, near in ((ours, few, (level.near,)), (theirs, box, ())):
                found.append(seconds(lambda c=layer, x=x, near=near: _gradients(c, x, *near)))
        one = {"rows_seconds": round(sum(ours), 4), "box_seconds": round(sum(theirs), 4)}
        share = {
            "body_share": round(float(mask.float().mean()), 3),
            "ratio": round(sum(theirs) / sum(ours), 2),
        }
        about = {"bench": "rows", "patient": case.name, "threads": torch.get_num_threads()}
        rows.append({**about, **share, **one})
    median = float(np.median([row["ratio"] for row in rows]))
    return [*rows, {"bench": "rows", "patients": len(rows), "median_ratio": round(median, 2)}]


def _gradients(layer: Conv3, x: Tensor, *near: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, *near)
    torch.autograd.grad(y, [x, layer.weight], torch.ones_like(y))


def bench_predict(folders: Iterable[Path], steps: int = 4) -> Rows:
    """`anydose predict` from start to finish as a user runs it: wall time and peak memory of the process."""
    rows = []
    for folder in folders:
        with tempfile.TemporaryDirectory() as out:
            line = [
                sys.executable,
                "-m",
                "anydose.cli",
                "predict",
                str(folder),
                "--out",
                out,
                "--steps",
                str(steps),
            ]
            begin = time.perf_counter()
            subprocess.run(line, check=True, capture_output=True)
            wall = time.perf_counter() - begin
            run = json.loads((Path(out) / "run.json").read_text())
        rows.append(
            {
                "bench": "predict",
                "patient": folder.name,
                "steps": steps,
                "wall_seconds": round(wall, 2),
                "sampling_seconds": run["seconds"]["sample"],
                "peak_memory_mb": run["peak_memory_mb"],
                "threads": torch.get_num_threads(),
                "children_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
            }
        )
    return rows


def run(name: str, cohort: Path, limit: int, how: How | None = None) -> Rows:
    """One benchmark over the first `limit` validation patients (all if 0); ValueError for an unknown name."""
    folders, how = openkbp.patients(cohort, "validation")[: limit or None], how or How()
    cases = (openkbp.read_case(folder) for folder in folders)
    if name == "fast":
        return bench_model.bench_fast(folders, how.model)
    if name == "complete":
        device = pick_device(how.device)
        names = {t: registry.completing(how.model, t) for t in modality.NAMES}
        networks = {name: load_model(registry.find(name)).on(device) for name in set(names.values())}
        return bench_model.bench_complete(cases, {t: networks[n] for t, n in names.items()}, how.options)
    if name == "candidates":
        return bench_scard.bench_candidates(cases, load_model(registry.find(how.model)))
    if name == "calibration":
        return bench_trust.bench_calibration(cases, how.model, how.options, how.device, how.fit)
    if name == "conditions":
        return bench_trust.bench_conditions(cases, how.model, how.options, how.device)
    if name == "guard":
        return bench_trust.bench_guard(cohort, how.model, limit, how.fit)
    if name == "predict":
        return bench_predict(folders)
    if name in ("masks", "convert"):
        return bench_io.bench_masks() if name == "masks" else bench_io.bench_convert(cohort)
    by_name = {
        "beams": bench_beams,
        "reach": bench_reach,
        "sparse": bench_sparse,
        "rows": bench_rows,
        **bench_score.BENCHES,
    }
    if name not in by_name:
        known = (*MEASURED, *by_name)
        raise ValueError(f"benchmark {name!r}: {', '.join(known)} are accepted")
    return by_name[name](cases)
