"""anydose phantom, render and data: patients to try with, and cohorts made ready."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from anydose.cli.names import Name, Names, name_map
from anydose.cli.options import EACH_CORE, Json, JsonLines, Patient, takes
from anydose.cli.output import counts, print_json, print_outcomes, tell, working
from anydose.cli.words import Command
from anydose.engine.engine import Engine

Vocabulary = Annotated[
    str,
    typer.Option(
        help="Organs to draw, a channel each: head_neck, prostate, lung, breast, gdphmm, a YAML file of "
        "`organs`, or cohort for all that the data hold."
    ),
]
Source = Annotated[Path, typer.Argument(help="A dataset, a folder of patients in any form, or one.")]

data = typer.Typer(help="Cohorts of patients: convert them to a store, check them.", no_args_is_help=True)


def phantom(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the patient.")],
    format: Annotated[
        str, typer.Option(help="Its form: openkbp (head_neck alone), nifti or dicom; '' for the site's own.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Every seed draws another patient.")] = 0,
    site: Annotated[str, typer.Option(help="head_neck or pelvis.")] = "head_neck",
) -> None:
    """Write a procedural patient with targets and beams and without a dose: head and neck (three target
    levels, nine beams) or a male pelvis (two levels, seven beams)."""
    from anydose.io.pelvis import make_pelvis
    from anydose.io.phantom import write_patient, write_phantom
    from anydose.simulate.habit import SEVEN_FIELDS, set_up

    if site == "head_neck":
        case = write_phantom(seed, folder, format or "openkbp")
    elif site == "pelvis" and format != "openkbp":
        case = write_patient(lambda: set_up(make_pelvis(seed), SEVEN_FIELDS), folder, format or "dicom")
    else:
        raise ValueError(
            f"site {site!r}, format {format!r}: head_neck, or pelvis as nifti or dicom, is accepted"
        )
    typer.echo(f"{folder}: {case.name}, {len(case.structures)} structures, {len(case.beams)} beams")


@takes(Engine, "engine", panel="Many patients", start=EACH_CORE)
def render(
    cohort: Annotated[
        Path, typer.Argument(help="OpenKBP dataset folder (with provided-data), or a cohort store.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where the rendered cases go.")],
    split: Annotated[str, typer.Option(help="OpenKBP: train or validation.")] = "train",
    vocabulary: Vocabulary = "",
    *,
    engine: Engine,
) -> None:
    """Render every case once, ready for training; resumes. Exit code 2 if a case was refused.

    Without --vocabulary the organs are those that a store records, and head and neck's elsewhere. What is
    drawn, merged and left out is printed.
    """
    from anydose.io import openkbp, store
    from anydose.io.vocabularies import OF_COHORT, settle, vocabulary_of
    from anydose.train.data import account_of
    from anydose.train.data import render as render_all

    is_store = store.is_store(cohort)
    if vocabulary == OF_COHORT and not is_store:
        raise ValueError(f"{cohort}: --vocabulary {OF_COHORT} takes a cohort store, as `data convert` makes")
    organs = (settle(cohort, vocabulary) if is_store else vocabulary_of(vocabulary)).organs
    places = [cohort / name for name in store.names(cohort)] if is_store else openkbp.patients(cohort, split)
    with working(f"rendering {cohort.name}"):
        read = store.read_stored if is_store else openkbp.read_case
        done, refused = render_all(read, places, folder, engine, organs)
    for line in account_of(done, organs).lines(organs):
        typer.echo(line)
    typer.echo(f"{folder}: {len(done)} cases, {len(organs)} organs")
    for sentence in refused:
        typer.echo(f"refused: {sentence}", err=True)
    if refused:
        raise typer.Exit(2)


def convert(
    case: Patient,
    out: Annotated[Path, typer.Option(help="New or empty folder; a store is added to.")],
    format: Annotated[str, typer.Option(help="Its new form: dicom, nifti, openkbp or store.")] = "nifti",
    as_json: Json = False,
) -> None:
    """Write one patient in another form, with what that form can hold."""
    from anydose.io.convert import convert_case

    written = convert_case(case, out, format)
    counts = {"structures": len(written.structures), "beams": len(written.beams)}
    if as_json:
        print_json({"case": written.name, "out": str(out), "format": format, **counts})
    else:
        what = ", ".join(f"{count} {name}" for name, count in counts.items())
        typer.echo(f"{out}: {written.name} as {format}, {what}")


@data.command("convert", cls=Command)
@takes(Engine, "engine", panel="Many patients", start=EACH_CORE)
def data_convert(
    source: Source,
    cohort: Annotated[Path, typer.Argument(help="The cohort store: a new folder, or one to go on with.")],
    vocabulary: Vocabulary = "",
    names: Names = None,
    name: Name = None,
    as_json: JsonLines = False,
    *,
    engine: Engine,
) -> None:
    """Write every case into one Zarr store; resumes where it stopped. Exit code 2 if a case was refused.

    The store keeps every structure; --vocabulary records which organs are drawn from it, which can be changed
    later, and is head and neck's where nothing is said. What is drawn, merged and left out is printed.
    """
    from anydose.io.convert import convert
    from anydose.io.vocabularies import OF_COHORT, account_of, settle, vocabulary_of

    if vocabulary != OF_COHORT:
        vocabulary_of(vocabulary)  # refused before the work
    states = print_outcomes(convert(source, cohort, engine, names=name_map(names, name)), as_json)
    say = tell if as_json else typer.echo
    if set(states) & {"written", "kept"}:
        drawn = settle(cohort, vocabulary)
        for line in account_of(cohort, drawn).lines(drawn.organs):
            say(line)
    say(f"{cohort}: {counts(states)}")
    if "refused" in states:
        raise typer.Exit(2)


@data.command("check", cls=Command)
def data_check(source: Source, as_json: Json = False) -> None:
    """Print every case with what is missing or suspicious in it."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from anydose.io.check import check

    if as_json:
        print_json([asdict(row) for row in check(source)])
        return
    table = Table(
        "case", "form", "z, y, x", "x, y, z mm", "structures", "beams", "Gy", "missing or suspicious"
    )
    with working(f"checking {source.name}"):
        for row in check(source):
            table.add_row(
                row.name,
                row.kind,
                _few_digits(row.shape),
                _few_digits(row.spacing_mm),
                str(row.structures),
                str(row.beams),
                _few_digits(row.levels_gy),
                "; ".join(row.findings) or "-",
            )
    Console(width=None if sys.stdout.isatty() else 180).print(table)


def _few_digits(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)
