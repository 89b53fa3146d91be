"""What the HTTP API answers, as OpenAPI describes it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from anydose.serve.jobs import RUNNING, WAITING, Job, Jobs

STAGES = ("read", "load", "render", "sample", "mimic", "grid", "write", "view")
OPEN_STATES = (WAITING, RUNNING)


class Refusal(BaseModel):
    """Why something is not done."""

    detail: Any


class Made(BaseModel):
    """A new patient."""

    id: str


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
    """The patient's name in the files, where it is known."""
    model: str
    patient: str
    warnings: list[str]
    created: float
    finished: float | None
    released_by: str


def status(jobs: Jobs, job: Job) -> Status:
    """The status of a job now."""
    ahead = jobs.ahead_of(job) if job.state == WAITING else 0
    return Status(
        id=job.id,
        number=job.number,
        state=job.state,
        stage=job.stage,
        stages=list(STAGES),
        ahead=ahead,
        seconds_left=_left(jobs, job, ahead),
        error=job.error,
        case=job.result.get("case"),
        model=job.request.get("model", ""),
        patient=job.request.get("patient", ""),
        warnings=job.result.get("warnings", []),
        created=job.created,
        finished=job.finished,
        released_by=job.released_by,
    )


def _left(jobs: Jobs, job: Job, ahead: int) -> float | None:
    if job.state not in OPEN_STATES:
        return 0.0
    known = jobs.seconds_of_last()
    if not known:
        return None
    each = sum(known) / len(known)
    if job.state == WAITING:
        return round(each * (ahead + 1), 1)
    done = STAGES.index(job.stage) + 1 if job.stage in STAGES else 0
    return round(each * (1 - done / len(STAGES)), 1)
