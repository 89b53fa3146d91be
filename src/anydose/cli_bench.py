"""anydose bench: measurements that write the rows of docs/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anydose.cli_predict import FLIPS, STEPS, Device, Flips, Model, Steps, sampling


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
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Measure something, side by side where there is a rival."""
    from anydose import bench as benchmarks
    from anydose.deliver import write_json

    options = sampling(steps, "ddim", 1, 0, "", "dose", flips)
    rows = benchmarks.run(name, cohort, limit, benchmarks.How(model, options, device, fit))
    for row in rows:
        typer.echo(json.dumps(row))
    if json_file is not None:
        write_json(rows, json_file)
