"""The gradient of one step: the mean over its examples, on every process that trains along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from anydose.diffusion import path as vp
from anydose.model.any2any import Any2Any
from anydose.train import losses
from anydose.train.config import TrainConfig
from anydose.train.distributed import data_parallel
from anydose.train.examples import Example, Prepared, encoded, noisy_example, on_device
from anydose.train.latents import Latents

Report = dict[str, float]


class ExampleLoss(nn.Module):
    """The loss of one example as a module of the model's parameters, which is what torch's DDP wraps."""

    def __init__(self, model: Any2Any, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def example(self, prepared: Prepared) -> Example:
        """A prepared patient on the model's device, encoded and noised."""
        patient, drawn = prepared
        if isinstance(patient, Latents):
            there = on_device(patient, next(self.model.parameters()).device)
            return noisy_example(there, drawn, self.config.objective)
        return encoded(self.model, patient, drawn, self.config.objective)

    def forward(self, prepared: Prepared) -> tuple[Tensor, Report]:
        """(loss, report) of a prepared patient; every example of a run reports the same keys."""
        one = self.example(prepared)
        device = one.v_true.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16"):
            v = self.model.velocity(**one.inputs)
        loss, report = self._of_velocity(v, one)
        if self.config.dvh:
            of_dvh, more = self._of_dvh(v, one)
            loss, report = loss + self.config.dvh * of_dvh, {**report, **more}
        return loss, {**report, "t": float(one.inputs["t"])}

    def _of_velocity(self, v: Tensor, one: Example) -> tuple[Tensor, Report]:
        target = one.inputs["target"]
        counted = self.model.region(one.inputs["body"], target)
        if target == "oar" and self.config.organ_weight:
            x0 = vp.data_from_velocity(one.inputs["noisy"], one.v_true, one.inputs["t"])
            return losses.organ_loss(v, one.v_true, counted, x0 > 0, self.config.organ_weight)
        return losses.velocity_loss(v, one.v_true, counted, self.config.error)

    def _of_dvh(self, v: Tensor, one: Example) -> tuple[Tensor, Report]:
        """The DVH loss; zero where there is no dose."""
        points = self.config.dvh_points
        if one.masks is None:
            return v.sum() * 0.0, {"dvh": 0.0} | ({"points": 0.0} if points else {})
        dose, reference = (
            self.model.codec.decode(vp.data_from_velocity(one.inputs["noisy"], each.float(), one.inputs["t"]))
            for each in (v, one.v_true)
        )
        return losses.dvh_loss(dose[0, 0], reference[0, 0], one.masks, points)


class Gradients:
    """How a step's gradients come into `.grad`: one example after another (under DDP where there are several
    processes), or a thread each on a CPU."""

    def __init__(self, model: Any2Any, config: TrainConfig) -> None:
        self.config = config
        self.loss = ExampleLoss(model, config)
        self.module = data_parallel(self.loss)
        self.learning = [p for p in model.parameters() if p.requires_grad]
        self.threads = config.side_by_side
        if self.threads > 1 and self.module is not self.loss:
            raise ValueError(f"side_by_side={self.threads}: each of several processes computes one at a time")

    def of(self, drawn: Sequence[Prepared]) -> list[Report]:
        """Add the mean gradient of these examples, over all processes, to `.grad`; the examples' reports.
        ValueError if a loss is not finite."""
        return self._side_by_side(drawn) if self.threads > 1 else self._in_turn(drawn)

    def _in_turn(self, drawn: Sequence[Prepared]) -> list[Report]:
        reports = []
        for number, prepared in enumerate(drawn):
            with self._exchange(last=number == len(drawn) - 1):
                loss, report = self.module(prepared)
                self._finite(report)
                torch.autograd.backward(loss / len(drawn))
            reports.append(report)
        return reports

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients in the backward pass of a step's last example alone."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        return nullcontext()

    def _side_by_side(self, drawn: Sequence[Prepared]) -> list[Report]:
        largest_first = sorted(drawn, key=_size, reverse=True)  # so that the threads end together
        reports = []
        with ThreadPoolExecutor(self.threads, initializer=_alone) as pool:
            for report, gradients in pool.map(self._by_itself, largest_first):
                reports.append(report)
                for p, gradient in zip(self.learning, gradients, strict=True):
                    if gradient is not None:
                        share = gradient / len(drawn)
                        p.grad = share if p.grad is None else p.grad.add_(share)
        return reports

    def _by_itself(self, prepared: Prepared) -> tuple[Report, tuple[Tensor | None, ...]]:
        """One example's gradients, beside and not in `.grad`, which several threads would share."""
        loss, report = self.loss(prepared)
        self._finite(report)
        return report, torch.autograd.grad(loss, self.learning, allow_unused=True)

    def _finite(self, report: Report) -> None:
        if not math.isfinite(report["loss"]):
            raise ValueError(f"{self.config.name}: the loss is {report['loss']}; lower learning_rate")


def _size(prepared: Prepared) -> float:
    return float(prepared[0].body.sum())


def _alone() -> None:
    """A thread that computes an example by itself, beside others."""
    torch.set_num_threads(1)
