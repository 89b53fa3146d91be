"""The process that predicts: it takes jobs from the queue one after the other until it is told to stop.

python -m anydose.serve.worker DATA SERVER [DEVICE]      SERVER: the process that started it
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from anydose.deliver.dose import predict_to
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import Any2Any
from anydose.model.options import Options
from anydose.serve.answers import STAGES
from anydose.serve.jobs import Job, Jobs
from anydose.serve.log import log_to, nameless, words_of
from anydose.serve.request import Wanted, models, scorecards
from anydose.serve.room import Room
from anydose.serve.view import write_view
from anydose.serve.work import end_with, heard, is_orphan

IDLE_S = 0.3
OWNER = "viewer: prediction"
log = logging.getLogger("anydose.serve.worker")


def predict_job(room: Room, job: Job, model: Any2Any, on_stage: Callable[[str], None]) -> dict[str, Any]:
    """Predict one job with the function that `anydose predict` calls, and write what the page shows; returns
    what the queue keeps of it. Raises ValueError for what is refused."""
    wanted = Wanted.model_validate(job.request)
    source, folder = room.source(wanted.patient), room.results / job.id
    options = Options(
        steps=wanted.steps,
        samples=wanted.samples,
        seed=wanted.seed,
        looks=wanted.looks,
        given=tuple(wanted.given),
    )
    run = predict_to(
        source,
        folder / "prediction",
        model,
        options,
        read=wanted.reading(),
        intervals=wanted.uncertainty,
        overwrite=True,
        on_stage=on_stage,
    )
    case = read_case(source, **wanted.reading())
    card = scorecards(room.scorecards).get(wanted.scorecard)
    write_view(case, folder / "prediction", folder / "view", card)
    on_stage("view")
    return {"warnings": run["warnings"], "seconds": run["seconds"]}


class Worker:
    """Takes jobs from one queue for as long as its server lives; the model of the last one stays loaded."""

    def __init__(self, room: Room, server: int, device: str = "auto") -> None:
        self.room, self.server, self.device = room, server, device
        self.jobs = Jobs(room.queue)
        self.stop = False
        self._model: tuple[str, Any2Any] | None = None

    def run(self) -> None:
        """Until `stop` is set, or the server is gone."""
        self.jobs.abandon(OWNER)  # the lock that the server holds says that nobody else has this name
        while not self.stop and not is_orphan(self.server):
            job = self.jobs.take(OWNER)
            if job is None:
                time.sleep(IDLE_S)
            else:
                self.do(job)

    def do(self, job: Job) -> None:
        """One job, to its end: done, or failed with a sentence."""
        begin = time.monotonic()
        try:
            with heard(self.jobs, job, OWNER):
                model = self.model(job.request["model"])
                result = predict_job(self.room, job, model, partial(self._say, job))
        except (ValueError, OSError, MemoryError, RecursionError) as error:
            self.jobs.fail(job.id, OWNER, self._said(job, error))
        except Exception as error:
            log.exception("job %d", job.number)
            self.jobs.fail(job.id, OWNER, f"a fault of the program ({type(error).__name__})")
        else:
            self.jobs.finish(job.id, OWNER, result)
        log.info("job %d: %.1f s", job.number, time.monotonic() - begin)

    def model(self, name: str) -> Any2Any:
        """The model of this name, loaded once."""
        if self._model is None or self._model[0] != name:
            self._model = (name, registry.load(models(self.room.models)[name], self.device))
        return self._model[1]

    def _say(self, job: Job, stage: str) -> None:
        progress = (STAGES.index(stage) + 1) / len(STAGES) if stage in STAGES else None
        self.jobs.say(job.id, OWNER, stage, progress)

    def _said(self, job: Job, error: Exception) -> str:
        """One sentence, without the paths of this machine and the patient's names."""
        source = self.room.source(job.request["patient"])
        return nameless(str(error) or type(error).__name__, words_of(source), [source, self.room.data])


def _main(data: str, server: str, device: str = "auto") -> None:
    end_with(int(server))
    room = Room(Path(data))
    log_to(room.logs / "predictions.jsonl")
    worker = Worker(room, int(server), device)

    def ended(number: int, frame: FrameType | None) -> None:
        worker.stop = True

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    worker.run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
