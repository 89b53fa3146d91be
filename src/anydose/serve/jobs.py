"""The durable queue of predictions, shared by the viewer and the DICOM node: SQLite, or PostgreSQL by URL.

    received -> waiting -> running -> held -> released -> delivering -> done           failed from any of them
    (objects    (complete) (take,     (a person (to be     (take,        (nothing
     arrive)                say)       looks)    sent)      sent)         is left to do)

A job passes `held` only where it was submitted with hold=True, `released` and `delivering` only where it was
submitted with `send_to`. These are the functions:

    sender    submit(request, place=, key=, hold=, send_to=, state=) -> Job    ready(id)  received -> waiting
    worker    take(owner) -> Job | None    say(id, owner, stage, progress) -> bool
              finish(id, owner, result) -> bool    fail(id, owner, sentence) -> bool    abandon(owner)
    person    release(id, by) -> bool    again(id) -> bool    delete(id) -> bool
    delivery  take(owner, RELEASED) -> Job | None    put_off(id, owner, why, seconds) -> bool
              sent(id, owner, to, uid) -> bool    acknowledged(id) -> {(to, uid)}    finish(id, owner)
    anybody   find(id)  of_key(key)  newest(most, states)  ahead_of(job)  counts()  older_than(seconds)
              seconds_of_last(most)

A job is on disk before its sender hears of it. A worker holds a job as long as it is heard: `say` within
`silent_s`, as `serve.work.heard` does from a thread of its own. A silent worker loses its job to the next
`take`, and every later word of it gets False. A node that starts anew knows its dead self and gives up its
jobs at once (`abandon`). So work may be done more than once; its result is there once, as `predict_to` leaves
a folder whole or not at all. A job that was taken `most_attempts` times without an end is failed.

Nothing in the queue names a patient: `place` and `request` hold paths that whoever submits has chosen without
names, and sentences (`error`) are cut and cleaned by `serve.log.nameless` before they come here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from anydose.serve.tables import JOBS, SENT, opened

RECEIVED, WAITING, RUNNING, HELD = "received", "waiting", "running", "held"
RELEASED, DELIVERING, DONE, FAILED = "released", "delivering", "done", "failed"
STATES = (RECEIVED, WAITING, RUNNING, HELD, RELEASED, DELIVERING, DONE, FAILED)
TAKEN = {WAITING: RUNNING, RELEASED: DELIVERING}
"""What `take` makes of a state."""
AT_WORK = tuple(TAKEN.values())
SILENT_S = 60.0
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """One row of the queue. All times are seconds since 1970."""

    number: int
    """In order of submission, from 1."""
    id: str
    """32 hexadecimal digits."""
    key: str | None
    """What the sender calls it, once in the queue; None where it has no name for it."""
    state: str
    """One of STATES."""
    stage: str
    """The stage that was finished last."""
    progress: float
    """0 to 1, of the prediction."""
    place: str
    """The patient's folder or file."""
    request: dict[str, Any]
    """What is asked, as plain values; the sender's own."""
    hold: bool
    """Whether a person must release the result."""
    send_to: list[str]
    """Names of the places that the result is sent to."""
    result: dict[str, Any]
    """What the worker said of the result."""
    error: str
    """Why it failed, or why it was put off: one sentence."""
    created: float
    started: float | None
    """When its prediction began the last time."""
    finished: float | None
    """When its prediction ended."""
    due: float
    """Not before this is it tried again."""
    attempts: int
    """How often it was taken in this state."""
    owner: str
    """The worker that has it."""
    heard: float
    """When that worker was last heard."""
    released_by: str


class Jobs:
    """The queue behind a URL; any number of processes and threads may open it.

    Args:
        url: sqlite:////a/path/jobs.db, or postgresql+psycopg://user@host/database.
        silent_s: a worker that says nothing for so long is dead.
        most_attempts: a job that was taken so often without an end is failed.

    Raises:
        ValueError: for another URL.
        OSError: the database cannot be opened.
    """

    def __init__(self, url: str, silent_s: float = SILENT_S, most_attempts: int = MOST_ATTEMPTS) -> None:
        self.silent_s, self.most_attempts = silent_s, most_attempts
        self._engine = opened(url)
        self._writing = self._engine.execution_options(writes=True)

    def submit(
        self,
        request: Mapping[str, Any],
        *,
        place: str = "",
        key: str | None = None,
        hold: bool = False,
        send_to: Sequence[str] = (),
        state: str = WAITING,
    ) -> Job:
        """Add a job; it is on disk when this returns. A key that is in the queue already gives that job, and
        adds none. state: RECEIVED for one whose objects still arrive, until `ready`."""
        row: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "key": key,
            "state": state,
            "place": place,
            "request": dict(request),
        }
        row |= {"hold": int(hold), "send_to": list(send_to), "result": {}, "created": time.time()}
        try:
            with self._changing() as db:
                db.execute(JOBS.insert().values(row))
        except sql.exc.IntegrityError:
            found = self.of_key(key) if key else None
            if found is None:
                raise
            return found
        job = self.find(str(row["id"]))
        assert job is not None
        return job

    def ready(self, name: str) -> bool:
        """Everything of a received job has arrived."""
        return self._change(name, RECEIVED, state=WAITING)

    def find(self, name: str) -> Job | None:
        """The job of this id, or None."""
        return next(iter(self._all(JOBS.c.id == name, most=1)), None)

    def of_key(self, key: str) -> Job | None:
        """The job of this key, or None."""
        return next(iter(self._all(JOBS.c.key == key, most=1)), None)

    def newest(self, most: int = 200, states: Sequence[str] = STATES) -> list[Job]:
        """Up to `most` jobs, the newest first."""
        return self._all(JOBS.c.state.in_(states), most=most)

    def older_than(self, seconds: float, states: Sequence[str] = (DONE, FAILED)) -> list[Job]:
        """Jobs in these states that were submitted so long ago."""
        return self._all(JOBS.c.state.in_(states) & (JOBS.c.created < time.time() - seconds), most=100_000)

    def ahead_of(self, job: Job) -> int:
        """How many jobs are predicted before this one; 0 for one that does not wait."""
        if job.state != WAITING:
            return 0
        before = (JOBS.c.state == RUNNING) | ((JOBS.c.state == WAITING) & (JOBS.c.number < job.number))
        with self._engine.connect() as db:
            return int(db.scalar(sql.select(sql.func.count()).where(before)) or 0)

    def counts(self) -> dict[str, int]:
        """State -> number of jobs, every state named."""
        with self._engine.connect() as db:
            rows = db.execute(sql.select(JOBS.c.state, sql.func.count()).group_by(JOBS.c.state))
            found = {str(state): int(number) for state, number in rows}
        return {state: found.get(state, 0) for state in STATES}

    def seconds_of_last(self, most: int = 20) -> list[float]:
        """How long the last predictions took."""
        took = sql.select(JOBS.c.finished - JOBS.c.started).where(JOBS.c.state != FAILED)
        took = took.where(JOBS.c.started.is_not(None) & JOBS.c.finished.is_not(None))
        with self._engine.connect() as db:
            return [float(s) for s in db.scalars(took.order_by(JOBS.c.finished.desc()).limit(most))]

    def take(self, owner: str, state: str = WAITING) -> Job | None:
        """The oldest job in `state` (WAITING or RELEASED) that is due, now this worker's, or None. Jobs of
        silent workers are given up first."""
        now = time.time()
        free = (JOBS.c.state == state) & (JOBS.c.due <= now)
        one = sql.select(JOBS.c.number).where(free).order_by(JOBS.c.number).limit(1)
        one = one.with_for_update(skip_locked=True).correlate(None)
        taken = JOBS.update().where(JOBS.c.number == one.scalar_subquery())
        new = {"state": TAKEN[state], "owner": owner, "heard": now, "attempts": JOBS.c.attempts + 1}
        if state == WAITING:
            new |= {"started": now, "finished": None, "stage": "", "progress": 0.0, "error": ""}
        with self._changing() as db:
            self._give_up(db, JOBS.c.heard < now - self.silent_s)
            row = db.execute(taken.where(free).values(new).returning(*JOBS.c)).mappings().first()
        return _job(row) if row else None

    def abandon(self, owner: str) -> None:
        """A worker is known to be dead: what it had is free again."""
        with self._changing() as db:
            self._give_up(db, JOBS.c.owner == owner)

    def say(self, name: str, owner: str, stage: str | None = None, progress: float | None = None) -> bool:
        """The worker lives, and has finished a stage; False if the job is not its own any more."""
        new: dict[str, Any] = {"heard": time.time()}
        new |= {} if stage is None else {"stage": stage}
        return self._own_job(name, owner, **new, **({} if progress is None else {"progress": progress}))

    def finish(self, name: str, owner: str, result: Mapping[str, Any] | None = None) -> bool:
        """The prediction is complete on disk, or everything was delivered; False if the job is not the
        worker's any more. It goes on to be held, sent or done."""
        job = self.find(name)
        if job is None or job.state == DELIVERING:
            return self._own_job(name, owner, state=DONE, owner="", error="")
        then = HELD if job.hold else RELEASED if job.send_to else DONE
        new = {"state": then, "result": dict(result or {}), "finished": time.time(), "progress": 1.0}
        return self._own_job(name, owner, **new, owner="", attempts=0, due=0.0)

    def fail(self, name: str, owner: str, sentence: str) -> bool:
        """The job cannot be done; False if it is not the worker's any more."""
        return self._own_job(name, owner, state=FAILED, error=sentence, owner="", finished=time.time())

    def put_off(self, name: str, owner: str, why: str, seconds: float) -> bool:
        """The job cannot be done now: it is free again after so many seconds."""
        job = self.find(name)
        before = RELEASED if job is not None and job.state == DELIVERING else WAITING
        due = time.time() + seconds
        return self._own_job(name, owner, state=before, owner="", error=why, due=due)

    def release(self, name: str, by: str) -> bool:
        """A person says that a held result may be used; False if it is not held."""
        job = self.find(name)
        then = RELEASED if job is not None and job.send_to else DONE
        return self._change(name, HELD, state=then, released_by=by, attempts=0, due=0.0)

    def again(self, name: str) -> bool:
        """A failed job is tried anew: sent, if its result is there, else predicted. False for others."""
        job = self.find(name)
        then = RELEASED if job is not None and job.result and job.send_to else WAITING
        return self._change(name, FAILED, state=then, attempts=0, due=0.0, error="")

    def sent(self, name: str, owner: str, to: str, uid: str) -> bool:
        """A place has acknowledged an object; False if the job is not the worker's any more. Kept all the
        same, as it is true."""
        row = {"id": name, "to": to, "uid": uid, "at": time.time()}
        if (to, uid) not in self.acknowledged(name):
            with self._changing() as db:
                db.execute(SENT.insert().values(row))
        return self.say(name, owner, f"sent to {to}")

    def acknowledged(self, name: str) -> set[tuple[str, str]]:
        """(place, SOP instance UID) of everything that was acknowledged."""
        with self._engine.connect() as db:
            rows = db.execute(sql.select(SENT.c.to, SENT.c.uid).where(SENT.c.id == name))
            return {(str(to), str(uid)) for to, uid in rows}

    def delete(self, name: str) -> bool:
        """Forget a job; False for one that is worked on or is not there."""
        with self._changing() as db:
            gone = db.execute(
                JOBS.delete().where((JOBS.c.id == name) & JOBS.c.state.not_in(AT_WORK))
            ).rowcount
            if gone:
                db.execute(SENT.delete().where(SENT.c.id == name))
            return bool(gone)

    def _own_job(self, name: str, by: str, **new: Any) -> bool:
        its = (JOBS.c.id == name) & (JOBS.c.owner == by) & JOBS.c.state.in_(AT_WORK)
        with self._changing() as db:
            return bool(db.execute(JOBS.update().where(its).values(**new)).rowcount)

    def _change(self, name: str, before: str, **new: Any) -> bool:
        with self._changing() as db:
            its = (JOBS.c.id == name) & (JOBS.c.state == before)
            return bool(db.execute(JOBS.update().where(its).values(**new)).rowcount)

    def _give_up(self, db: Connection, whose: sql.ColumnElement[bool]) -> None:
        """What dead workers had is free again; what was tried too often is failed. A delivery is not counted:
        the peer decides about it."""
        why = f"the prediction ended {self.most_attempts} times without a word; it is not tried again"
        poison = whose & (JOBS.c.state == RUNNING) & (JOBS.c.attempts >= self.most_attempts)
        new = {"state": FAILED, "error": why, "owner": "", "finished": time.time()}
        db.execute(JOBS.update().where(poison).values(new))
        for before, during in TAKEN.items():
            lost = JOBS.update().where(whose & (JOBS.c.state == during))
            db.execute(lost.values(state=before, owner=""))

    def _all(self, which: sql.ColumnElement[bool], most: int) -> list[Job]:
        rows = sql.select(JOBS).where(which).order_by(JOBS.c.number.desc()).limit(most)
        with self._engine.connect() as db:
            return [_job(row) for row in db.execute(rows).mappings()]

    def _changing(self) -> AbstractContextManager[Connection]:
        """One transaction."""
        return self._writing.begin()


def _job(row: Mapping[Any, Any]) -> Job:
    return Job(**{**row, "hold": bool(row["hold"])})
