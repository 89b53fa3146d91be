"""What follows a run beside its log: anything with these three methods, TensorBoard among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Follower(Protocol):
    """Told of every step and every validation, on rank 0."""

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """After step number `step`, from 1: the metrics of its log row."""

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """After a look at the held patients."""

    def close(self) -> None:
        """At the end of the run, an early end too."""


class TensorBoard:
    """Scalars train/NAME and validation/NAME in event files that `tensorboard --logdir` reads. ValueError
    where tensorboard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError("tensorboard=true: install anydose[tensorboard]") from error
        self.writer = SummaryWriter(str(folder))

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a metric."""
        self._write("train", step, metrics)

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a metric."""
        self._write("validation", step, metrics)

    def close(self) -> None:
        """Write what is waiting."""
        self.writer.close()

    def _write(self, group: str, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)
