"""What the HTTP API answers, as OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from anydose.serve.jobs import RUNNING, WAITING, Job, Jobs

STAGES = ("read", "load", "render", "sample", "mimic", "grid", "write", "view")
OPEN_STATES = (WAITING, RUNNING)


class Refusal(BaseModel):
    """Why something is not done."""

    detail: Any


class About(BaseModel):
    """What a server does."""

    predicts: bool
    """Whether it takes patients; else it shows the doses of a DICOM node for review."""


class Made(BaseModel):
    """A new patient."""

    id: str


class Named(BaseModel):
    """What something is called from now on."""

    name: str


class Received(BaseModel):
    """A file has come in whole."""

    bytes: int


class Status(BaseModel):
    """A job, as one sees it from outside."""

    id: str
    number: int
    state: str
    """waiting, running, held (for a person to release), done, failed; of the DICOM node also received,
    released and delivering."""
    stage: str
    """The stage that was finished last, of `stages`."""
    stages: list[str]
    ahead: int
    """How many jobs are done first."""
    seconds_left: float | None
    """About how long, from the last jobs; null where nothing is known."""
    error: str
    case: str | None
    """What the patient is called, where that is known."""
    model: str
    patient: str
    warnings: list[str]
    created: float
    finished: float | None
    released_by: str


def statuses(jobs: Jobs, rows: Sequence[Job], called: Callable[[Job], str | None]) -> list[Status]:
    """How these jobs are now. called: what a job's patient is called."""
    known = jobs.seconds_of_last() if any(job.state in OPEN_STATES for job in rows) else []
    typical_s = sum(known) / len(known) if known else None
    return [_status(job, jobs.ahead_of(job), typical_s, called(job)) for job in rows]


def _status(job: Job, ahead: int, typical_s: float | None, case: str | None) -> Status:
    return Status(
        id=job.id,
        number=job.number,
        state=job.state,
        stage=job.stage,
        stages=list(STAGES),
        ahead=ahead,
        seconds_left=_left(job, ahead, typical_s),
        error=job.error,
        case=case,
        model=job.request.get("model", ""),
        patient=job.request.get("patient", ""),
        warnings=job.result.get("warnings", []),
        created=job.created,
        finished=job.finished,
        released_by=job.released_by,
    )


def _left(job: Job, ahead: int, typical_s: float | None) -> float | None:
    if job.state not in OPEN_STATES:
        return 0.0
    if typical_s is None:
        return None
    if job.state == WAITING:
        return round(typical_s * (ahead + 1), 1)
    done = STAGES.index(job.stage) + 1 if job.stage in STAGES else 0
    return round(typical_s * (1 - done / len(STAGES)), 1)
