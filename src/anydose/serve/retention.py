"""What is removed of patients, and when: after so many days, or as soon as a result was released.

A job goes last, so that what a sudden end leaves is removed the next time."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from anydose.serve.config import NodeConfig
from anydose.serve.jobs import DONE, FAILED, HELD, Job, Jobs
from anydose.serve.room import Room

log = logging.getLogger(__name__)
DAY_S = 86400.0
EVERY_S = 60.0
"""How often a server looks."""


def tidy_room(room: Room, jobs: Jobs) -> None:
    """Remove what is too old of a viewer: jobs that were submitted more than `keep_days` ago with their
    results, whether somebody looked at them or not, and uploads that no job needs."""
    old_s = room.keep_days * DAY_S
    for job in jobs.older_than(old_s, (HELD, DONE, FAILED)):
        room.forget_result(job.id)
        _forget(jobs, job)
    needed = {job.request.get("patient") for job in jobs.newest(most=100_000)}
    for patient in room.patients.iterdir():
        if patient.name not in needed and time.time() - patient.stat().st_mtime > old_s:
            room.forget_patient(patient.name)


def tidy_node(config: NodeConfig, jobs: Jobs) -> None:
    """Remove what is too old of a node: the objects, the prediction and the job of whatever was delivered or
    failed more than `keep_days` ago; with `remove_delivered` of whatever was delivered, at once."""
    old = jobs.older_than(config.keep_days * DAY_S)
    if config.remove_delivered:
        old += [job for job in jobs.older_than(0, (DONE,)) if job not in old]
    for job in old:
        forget_study(config.data, jobs, job)


def forget_study(data: Path, jobs: Jobs, job: Job) -> None:
    """Remove the objects, the prediction and the job of one study from a node's folder. Objects that have
    come since are kept."""
    study, place = data / "received" / str(job.request.get("study", "")), Path(job.place)
    if study != data / "received" and _names(study) <= _names(place):
        shutil.rmtree(study, ignore_errors=True)
    for folder in (place, data / "results" / job.id):
        if data in folder.parents:
            shutil.rmtree(folder, ignore_errors=True)
    _forget(jobs, job)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("[!.]*.dcm")}


def _forget(jobs: Jobs, job: Job) -> None:
    jobs.delete(job.id)
    log.info("patient's data removed", extra={"about": {"job": job.id}})
