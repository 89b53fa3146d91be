"""anydose reward: how a dose's reward is made up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydose.cli.options import Case, Dose, Json
from anydose.cli.output import print_json

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reward(
    dose: Dose,
    case: Case,
    reward: Annotated[
        str, typer.Option(help="Reward file (.yaml) or a packaged one's name; default: the case's own.")
    ] = "",
    versus: Annotated[
        Path | None, typer.Option(help="The base model's dose: whose error the anchor is relative to.")
    ] = None,
    as_json: Json = False,
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
        print_json(found.to_json())
    else:
        typer.echo(found.text())
