"""One network on a lent GPU, with a schedule fitted to the time there is: `train.py KIND SECONDS COHORT OUT`.

COHORT holds rendered train/ and validation/. Several kinds run side by side on one GPU: small networks at one
patient a pass wait for the launches of their kernels, not for arithmetic.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from anydose.model.checkpoint import export
from anydose.train import head_neck
from anydose.train.config import TrainConfig
from anydose.train.trainer import Trainer

DEVICE = "cuda"
TRIAL_STEPS = (20, 40)  # to warm up, to measure the pace
BASE = TrainConfig(
    validation_cases=10,
    validate_every=300,
    task=replace(
        head_neck.HN_BEAMS_EYE_VIEW.task,
        rotation_probability=0.4,
        rotation_jitter_deg=8.0,
        zoom=0.08,
        deformation_mm=5.0,
        unaugmented_probability=0.3,
    ),
    accumulate=4,
    optimiser="muon",
    learning_rate=2e-3,
    last_rate=0.01,
    weight_decay=0.2,
    dvh=0.12,
    dvh_points=1.0,
    ema=0.995,
    save_every=1_000_000,
    resident=True,
)
EXCHANGE = head_neck.HN_BEAMS_EYE_VIEW.model
SMALL = replace(EXCHANGE.backbone, widths=(40, 72, 112, 144))  # 7.8 M parameters
DEEP = replace(EXCHANGE.backbone, widths=(40, 64, 104, 128), down_blocks=(2, 2, 2, 2), up_blocks=(2, 2, 2))
KINDS = {
    "unet-small": replace(BASE, model=replace(EXCHANGE, backbone=SMALL), seed=21),
    "unet-deep": replace(BASE, model=replace(EXCHANGE, backbone=DEEP), seed=22),
    "dit": replace(
        BASE,
        model=head_neck.HN_TRANSFORMER.model,
        init="compact-hn-dit",
        seed=23,
        full_rate_inputs=64,
        learning_rate=1.5e-3,
        weight_decay=0.1,
    ),
}


def pace_s(config: TrainConfig) -> float:
    """Seconds a step, with the other networks at work beside."""
    warm, measured = TRIAL_STEPS
    trial = replace(config, name=f"{config.name}-trial", steps=10_000, validation="", validate_every=0)
    steps = Trainer(trial, DEVICE).run()
    for _ in range(warm):
        next(steps)
    begin = time.monotonic()
    for _ in range(measured):
        next(steps)
    steps.close()
    return (time.monotonic() - begin) / measured


def main(kind: str, seconds: float, cohort: Path, out: Path) -> None:
    """Train, then store the averaged weights as bfloat16 beside the run's log."""
    deadline = time.monotonic() + seconds
    places = {"data": str(cohort / "train"), "validation": str(cohort / "validation"), "out": str(out)}
    config = replace(KINDS[kind], name=kind, **places)
    step_s = pace_s(config)
    left_s = deadline - time.monotonic() - 12  # reading the cohort again, and saving
    count = max(4, int(0.95 * left_s / (step_s + 1.5 / config.validate_every)))
    print(f"{kind}: {step_s:.3f} s a step of {config.accumulate} bodies, {count} steps", flush=True)
    trainer = Trainer(replace(config, steps=count), DEVICE)
    for step in trainer.run():
        if step.step % 100 == 0:
            print(f"{kind} {step.step}/{count} loss {step.metrics['loss']:.4f}", flush=True)
        if time.monotonic() > deadline:
            print(f"{kind}: stopped at {step.step} of {count}, the time was over", flush=True)
            break
    trainer.save()
    export(trainer.folder / "model.safetensors", trainer.folder / "half.safetensors")
    print((trainer.folder / "validation.csv").read_text(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
