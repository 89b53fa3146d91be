"""The one command. Imports stand inside the functions, so that --help needs neither torch nor pydicom."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="anydose",
    help="3D radiotherapy dose prediction. Research software: not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def main() -> None:
    """Run the command. A bad input (ValueError, OSError) is one sentence on standard error and exit code 2; with
    --debug anywhere on the line it is a traceback."""
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
