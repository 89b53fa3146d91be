"""anydose bench: measurements that write the rows of docs/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anydose.cli_predict import FLIPS, STEPS, Device, Flips, Model, Steps, sampling

WITH_TABLE = ("fast", "complete", "calibration", "guard", "conditions")


def bench(
    name: Annotated[
        str, typer.Argument(help="fast, complete, calibration, guard, ...; a wrong name lists all.")
    ],
    cohort: Annotated[Path, typer.Option(help="OpenKBP dataset folder (with provided-data).")],
    limit: Annotated[int, typer.Option(help="Only the first N validation patients.")] = 0,
    model: Model = "compact-hn",
    steps: Steps = STEPS,
    flips: Flips = FLIPS,
    device: Device = "auto",
    fit: Annotated[
        bool,
        typer.Option("--fit", help="calibration, guard: leave what was fitted beside the model's weights."),
    ] = False,
    train_steps: Annotated[int, typer.Option(help="ablation: steps of every training; 0: the recipe's.")] = 0,
    seeds: Annotated[str, typer.Option(help="ablation: seeds of every variant.")] = "0,1",
    only: Annotated[str, typer.Option(help="ablation: only these variants, as unet,no-beams.")] = "",
    change: Annotated[
        list[str] | None, typer.Option(help="ablation: key=value of the recipe, for every variant.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Measure something, side by side where there is a rival."""
    if name == "ablation":
        changes = tuple(change or ())
        _ablation(cohort, train_steps, seeds, only, limit, changes, device, json_file)
        return
    from anydose import bench as benchmarks
    from anydose.deliver import write_json

    options = sampling(steps, "ddim", 1, 0, "", "dose", flips)
    rows = benchmarks.run(name, cohort, limit, benchmarks.How(model, options, device, fit))
    for row in rows:
        typer.echo(json.dumps(row))
    if json_file is not None:
        write_json(rows, json_file)
    if json_file is not None and name in WITH_TABLE:
        write_table(name, rows, json_file.with_suffix(".md"))


def write_table(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    """The rows of a benchmark as a Markdown file that says where they come from."""
    from anydose.card import tables
    from anydose.io.files import whole

    with whole(path) as scratch:
        scratch.write_text(
            f"Written by `anydose bench {name}`; the same rows as JSON lie beside.\n\n{tables(rows)}"
        )


def _ablation(
    cohort: Path,
    steps: int,
    seeds: str,
    only: str,
    limit: int,
    changes: tuple[str, ...],
    device: str,
    file: Path | None,
) -> None:
    from anydose import ablation

    numbers = tuple(int(part) for part in seeds.split(",") if part.strip().isdigit())
    if not numbers:
        raise ValueError(f"seeds {seeds!r}: whole numbers are accepted, as 0,1")
    names = tuple(name.strip() for name in only.split(",") if name.strip())
    plan = ablation.Plan(cohort, steps or ablation.BUDGET.steps, numbers, names, limit, changes, device)
    file = file or Path("docs/results/ablation.json")
    ablation.write(plan, file, typer.echo)
    typer.echo(f"{file}, {file.with_suffix('.md')}")
