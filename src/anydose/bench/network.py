"""What computing the body's voxels alone saves: tokens of the transformer, convolutions of the U-Net."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anydose.bench import averages
from anydose.bench.clock import median_seconds
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.case.case import Case
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.looks import sample_target
from anydose.model.network.body_voxels import Level, gather, pyramid
from anydose.model.network.dit import DiTConfig
from anydose.model.network.layers import Conv3
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options
from anydose.model.sample import Sample, draw_sample, padded


@benchmark(
    "sparse",
    settings=Patients,
    says="One evaluation of the default transformer with tokens in the body alone, against tokens "
    "everywhere, on the body's block and on the whole grid.",
)
def measure_sparse(settings: Patients) -> Rows:
    """A row a patient, then the medians. Random weights, as time does not depend on them."""
    torch.manual_seed(0)
    sparse = Any2Any(ModelConfig(DiTConfig(), "compact:32")).eval()
    dense = Any2Any(ModelConfig(DiTConfig(dense=True), "compact:32")).eval()
    rows: Rows = []
    for case in settings.cases():
        rows.append(_sparse_and_dense(case, sparse, dense, warm=not rows))
    medians = {f"median_{name}": averages.median(rows, name) for name in ("ratio_block", "ratio_grid")}
    return [*rows, {"bench": "sparse", "patients": len(rows), **medians}]


def _sparse_and_dense(case: Case, sparse: Any2Any, dense: Any2Any, warm: bool) -> Row:
    everywhere = {name: np.ones(case.grid.shape, dtype=bool) for name in case.of_role("body")}
    filled = replace(case, dose=None, structures={**case.structures, **everywhere})
    block, _ = draw_sample(replace(case, dose=None))
    whole, _ = draw_sample(filled)
    seconds = {
        "sparse": _sampling_seconds(sparse, block, warm),
        "dense_block": _sampling_seconds(dense, block, warm),
        "dense_grid": _sampling_seconds(dense, whole, warm),
    }
    return {
        "bench": "sparse",
        "patient": case.name,
        "body_voxels": int(block.body.sum()),
        "threads": torch.get_num_threads(),
        **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()},
        "ratio_block": round(seconds["dense_block"] / seconds["sparse"], 2),
        "ratio_grid": round(seconds["dense_grid"] / seconds["sparse"], 2),
    }


def _sampling_seconds(model: Any2Any, sample: Sample, warm: bool) -> float:
    one_step = Options(steps=1, looks=1)
    return median_seconds(lambda: list(sample_target(model, sample, one_step)), repeats=1, warm=warm)


@benchmark(
    "body-voxels",
    settings=Patients,
    says="A 3 x 3 x 3 convolution and its gradients at every level of the compact U-Net: among the voxels of "
    "the body, against torch's over the body's box.",
    old_names=("rows",),
)
def measure_body_voxels(settings: Patients) -> Rows:
    """A row a patient, in bfloat16, one convolution of each width; then the median."""
    rows = [_convolutions(case) for case in settings.cases()]
    ratio = round(averages.median(rows, "ratio"), 2)
    return [*rows, {"bench": "body-voxels", "patients": len(rows), "median_ratio": ratio}]


def _convolutions(case: Case) -> Row:
    widths = UNetConfig().widths
    sample = padded(draw_sample(case, ("body",))[0], 2 * UNetConfig().multiple)
    mask = F.max_pool3d(sample.body[None].float(), 2) > 0
    levels = pyramid(mask, len(widths))
    timed = [_convolution_seconds(width, level) for width, level in zip(widths, levels, strict=True)]
    in_body, in_box = (sum(seconds) for seconds in zip(*timed, strict=True))
    return {
        "bench": "body-voxels",
        "patient": case.name,
        "threads": torch.get_num_threads(),
        "body_share": round(float(mask.float().mean()), 3),
        "ratio": round(in_box / in_body, 2),
        "body_seconds": round(in_body, 4),
        "box_seconds": round(in_box, 4),
    }


def _convolution_seconds(width: int, level: Level) -> tuple[float, float]:
    """Seconds among the body's voxels, and over its box."""
    layer = Conv3(width)
    layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's stubs
    box = torch.randn(1, width, *level.mask.shape[1:]).to(memory_format=torch.channels_last_3d)
    body = gather(box, level).requires_grad_()
    box.requires_grad_()
    in_body = median_seconds(lambda: _gradients(layer, body, level.neighbours))
    in_box = median_seconds(lambda: _gradients(layer, box))
    return in_body, in_box


def _gradients(layer: Conv3, x: Tensor, *neighbours: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, *neighbours)
    torch.autograd.grad(y, [x, layer.weight], torch.ones_like(y))
