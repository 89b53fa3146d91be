"""What a GPU must give: the CPU's losses, gradients and doses, in bf16 too, on one and on two processes."""

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.looks import sample_target
from anydose.model.network.dit import DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.tasks import ANY2ANY, TaskConfig
from anydose.train.trainer import Trainer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
UNET = UNetConfig(widths=(16, 32), down_blocks=(1, 1), up_blocks=(1,), code=32, bev_exchange=8)
DIT = DiTConfig(
    dim=64,
    depth=2,
    heads=2,
    ffn=128,
    sigma_data=0.1,
    co_located=True,
    plate_read_out=True,
    head_width=16,
)
CHANGED = TaskConfig(rotation_probability=0.5, rotation_jitter_deg=8.0, zoom=0.08, deformation_mm=4.0)


def config(cohort, out, **changes):
    base = TrainConfig(
        name="t",
        data=str(cohort),
        out=str(out),
        model=ModelConfig(UNET, keep_laterality=True),
        steps=6,
        warmup=2,
        accumulate=2,
        optimiser="muon",
        precision="fp32",
        dvh=0.1,
        dvh_points=1.0,
    )
    return replace(base, **changes)


def losses(cohort, out, device, **changes):
    trainer = Trainer(config(cohort, out, **changes), device)
    return [step.metrics["loss"] for step in trainer.run()], trainer


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_patients_changed_where_the_network_is_are_the_same(cohort_folder, tmp_path, device):
    changes = {"task": CHANGED, "steps": 3}
    read, _ = losses(cohort_folder, tmp_path / "read", device, **changes)
    held, _ = losses(cohort_folder, tmp_path / "held", device, **changes, resident=True)
    assert held == pytest.approx(read, rel=0 if device == "cpu" else 2e-2)


def test_a_held_cohort_has_no_workers(cohort_folder, tmp_path):
    with pytest.raises(ValueError, match="resident: neither latents nor workers"):
        Trainer(config(cohort_folder, tmp_path, resident=True, workers=1))


@needs_gpu
@pytest.mark.parametrize("backbone", [UNET, DIT], ids=["unet", "dit"])
@pytest.mark.parametrize("task", [TaskConfig(), ANY2ANY], ids=["dose", "any2any"])
def test_a_gpu_learns_what_a_cpu_learns(cohort_folder, tmp_path, backbone, task):
    model = ModelConfig(backbone, keep_laterality=True)
    slow, _ = losses(cohort_folder, tmp_path / "cpu", "cpu", model=model, task=task)
    fast, _ = losses(cohort_folder, tmp_path / "gpu", "cuda", model=model, task=task)
    half, trainer = losses(cohort_folder, tmp_path / "half", "cuda", model=model, task=task, precision="bf16")
    assert fast == pytest.approx(slow, rel=5e-3)
    assert half == pytest.approx(slow, rel=5e-2)
    assert all(p.is_cuda and p.dtype == torch.float32 for p in trainer.model.parameters())


@needs_gpu
def test_a_dose_from_a_gpu_is_the_cpus(cohort_folder, tmp_path):
    _, trainer = losses(cohort_folder, tmp_path, "cuda", steps=20, task=TaskConfig(), learning_rate=2e-3)
    sample = Cohort(cohort_folder).load(0)
    options = Options(looks=2, precision="fp32", mimic=False)
    there = next(sample_target(trainer.model, sample, options)).cpu()
    here = next(sample_target(trainer.model.to("cpu"), sample, options))
    half_range_gy = 35 * 1.2
    assert float((there - here).abs().max()) * half_range_gy < 0.02


@needs_gpu
def test_attention_runs_in_the_flash_kernel():
    """Its memory is linear in the tokens, so whole patients fit."""
    torch.manual_seed(0)
    model = Any2Any(ModelConfig(DIT)).on(torch.device("cuda"))
    body = torch.ones(1, 32, 32, 32, dtype=torch.bool, device="cuda")
    shapes = {name: model.latent_shape(name, body.shape[1:]) for name in ("ct", "beam", "dose")}
    given = {name: torch.randn(shape, device="cuda") for name, shape in shapes.items() if name != "dose"}
    inputs = {"target": "dose", "given": given, "spacing_mm": torch.ones(1, 3, device="cuda")}
    noisy = torch.randn(shapes["dose"], device="cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as seen, torch.autocast("cuda", torch.bfloat16):
        model.velocity(noisy, torch.ones(1, device="cuda"), body=model.latent_body(body), **inputs)
    assert any("flash" in event.key.lower() for event in seen.key_averages())


@needs_gpu
def test_two_processes_that_share_a_gpu_train_as_one_does(cohort_folder, tmp_path):
    train = ["-m", "anydose.cli", "train", "any2any", f"data={cohort_folder}", "name=t", "--device", "cuda"]
    train += ["steps=3", "warmup=2", "precision=fp32"]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = {}
    for name, start, accumulate in (("two", two, 2), ("one", [], 4)):
        command = [sys.executable, *start, *train, f"out={tmp_path / name}", f"accumulate={accumulate}"]
        subprocess.run(command, check=True, timeout=200)
        with (tmp_path / name / "t" / "log.csv").open() as file:
            found[name] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert found["two"] == pytest.approx(found["one"], rel=5e-3)
    assert len(found["two"]) == 3
