"""anydose node: a DICOM node that predicts what it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydose.cli.options import JsonLines
from anydose.cli.output import print_line, tell


def node(
    config: Annotated[Path, typer.Option(help="The node's YAML file; docs/hospital.md describes it.")],
    check: Annotated[
        bool, typer.Option("--check", help="Say whether it could run and its destinations answer.")
    ] = False,
    jobs: Annotated[bool, typer.Option("--jobs", help="List the jobs, the newest first.")] = False,
    release: Annotated[str, typer.Option(help="Release this held job: it is sent.")] = "",
    by: Annotated[str, typer.Option(help="Who releases it.")] = "",
    again: Annotated[str, typer.Option(help="Try this failed job once more.")] = "",
    pull: Annotated[
        str, typer.Option(help="Have this destination send a study to the node, which must be running.")
    ] = "",
    study: Annotated[str, typer.Option(help="Its StudyInstanceUID.")] = "",
    patient: Annotated[str, typer.Option(help="Or all studies of this PatientID.")] = "",
    as_json: JsonLines = False,
) -> None:
    """Receive studies by C-STORE or from a watched folder, predict their dose, and send the RTDOSE on."""
    try:
        from anydose.serve.check import answers, refuse_wrong
        from anydose.serve.config import read_config
        from anydose.serve.jobs import Jobs
    except ImportError as error:
        raise ValueError("the node needs packages of its own: pip install 'anydose[serve]'") from error

    settings = read_config(config)
    if jobs or release or again:
        _ask(Jobs(settings.queue_url), release, by, again, as_json)
        return
    if pull:
        _pull(settings, pull, study, patient, as_json)
        return
    refuse_wrong(settings)
    if not check:
        from anydose.serve.node import run_node

        tell(f"{settings.ae} listens on {settings.host}:{settings.port}; Ctrl-C ends it")
        run_node(config.resolve(), settings)
        return
    found = list(answers(settings))
    for sentence, is_well in found:
        print_line({"check": sentence, "well": is_well}) if as_json else typer.echo(sentence)
    if not all(is_well for _, is_well in found):
        raise typer.Exit(2)


def _pull(settings: object, name: str, study: str, patient: str, as_json: bool) -> None:
    from anydose.serve.config import NodeConfig
    from anydose.serve.pull import pull
    from anydose.serve.send import NotSent

    assert isinstance(settings, NodeConfig)
    place = next((place for place in settings.destinations if place.name == name), None)
    if place is None:
        raise ValueError(f"--pull {name}: no destination is called so")
    try:
        found = pull(settings, place, study, patient)
    except NotSent as error:
        raise ValueError(str(error)) from error
    for one in found:
        row = {"study": one.uid, "objects": one.objects, "failed": one.failed}
        print_line(row) if as_json else typer.echo(f"{one.uid}: {one.objects} objects, {one.failed} failed")
    if any(one.failed for one in found):
        raise typer.Exit(2)


def _ask(queue: object, release: str, by: str, again: str, as_json: bool) -> None:
    from anydose.serve.jobs import Jobs

    assert isinstance(queue, Jobs)
    if release:
        if not by:
            raise ValueError("--release: --by NAME says who does it")
        if not queue.release(release, by):
            raise ValueError(f"job {release}: is not held; --jobs lists those that are")
    elif again and not queue.again(again):
        raise ValueError(f"job {again}: has not failed; --jobs lists those that have")
    for job in queue.newest():
        row = {"job": job.id, "state": job.state, "stage": job.stage, "progress": job.progress}
        row |= {"attempts": job.attempts, "error": job.error, "released_by": job.released_by}
        print_line(row) if as_json else typer.echo(f"{job.id} {job.state} {job.stage} {job.error}".rstrip())
