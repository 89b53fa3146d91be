"""The folder of one run: its log, its checkpoints, and what a killed run left there."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anydose.train import log

STATE = "state.safetensors"
LOGS = ("log.csv", "validation.csv")
LOCK = ".lock"
SCRATCH = re.compile(r"\.tmp\w+|\..+\.\d+|\.\d+\..+")  # of safetensors, model.tensors and io.files


class RunFolder:
    """A run's folder. Files in it appear by atomic rename, so what a kill leaves is scratch and log rows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / STATE

    @property
    def is_used(self) -> bool:
        """Whether a run has left a checkpoint or a row of its log here."""
        return self.state.is_file() or (self.path / LOGS[0]).is_file()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder for this process alone, without a killed run's scratch files. The lock ends with the
        process, however that ends. ValueError if another process trains here."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{self.path}: another process is training here") from error
            for path in self.path.iterdir():
                if path.is_file() and SCRATCH.fullmatch(path.name):
                    path.unlink()
            yield

    def restart(self) -> None:
        """Forget an earlier run: its logs, and the checkpoint that it would be resumed from."""
        for name in (STATE, *LOGS):
            (self.path / name).unlink(missing_ok=True)

    def rewind(self, step: int) -> None:
        """Drop the log rows after `step`, which a resumed run writes again."""
        for name in LOGS:
            log.trim(self.path / name, step)


def refuse_used(folder: RunFolder) -> None:
    """ValueError if the folder holds a run already."""
    if folder.is_used:
        raise ValueError(
            f"{folder.path} holds a run already: --resume continues it, name=OTHER starts a new one"
        )
