"""anydose simulate: doses of simulated plans, for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    cohort: Annotated[Path, typer.Argument(help="OpenKBP dataset (its training patients) or any cohort.")],
    out: Annotated[Path, typer.Argument(help="The cohort store: a new folder, or one to go on with.")],
    plans: Annotated[int, typer.Option(help="How many plans in all.", min=1)] = 100,
    workers: Annotated[int, typer.Option(help="Plans at a time.", min=1, max=64)] = 1,
    seed: Annotated[int, typer.Option(help="Every seed draws other plans.", min=0)] = 0,
    engine: Annotated[
        str, typer.Option(envvar="ANYDOSE_PLANNER", help="The Python that holds pyRadPlan.")
    ] = "",
    bixel_mm: Annotated[float, typer.Option(help="Beamlet width at the isocentre.")] = 12.0,
    grid_mm: Annotated[float, typer.Option(help="Voxels of the planner's dose.")] = 7.0,
    iterations: Annotated[int, typer.Option(help="Steps of the fluence optimisation.")] = 100,
) -> None:
    """Plan simulated IMRT treatments on patients' anatomy, with many beam arrangements; resumes. Exit code 2
    if a plan was refused."""
    from anydose.simulate import cohort as simulation

    setting = simulation.Setting(bixel_mm, grid_mm, iterations)
    states: list[str] = []
    for outcome in simulation.simulate(cohort, out, plans, engine, seed, workers, setting):
        states.append(outcome.state)
        typer.echo(f"{len(states)}/{plans} {outcome.name}: {outcome.state} {outcome.why}".rstrip())
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("written", "kept", "refused"))
    typer.echo(f"{out}: {counts}")
    if "refused" in states:
        raise typer.Exit(2)
