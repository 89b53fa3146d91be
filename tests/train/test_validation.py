"""What is looked at while a model trains: held patients, the best model, TensorBoard."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from tiny_run import TINY

from anydose.model.checkpoint import describe, load_model
from anydose.model.options import Options
from anydose.predict import predict
from anydose.train.config import TrainConfig
from anydose.train.tasks import TaskConfig
from anydose.train.trainer import Trainer


class Recorded:
    """A follower that keeps what it is told."""

    def __init__(self):
        self.steps, self.looks, self.closed = [], [], 0

    def on_step(self, step, metrics):
        self.steps.append((step, dict(metrics)))

    def on_validation(self, step, metrics):
        self.looks.append((step, dict(metrics)))

    def close(self):
        self.closed += 1


def config(cohort_folder, out, **changes):
    base = TrainConfig(
        name="t", model=TINY, data=str(cohort_folder), out=str(out), steps=9, warmup=1, save_every=3
    )
    task = TaskConfig(t1_probability=1.0)
    base = replace(base, task=task, validation=str(cohort_folder), validate_every=3, validation_cases=2)
    return replace(base, learning_rate=3e-3, precision="fp32", ema=0.5, **changes)


def looks(folder):
    with (folder / "t" / "validation.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_best_model_is_kept_and_its_error_is_that_of_predict(cohort_folder, tmp_path):
    from tiny_cohort import small_case

    followed = Recorded()
    trainer = Trainer(config(cohort_folder, tmp_path), followers=[followed])
    list(trainer.run())
    rows = looks(tmp_path)
    assert [row["step"] for row in rows] == ["3", "6", "9"] == [str(step) for step, _ in followed.looks]
    assert ([step for step, _ in followed.steps], followed.closed) == (list(range(1, 10)), 1)
    errors = [float(row["mae_gy"]) for row in rows]
    best = tmp_path / "t" / "best.safetensors"
    assert describe(best)["record"]["step"] == 3 * (1 + int(np.argmin(errors)))
    options = Options(steps=1, looks=1, mimic=False, precision="fp32")
    found = []
    for seed in (0, 1):
        case = small_case(seed)
        dose = predict(load_model(best), replace(case, dose=None), options).mean[0]
        found.append(np.abs(dose - case.dose.array)[case.body].mean())
    assert np.mean(found) == pytest.approx(min(errors), abs=0.02)  # predict gives no negative dose


def test_looking_changes_no_training_and_resume_looks_again(cohort_folder, tmp_path):
    seen, unseen = (
        Trainer(config(cohort_folder, tmp_path / name, **changes))
        for name, changes in (("seen", {}), ("unseen", {"validation": ""}))
    )
    assert [s.metrics for s in seen.run()] == [s.metrics for s in unseen.run()]
    steps = Trainer(config(cohort_folder, tmp_path / "cut")).run()
    for _ in range(8):
        next(steps)
    steps.close()
    again = Trainer(config(cohort_folder, tmp_path / "cut"))
    again.resume()
    list(again.run())
    assert looks(tmp_path / "cut") == looks(tmp_path / "seen")
    assert again.best == seen.best


def test_how_often_has_to_be_said(cohort_folder, tmp_path):
    with pytest.raises(ValueError, match="validate_every=STEPS"):
        Trainer(config(cohort_folder, tmp_path, validate_every=0))


def test_tensorboard_holds_every_step(cohort_folder, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(Trainer(config(cohort_folder, tmp_path, tensorboard=True)).run())
    found = events.EventAccumulator(str(tmp_path / "t" / "tensorboard"))
    found.Reload()
    assert [e.step for e in found.Scalars("train/loss")] == list(range(1, 10))
    errors = [float(row["mae_gy"]) for row in looks(tmp_path)]
    assert [e.value for e in found.Scalars("validation/mae_gy")] == pytest.approx(errors, rel=1e-4)
