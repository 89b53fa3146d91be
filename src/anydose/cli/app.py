"""The one command. Imports stand inside the functions, so that --help needs neither torch nor pydicom."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from anydose.cli import bench as bench_room
from anydose.cli import data, evaluate, names, node, posttrain, predict, prior, score, serve, simulate, train
from anydose.cli.options import Json
from anydose.cli.output import configure, print_json
from anydose.cli.words import Command, Root, WritingCommand

PREDICT, DATA, TRAIN, MEASURE = "Predict and score", "Data", "Train", "Measure"
EXIT_CODES = (
    "Exit codes: 0 done; 1 a fault of the program, with a traceback; 2 the input, an option or a case was "
    "refused, or memory ran out, in one sentence on standard error; 130 stopped by Ctrl-C. --json prints the "
    "result on standard output; --out writes files."
)

app = typer.Typer(
    name="anydose",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"anydose {importlib.metadata.version('anydose')}")
        raise typer.Exit


@app.callback()
def anydose(
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say what is done; -vv: in detail.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for a refused input.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """3D radiotherapy dose prediction. Research software: not for clinical use."""
    configure(verbose, quiet)


def info(as_json: Json = False) -> None:
    """Say which models are there, which device would be used, and all versions."""
    from anydose.deliver.record import about

    value = about()
    if as_json:
        print_json(value)
        return
    for row in value["models"]:
        mark = " (default)" if row["default"] else ""
        typer.echo(
            f"{row['name']}{mark}: {row['backbone']}, {row['cases']} cases, {row['bytes'] / 1e6:.1f} MB"
        )
    typer.echo(f"device: {value['device']}")
    typer.echo(", ".join(f"{name} {version}" for name, version in value["versions"].items()))


# In this order in the help. A WritingCommand took `--json FILE` in the last release.
COMMANDS: tuple[tuple[str, Callable[..., None], type[Command]], ...] = (
    (PREDICT, predict.predict, Command),
    (PREDICT, score.score, WritingCommand),
    (PREDICT, score.compare, WritingCommand),
    (PREDICT, score.report, Command),
    (PREDICT, predict.complete, Command),
    (PREDICT, serve.serve, Command),
    (PREDICT, node.node, Command),
    (PREDICT, info, Command),
    (DATA, names.names, Command),
    (DATA, data.phantom, Command),
    (DATA, data.convert, Command),
    (DATA, data.render, Command),
    (DATA, simulate.simulate, Command),
    (DATA, simulate.clinic, Command),
    (TRAIN, train.recipes, Command),
    (TRAIN, train.train, Command),
    (TRAIN, train.train_codec, Command),
    (TRAIN, posttrain.reward, Command),
    (TRAIN, train.export, Command),
    (MEASURE, evaluate.evaluate, WritingCommand),
    (MEASURE, evaluate.codec_check, WritingCommand),
    (MEASURE, bench_room.card, Command),
    (MEASURE, bench_room.chart, Command),
)
for panel, function, kind in COMMANDS:
    app.command(function.__name__.replace("_", "-"), cls=kind, rich_help_panel=panel)(function)
app.command("scardnft", hidden=True, context_settings=bench_room.ANY_WORDS)(bench_room.scardnft)
app.add_typer(data.data, name="data", rich_help_panel=DATA)
app.add_typer(prior.app, name="prior", rich_help_panel=TRAIN)
app.add_typer(bench_room.bench, name="bench", rich_help_panel=MEASURE)


def main() -> None:
    """Run the command. What cannot be done with this input (ValueError, OSError, no memory left, a file
    nested too deep) is one sentence on standard error and exit code 2, with --debug a traceback as well."""
    try:
        app()
    except (ValueError, OSError, MemoryError, RecursionError) as error:
        _refuse(said_of(error))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _refuse(said_of(MemoryError(error)))
    finally:
        gc.freeze()  # else the interpreter looks through torch once more before it ends: half a second


def said_of(error: Exception) -> str:
    """One sentence of an error."""
    words = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return (
            f"not enough memory{': ' + words if words else ''}; a smaller grid or fewer workers are accepted"
        )
    if isinstance(error, RecursionError):
        return f"the input is nested too deep to be read ({words})"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return words or type(error).__name__


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch found no memory, on a GPU or in the CPU's."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _refuse(sentence: str) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    sys.stderr.write(f"anydose: {sentence}\n")
    sys.exit(2)
