"""anydose simulate and clinic: doses of simulated plans, for training."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anydose.cli.options import JsonLines, takes
from anydose.cli.output import counts, print_line, print_outcomes, tell
from anydose.simulate.setting import Setting

if TYPE_CHECKING:
    from anydose.simulate.planning import Planner

Vocabulary = Annotated[
    str,
    typer.Option(
        help="Organs with a limit each: head_neck, prostate, lung, breast, gdphmm or a YAML file; without, "
        "those that a store records, and head and neck's elsewhere."
    ),
]


class PlannerName(StrEnum):
    """Who plans."""

    pyradplan = "pyradplan"
    rays = "rays"
    replan = "replan"


@takes(Setting, "setting", panel="How finely")
def simulate(
    cohort: Annotated[Path, typer.Argument(help="OpenKBP dataset (its training patients) or any cohort.")],
    out: Annotated[Path, typer.Argument(help="The cohort store: a new folder, or one to go on with.")],
    plans: Annotated[int, typer.Option(help="How many plans in all.", min=1)] = 100,
    workers: Annotated[int, typer.Option(help="Plans at a time.", min=1, max=64)] = 1,
    seed: Annotated[int, typer.Option(help="Every seed draws other plans.", min=0)] = 0,
    planner: Annotated[
        PlannerName,
        typer.Option(
            help="pyradplan: pencil beams, half a minute a plan, needs --engine. rays: the package's own "
            "rays, a second a plan. replan: the patients' own plans, deformed, turned and planned again."
        ),
    ] = PlannerName.pyradplan,
    engine: Annotated[
        str, typer.Option(envvar="ANYDOSE_PLANNER", help="The Python that holds pyRadPlan.")
    ] = "",
    vocabulary: Vocabulary = "",
    as_json: JsonLines = False,
    *,
    setting: Setting,
) -> None:
    """Plan simulated IMRT treatments on patients' anatomy, with many beam arrangements; resumes. Exit code 2
    if a plan was refused."""
    from anydose.simulate import cohort as simulation

    chosen = _planner(planner, cohort, engine=engine, setting=setting, vocabulary=vocabulary)
    outcomes = simulation.simulate(cohort, out, plans, chosen, seed=seed, workers=workers)
    states = print_outcomes(outcomes, as_json, total=plans)
    (tell if as_json else typer.echo)(f"{out}: {counts(states)}")
    if "refused" in states:
        raise typer.Exit(2)


def _planner(name: PlannerName, cohort: Path, *, engine: str, setting: Setting, vocabulary: str) -> Planner:
    """The planner of a name. ValueError for options that it does not take."""
    from anydose.io.vocabularies import asked_of
    from anydose.simulate.pyradplan import PyRadPlan
    from anydose.simulate.rays import Rays
    from anydose.simulate.replan import Replan

    if name is PlannerName.pyradplan:
        return PyRadPlan(engine, setting, asked_of(cohort, vocabulary))
    if setting != Setting():
        raise ValueError(f"--planner {name.value} has a fineness of its own; {setting} is for pyradplan")
    if name is PlannerName.rays:
        return Rays(asked_of(cohort, vocabulary))
    if vocabulary:
        raise ValueError("--planner replan weighs no organs of its own: it takes no --vocabulary")
    return Replan()


def clinic(
    folder: Annotated[Path, typer.Argument(help="A new folder, or one to go on with.")],
    patients: Annotated[int, typer.Option(help="How many patients.", min=1)] = 72,
    habit: Annotated[str, typer.Option(help="How they are planned: prostate-imrt7 or prostate-vmat.")] = (
        "prostate-imrt7"
    ),
    seed: Annotated[int, typer.Option(help="Every seed draws other patients.", min=0)] = 0,
    as_json: JsonLines = False,
) -> None:
    """Write a simulated clinic: procedural pelvis patients with plans of one habit, each a DICOM-RT study;
    resumes."""
    from anydose.simulate.clinic import write_clinic

    for row in write_clinic(folder, patients, habit, seed):
        if as_json:
            print_line(row)
        else:
            figures = ", ".join(f"{name} {value}" for name, value in row.items() if name != "patient")
            typer.echo(f"{row['patient']}: {figures}")
