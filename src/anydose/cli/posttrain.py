"""anydose reward and scardnft: how a dose's reward is made up, and post-training beside its controls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydose.cli.predict import Looks
from anydose.model.options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reward(
    dose: Annotated[Path, typer.Argument(help="Dose file, or a case that holds one.")],
    case: Annotated[Path, typer.Option(help="The patient: DICOM, OpenKBP or NIfTI folder, GDP-HMM .npz.")],
    reward: Annotated[
        str, typer.Option(help="Reward file (.yaml) or a packaged one's name; default: the case's own.")
    ] = "",
    versus: Annotated[
        Path | None, typer.Option(help="The base model's dose: whose error the anchor is relative to.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Print how the reward of a dose is made up: scorecard, hard constraints, anchor."""
    from anydose.io.read import read_case, read_dose
    from anydose.train.posttrain import reward as rewards

    patient = read_case(case)
    config = rewards.read_reward(reward) if reward else rewards.own_reward(patient)
    on_patient = rewards.bind_reward(patient, config)

    def on_case(path: Path) -> NDArray[Any]:
        volume = read_dose(path, patient)
        return (volume if volume.grid.matches(patient.grid) else volume.resample(patient.grid)).array

    base = None if versus is None else on_patient.mae_gy(on_case(versus))
    found = on_patient.reward(on_case(dose), None if base is None else float(base))
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        typer.echo(found.text())


def scardnft(
    changes: Annotated[list[str] | None, typer.Argument(help="key=value changes of the recipe.")] = None,
    methods: Annotated[str, typer.Option(help="Which: nft, direct, ddpo, best.")] = "nft,direct,ddpo,best",
    data: Annotated[Path, typer.Option(help="Drawn cases to compare on.")] = Path("runs/rendered/validation"),
    cases: Annotated[Path, typer.Option(help="Their cohort store.")] = Path("runs/cases/validation"),
    limit: Annotated[int, typer.Option(help="Only the first N of them.")] = 0,
    steps: Annotated[int, typer.Option(help="Network evaluations a prediction.")] = 1,
    looks: Looks = Options.looks,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Post-train with ScardNFT and its controls under one budget, and print the table."""
    from rich.console import Console
    from rich.table import Table

    from anydose.bench import posttrain as bench_scard
    from anydose.io.files import write_json
    from anydose.train import recipes

    unseen = bench_scard.Unseen(data, cases, limit)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    config = recipes.changed(recipes.POSTTRAIN, changes or ())
    rows = []
    for row in bench_scard.compare(config, names, unseen, Options(steps=steps, looks=looks), device):
        rows.append(row)
        typer.echo(json.dumps(row))
        if json_file is not None:
            write_json(rows, json_file)
    table = Table("method", "score %", "gain (95 % CI)", "MAE Gy", "growth %", "PTV D95 Gy", "PTV D99 Gy")
    for row in rows:
        gain = f"{row['gain']:+.2f} ({row['gain_low']:+.2f}, {row['gain_high']:+.2f})"
        numbers = (f"{row['mae_gy']:.3f}", f"{row['mae_growth_percent']:+.2f}")
        targets = (f"{row['ptv_d95_change_gy']:+.2f}", f"{row['ptv_d99_change_gy']:+.2f}")
        table.add_row(row["method"], f"{row['score_percent']:.2f}", gain, *numbers, *targets)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
