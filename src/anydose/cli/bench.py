"""anydose bench: measurements that write the rows of docs/results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from anydose.cli.predict import Device, Looks, Mimic, Model, Steps, sampling
from anydose.model.options import Options

WITH_TABLE = ("fast", "complete", "calibration", "guard", "conditions")


def bench(
    name: Annotated[
        str, typer.Argument(help="fast, complete, calibration, guard, ...; a wrong name lists all.")
    ],
    cohort: Annotated[Path, typer.Option(help="OpenKBP dataset folder (with provided-data).")],
    limit: Annotated[int, typer.Option(help="Only the first N validation patients.")] = 0,
    model: Model = "compact-hn",
    steps: Steps = Options.steps,
    looks: Looks = Options.looks,
    mimic: Mimic = Options.mimic,
    device: Device = "auto",
    fit: Annotated[
        bool,
        typer.Option("--fit", help="calibration, guard: leave what was fitted beside the model's weights."),
    ] = False,
    train_steps: Annotated[
        int, typer.Option(help="ablation, transfer: steps of every training; 0: the default.")
    ] = 0,
    seeds: Annotated[str, typer.Option(help="ablation, transfer: seeds of every variant.")] = "0,1",
    only: Annotated[
        str, typer.Option(help="ablation, transfer: only these rows, as unet,no-beams or scratch,ct.")
    ] = "",
    change: Annotated[
        list[str] | None, typer.Option(help="ablation, transfer: key=value of the recipe, for all trainings.")
    ] = None,
    prior_steps: Annotated[int, typer.Option(help="transfer: steps of every prior.", min=2)] = 240,
    patients: Annotated[
        str, typer.Option(help="transfer: numbers of training patients, in this order.")
    ] = "all,20,50,100",
    simulated: Annotated[
        str, typer.Option(help="transfer: rendered cohort of simulated plans.")
    ] = "runs/rendered/simulated",
    backbone: Annotated[str, typer.Option(help="transfer: unet or dit.")] = "unet",
    every: Annotated[int, typer.Option(help="transfer: score one in N validation patients.", min=1)] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Measure something, side by side where there is a rival."""
    if name == "ablation":
        changes = tuple(change or ())
        _ablation(cohort, train_steps, seeds, only, limit, changes, device, json_file)
        return
    if name == "transfer":
        plan: dict[str, Any] = {"changes": tuple(change or ()), "seeds": _numbers("seeds", seeds)}
        plan |= {"steps": train_steps} if train_steps else {}
        plan |= {"prior_steps": prior_steps, "simulated": simulated, "every": every, "limit": limit}
        plan |= {"only": _words(only), "backbone": backbone, "device": device}
        _transfer(cohort, plan, patients, json_file)
        return
    from anydose.bench import table as benchmarks
    from anydose.io.files import write_json

    options = sampling(steps, "ddim", 1, 0, "", "dose", looks, mimic)
    rows = benchmarks.run(name, cohort, limit, benchmarks.How(model, options, device, fit))
    for row in rows:
        typer.echo(json.dumps(row))
    if json_file is not None:
        write_json(rows, json_file)
    if json_file is not None and name in WITH_TABLE:
        write_table(name, rows, json_file.with_suffix(".md"))


def write_table(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    """The rows of a benchmark as a Markdown file that says where they come from."""
    from anydose.bench.model_card import tables
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
    from anydose.bench import ablation

    steps, numbers = steps or ablation.BUDGET.steps, _numbers("seeds", seeds)
    plan = ablation.Plan(cohort, steps, numbers, _words(only), limit, changes, device)
    file = file or Path("docs/results/ablation.json")
    ablation.write(plan, file, typer.echo)
    typer.echo(f"{file}, {file.with_suffix('.md')}")


def _transfer(cohort: Path, how: dict[str, Any], patients: str, file: Path | None) -> None:
    from anydose.bench import transfer

    plan = transfer.Plan(cohort, patients=_numbers("patients", patients, {"all": 0}), **how)
    suffix = "" if plan.backbone == "unet" else f"-{plan.backbone}"
    file = file or Path(f"docs/results/transfer{suffix}.json")
    transfer.write(plan, file, typer.echo)
    typer.echo(f"{file}, {file.with_suffix('.md')}, {file.with_suffix('.png')}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str, named: Mapping[str, int] | None = None) -> tuple[int, ...]:
    """The whole numbers of an option, as 0,1, some of which have a name; ValueError for anything else among
    them, or none."""
    words, named = _words(text), named or {}
    if not words or not all(word.isdigit() or word in named for word in words):
        also = "".join(f" or {name}" for name in named)
        raise ValueError(f"{option} {text!r}: whole numbers{also} are accepted, as 0,1")
    return tuple(named[word] if word in named else int(word) for word in words)
