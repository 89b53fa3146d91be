"""How a model in training does on patients that it does not learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from anydose.case import modality
from anydose.model.any2any import Any2Any
from anydose.model.looks import sample_target
from anydose.model.options import Options
from anydose.model.sample import Sample
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.distributed import mean_over_ranks, rank_and_world
from anydose.train.examples import changed_patient, geometry_of
from anydose.train.gradients import ExampleLoss
from anydose.train.tasks import Draw

MAE = "mae_gy"


class Validation:
    """The held patients of a run, shared out over its processes. ValueError if there are none."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.cohort = Cohort(Path(config.validation))
        self.numbers = range(len(self.cohort))[: config.validation_cases or None]
        if config.validate_every <= 0:
            raise ValueError("validation: validate_every=STEPS says how often")

    def is_due(self, step: int, last: bool) -> bool:
        """Whether the model is looked at after this step."""
        return last or step % self.config.validate_every == 0

    @torch.no_grad()
    def look(self, model: Any2Any) -> dict[str, float]:
        """The mean loss at t = 1 with everything shown, and the mean absolute dose error in Gy within the
        body, over the held patients. Always the same noise, so that two looks differ by the model alone."""
        rank, world = rank_and_world()
        sums = {"cases": 0.0, "loss": 0.0, "doses": 0.0, MAE: 0.0}
        model.eval()
        for number in self.numbers[rank::world]:
            for key, value in self._patient(model, number):
                sums[key] += value
        model.train()
        device = next(model.parameters()).device
        means = mean_over_ranks(sums, device)  # of sums: the number of ranks cancels
        found = {"loss": means["loss"] / means["cases"]}
        return found | ({MAE: means[MAE] / means["doses"]} if means["doses"] else {})

    def _patient(self, model: Any2Any, number: int) -> Iterator[tuple[str, float]]:
        """What one patient adds to the sums of `look`."""
        sample, names = self.cohort.load(number), self.cohort.modalities[number]
        task = self.config.task
        wanted = ("dose",) if task.dose_share else task.targets or names
        target = next((name for name in wanted if name in names), names[0])
        visible = tuple(name for name in names if name != target)
        drawn = Draw(number, target, visible, t=1.0, noise_seed=number)
        loss, _ = ExampleLoss(model, self.config)((changed_patient(geometry_of(model), sample, drawn), drawn))
        yield "cases", 1.0
        yield "loss", float(loss)
        if target == "dose":
            yield "doses", 1.0
            yield MAE, self._dose_error_gy(model, sample)

    def _dose_error_gy(self, model: Any2Any, sample: Sample) -> float:
        """Mean absolute error of the dose predicted from all there is, in `sampling_steps` steps."""
        c = self.config
        shown = {name: volume for name, volume in sample.volumes.items() if name != "dose"}
        options = Options(steps=c.sampling_steps, looks=1, mimic=False, precision=c.precision)
        dose = next(sample_target(model, replace(sample, volumes=shown), options))
        row = modality.TABLE["dose"]
        gy_per_unit = (row.high - row.low) / 2 * sample.rx_max_gy
        return float((dose - sample.volumes["dose"]).abs()[0][sample.body].mean()) * gy_per_unit


def quality(found: dict[str, float]) -> float:
    """The number by which two looks are compared, lower is better: the dose error where there is one."""
    return found.get(MAE, found["loss"])
