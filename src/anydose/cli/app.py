"""The one command. Imports stand inside the functions, so that --help needs neither torch nor pydicom."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from anydose.cli import bench as cli_bench
from anydose.cli import posttrain as cli_scard
from anydose.cli import predict as cli_predict
from anydose.cli import prior as cli_prior
from anydose.cli import score as cli_score
from anydose.cli import simulate as cli_simulate
from anydose.cli.predict import Looks, Mimic, sampling, working
from anydose.model.options import Options

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
    format: Annotated[str, typer.Option(help="Its form: openkbp, nifti or dicom.")] = "openkbp",
    seed: Annotated[int, typer.Option(help="Every seed draws another patient.")] = 0,
) -> None:
    """Write a procedural head-and-neck patient (CT, organs, three target levels, no dose)."""
    from anydose.io.phantom import write_phantom

    case = write_phantom(seed, folder, format)
    typer.echo(f"{folder}: {case.name}, {len(case.structures)} structures, {len(case.beams)} beams")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name; --help of the docs lists them, a wrong one too.")
    ],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value changes of the recipe.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue exactly from the last checkpoint.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    prior: Annotated[str, typer.Option(help="Start from an imported prior: wan or maisi.")] = "",
    machine: Annotated[str, typer.Option(help="A prior's recipe for: 24gb, 80gb or 8x80gb.")] = "24gb",
) -> None:
    """Train a model by a recipe; the run lies in runs/NAME."""
    from anydose.train import recipes, run

    run.start(recipes.resolve(recipe, changes or (), prior, machine), resume=resume, device=device)


@app.command("train-codec")
def train_codec(
    changes: Annotated[list[str] | None, typer.Argument(help="key=value changes of the settings.")] = None,
) -> None:
    """Train the compact codec."""
    from anydose.train import recipes, run

    run.show_codec(recipes.changed(recipes.CODEC, changes or ()))


@app.command()
def render(
    cohort: Annotated[
        Path, typer.Argument(help="OpenKBP dataset folder (with provided-data), or a cohort store.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where the drawn cases go.")],
    split: Annotated[str, typer.Option(help="OpenKBP: train or validation.")] = "train",
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Draw every case once, ready for training; resumes. Exit code 2 if a case was refused."""
    from anydose.io import openkbp, store
    from anydose.train.data import render as draw

    if (cohort / "zarr.json").is_file():
        read, places = store.read_stored, [cohort / name for name in store.names(cohort)]
    else:
        read, places = openkbp.read_case, openkbp.patients(cohort, split)
    with working(f"drawing {cohort.name}"):
        done, refused = draw(read, places, folder, workers)
    typer.echo(f"{folder}: {len(done)} cases")
    for sentence in refused:
        typer.echo(f"refused: {sentence}", err=True)
    if refused:
        raise typer.Exit(2)


@app.command()
def evaluate(
    cohort: Annotated[Path, typer.Option(help="OpenKBP dataset folder (with provided-data).")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    model: Annotated[str, typer.Option(help="A shipped model's name or a .safetensors file.")] = "compact-hn",
    predictions: Annotated[
        Path | None, typer.Option(help="Score this folder's pt_N.csv instead of a model.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Network evaluations a sample.")] = Options.steps,
    sampler: Annotated[str, typer.Option(help="ddim or dpm2m.")] = "ddim",
    samples: Annotated[int, typer.Option(help="Doses averaged.")] = 1,
    looks: Looks = Options.looks,
    mimic: Mimic = Options.mimic,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    given: Annotated[str, typer.Option(help="Modalities to use; default: all there are.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    limit: Annotated[int, typer.Option(help="Only the first N patients.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the row and the patients' scores here.")
    ] = None,
) -> None:
    """Score a model, or somebody's predictions, on a cohort: OpenKBP dose and DVH score in Gy."""
    from anydose import evaluate as evaluation
    from anydose.io.files import write_json

    options = sampling(steps, sampler, samples, seed, given, "dose", looks, mimic)
    rows = evaluation.openkbp_split(
        cohort, split, model, predictions, options, device, limit, on_case=typer.echo
    )
    typer.echo(json.dumps(rows[0]))
    if json_file is not None:
        write_json(rows, json_file)


@app.command("codec-check")
def codec_check(
    cohort: Annotated[Path, typer.Option(help="OpenKBP dataset folder (with provided-data).")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    codec: Annotated[str, typer.Option(help="Only this codec: identity:N, compact or a file.")] = "",
    limit: Annotated[int, typer.Option(help="Only the first N patients.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Print each codec's own round trip of the true dose: what no model behind it can beat."""
    from anydose import evaluate as evaluation
    from anydose.io.files import write_json

    rows = list(
        evaluation.codec_round_trips(cohort, split, [codec] if codec else ["identity:2", "compact"], limit)
    )
    for row in rows:
        typer.echo(json.dumps(row))
    if json_file is not None:
        write_json(rows, json_file)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A trained model.safetensors.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
) -> None:
    """Store a trained model's weights as bfloat16, half the size, with its whole record."""
    from anydose.model.checkpoint import export as write

    write(run, out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@app.command()
def card(
    results: Annotated[list[Path], typer.Argument(help="Files of `anydose evaluate --json`.")],
    model: Annotated[str, typer.Option(help="The model to write a card of.")] = "compact-hn",
    out: Annotated[Path, typer.Option(help="The card.")] = Path("docs/models/compact-hn.md"),
    readme: Annotated[Path | None, typer.Option(help="Put the tables into this file.")] = None,
    ablation: Annotated[
        Path | None, typer.Option(help="A file of `anydose bench ablation`, for the second table there.")
    ] = None,
) -> None:
    """Write a model card, and the README's tables, from what was measured."""
    from anydose.bench import ablation as ablations
    from anydose.bench import model_card as cards
    from anydose.io.files import whole
    from anydose.model.registry import find

    rows = cards.cohort_rows(results)
    with whole(out) as scratch:
        scratch.write_text(cards.model_card(find(model), rows))
    if readme is not None:
        cards.into_readme(readme, "scores", cards.table(rows))
    if readme is not None and ablation is not None:
        varied = [row for row in json.loads(ablation.read_text()) if row.get("sampling_steps") == 1]
        cards.into_readme(readme, "ablation", ablations.table(varied))


@app.command()
def chart(
    results: Annotated[
        list[Path], typer.Argument(help="Files of `anydose evaluate --json` and `anydose bench ablation`.")
    ],
    out: Annotated[Path, typer.Option(help="The picture (.png, .pdf, .svg).")] = Path(
        "docs/images/results.png"
    ),
) -> None:
    """Draw the scores that were measured as bars, beside published ones."""
    from anydose.bench import chart as charts
    from anydose.io.files import whole

    with whole(out) as scratch:
        charts.draw(charts.panels(results), scratch)
    typer.echo(f"{out}")


@app.command()
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


data = typer.Typer(help="Cohorts of patients: convert them to a store, check them.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command("convert")
def data_convert(
    source: Annotated[Path, typer.Argument(help="A dataset, a folder of patients in any form, or one.")],
    cohort: Annotated[Path, typer.Argument(help="The cohort store: a new folder, or one to go on with.")],
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 2,
) -> None:
    """Write every case into one Zarr store; resumes where it stopped. Exit code 2 if a case was refused."""
    from anydose.io.convert import convert

    states: list[str] = []
    for outcome in convert(source, cohort, workers):
        states.append(outcome.state)
        typer.echo(f"{outcome.name}: {outcome.state} {outcome.why}".rstrip())
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("written", "kept", "refused"))
    typer.echo(f"{cohort}: {counts}")
    if "refused" in states:
        raise typer.Exit(2)


@data.command("check")
def data_check(
    source: Annotated[Path, typer.Argument(help="A dataset, a folder of patients in any form, or one.")],
    as_json: Json = False,
) -> None:
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
            columns = (row.shape, row.spacing_mm, (row.structures,), (row.beams,), row.levels_gy)
            numbers = [", ".join(f"{value:.4g}" for value in column) for column in columns]
            table.add_row(row.name, row.kind, *numbers, "; ".join(row.findings) or "-")
    Console(width=None if sys.stdout.isatty() else 180).print(table)


app.add_typer(cli_prior.app, name="prior")
for command in (
    cli_predict.predict,
    cli_predict.complete,
    cli_score.score,
    cli_score.compare,
    cli_score.report,
    cli_bench.bench,
    cli_scard.reward,
    cli_scard.scardnft,
    cli_simulate.simulate,
):
    app.command()(command)


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
    finally:
        gc.freeze()  # else the interpreter looks through torch once more before it ends: half a second
