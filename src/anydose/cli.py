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
