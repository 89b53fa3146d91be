"""The worker of a node, a process of its own: a study that breaks a reader, or needs all memory, ends this
process, and the node starts another. It predicts by the function that `anydose predict` calls."""

from __future__ import annotations

import errno
import logging
import sys
import time
from pathlib import Path
from typing import Any

from anydose.io.run_folder import damage, hash_of, read_record
from anydose.serve.config import NodeConfig, read_config
from anydose.serve.jobs import Job, Jobs
from anydose.serve.log import log_to, nameless, words_of
from anydose.serve.work import end_with, heard, is_orphan

log = logging.getLogger("anydose.serve.predicting")
OWNER = "node: prediction"
SHARE = {"read": 0.1, "load": 0.2, "render": 0.3, "sample": 0.7, "mimic": 0.8, "grid": 0.85, "write": 0.95}
"""How far a prediction is when a stage is done."""
IDLE_S = 0.3
LATER_S = 60.0
"""A full disk is tried again after so long."""


def result_folder(config: NodeConfig, job: Job) -> Path:
    """Where a job's prediction lies."""
    return config.data / "results" / job.id / "prediction"


def predict_next(config: NodeConfig, jobs: Jobs, loaded: dict[str, Any]) -> Job | None:
    """Take a job and predict it; None if there is none. loaded: keeps the model from job to job."""
    job = jobs.take(OWNER)
    if job is None:
        return None
    about = {"job": job.id, "study": job.request.get("study", "")}
    log.info("prediction begins", extra={"about": about | {"attempt": job.attempts}})
    with heard(jobs, job, OWNER):
        try:
            run = _predicted(config, jobs, job, loaded)
        except (Exception, RecursionError) as error:  # noqa: BLE001  (one boundary: the job says what it was)
            _refuse(config, jobs, job, error)
            return job
    result = {"outputs": list(run["outputs"]), "seconds": run["seconds"], "model": run["model"]}
    jobs.finish(job.id, OWNER, result)
    log.info("prediction done", extra={"about": about | {"seconds": run["seconds"]["all"]}})
    return job


def _predicted(config: NodeConfig, jobs: Jobs, job: Job, loaded: dict[str, Any]) -> dict[str, Any]:
    """The run record of the job's prediction, which is made unless it is there already; where a person
    reviews it, what the viewer shows is beside it."""
    from anydose.case.names import NameMap
    from anydose.deliver.dose import predict_to
    from anydose.io.format import DoseOptions
    from anydose.io.read import read_case
    from anydose.model import registry
    from anydose.model.options import Options
    from anydose.serve.view import write_view

    folder, asked = result_folder(config, job), job.request
    names = NameMap.load(Path(asked["names"])) if asked["names"] else None
    reading: dict[str, Any] = {"fill_gaps": asked["fill_gaps"], "names": names}
    run = read_record(folder)
    if run is None or damage(folder):
        name = asked["model"]
        if name not in loaded:
            refuse_other_weights(registry.find(name), asked["sha256"])
            loaded.clear()
            loaded[name] = registry.load(name, asked["device"])
        run = predict_to(
            Path(job.place),
            folder,
            loaded[name],
            Options(looks=asked["looks"], mimic=asked["mimic"]),
            read=reading,
            dicom=DoseOptions(bits=asked["bits"], placeholder_plan=asked["placeholder_plan"]),
            intervals=asked["uncertainty"],
            overwrite=True,
            on_stage=lambda stage: jobs.say(job.id, OWNER, stage, SHARE.get(stage)) or None,
        )
    if job.hold:
        write_view(read_case(Path(job.place), **reading), folder, folder.with_name("view"))
    return run


def refuse_other_weights(file: Path, sha256: str) -> None:
    """Raises ValueError if a model is not the one that the configuration pins."""
    if sha256 and hash_of(file) != sha256.lower():
        raise ValueError(f"{file.name}: its sha256 is {hash_of(file)}, the configuration pins {sha256}")


def _refuse(config: NodeConfig, jobs: Jobs, job: Job, error: BaseException) -> None:
    """Say in the job why it is not predicted; a full disk is no fault of the study."""
    said = str(error) if isinstance(error, (ValueError, OSError)) else type(error).__name__
    said = nameless(
        said, words_of(Path(job.place)), (Path(job.place), result_folder(config, job), config.data)
    )
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full:
        jobs.put_off(job.id, OWNER, f"the disk is full: {said}", LATER_S)
    else:
        jobs.fail(job.id, OWNER, said or type(error).__name__)
    log.error("prediction %s: %s", "put off" if full else "failed", said, extra={"about": {"job": job.id}})


def main(config_file: str, node: int) -> None:
    """Predict until the node, the process of this number, is gone: the lock that this process has from it
    would keep the next node out."""
    end_with(node)
    config = read_config(Path(config_file))
    log_to(config.data / "log" / "predictions.jsonl")
    jobs = Jobs(config.queue_url, most_attempts=config.most_attempts)
    jobs.abandon(OWNER)  # the lock that the node holds says that nobody else has this name
    loaded: dict[str, Any] = {}
    while not is_orphan(node):
        try:
            if predict_next(config, jobs, loaded) is None:
                time.sleep(IDLE_S)
        except OSError as error:
            log.error("%s", nameless(str(error), folders=[config.data]))
            time.sleep(LATER_S)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
