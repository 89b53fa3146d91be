"""What a training and a post-training have in common: a folder, and going on from the state in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from anydose.train.distributed import wait_for_all
from anydose.train.folder import RunFolder


class Resumable(ABC):
    """A run that goes on with the numbers an uninterrupted one would have had."""

    place: RunFolder
    """The run's folder."""
    rank: int
    """This process's number, 0 for the one that writes."""
    step: int
    """Steps done."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.place.path

    def resume(self) -> None:
        """Continue from state.safetensors, or from the start where the run was ended before it wrote one; the
        log goes back to there. ValueError if the run was made with another configuration or other weights."""
        if self.place.state.is_file():
            self._restore()
        if self.rank == 0:
            with self.place.held():
                self.place.rewind(self.step)
        wait_for_all()

    @abstractmethod
    def _restore(self) -> None:
        """Take over the state. ValueError as in `resume`."""

    def _refuse_changed(self, settings: Sequence[str]) -> None:
        """ValueError that names the settings which the run was started with other values of; none are
        fine."""
        if settings:
            raise ValueError(f"{self.folder}: the run was started with other values of {', '.join(settings)}")
