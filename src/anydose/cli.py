"""The one command. Imports stand inside the functions, so that --help needs neither torch nor pydicom."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="anydose",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@app.callback()
def anydose() -> None:
    """3D radiotherapy dose prediction. Research software: not for clinical use. --debug shows tracebacks."""


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the patient.")],
    format: Annotated[str, typer.Option(help="Its form: openkbp or nifti.")] = "openkbp",
    seed: Annotated[int, typer.Option(help="Every seed draws another patient.")] = 0,
) -> None:
    """Write a procedural head-and-neck patient (CT, organs, three target levels, no dose)."""
    from anydose.io.phantom import write_phantom

    case = write_phantom(seed, folder, format)
    typer.echo(f"{folder}: {case.name}, {len(case.structures)} structures, {len(case.beams)} beams")


@app.command()
def score(
    dose: Annotated[Path, typer.Argument(help="Dose file, or a case that holds one.")],
    case: Annotated[Path, typer.Option(help="The patient: DICOM folder, OpenKBP, NIfTI, ...")],
    scorecard: Annotated[Path | None, typer.Option(help="PlanScoreCard, ProKnow, ePeerReview.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there as JSON.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="SCORECARD=CASE: another name.")] = None,
    rescale: Annotated[bool, typer.Option(help="Scale the scorecard to the plan's prescription.")] = False,
) -> None:
    """Score a dose with a scorecard; without one, with the packaged scorecard that fits the case."""
    from anydose.io.read import read_case, read_dose
    from anydose.score import importers, scoring, structures

    patient = read_case(case)
    card = importers.read_any(scorecard) if scorecard else scoring.own_template(patient)
    held = scoring.hold(patient, card, structures.matching(patient, name or ()), rescale)
    result = scoring.score(held, read_dose(dose, patient))
    if json_file is not None:
        json_file.write_text(json.dumps(result.to_json(), indent=2) + "\n")
    typer.echo(result.text())


def main() -> None:
    """Run the command. A bad input (ValueError, OSError) is one sentence on standard error and exit code 2;
    with --debug anywhere on the line it is a traceback."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        app(args=arguments)
    except (ValueError, OSError) as error:
        if debug:
            raise
        sys.stderr.write("anydose: " + " ".join(str(error).split()) + "\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
