"""anydose recipes, train, train-codec and export: models made and stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydose.cli.options import Changes, Device, Json
from anydose.cli.output import print_json

if TYPE_CHECKING:
    from anydose.train.settings import Setting

ShowSettings = Annotated[
    bool,
    typer.Option(
        "--help-settings",
        help="List every setting of the recipe: type, value and what it does; train nothing.",
    ),
]


def recipes(as_json: Json = False) -> None:
    """List every recipe of `anydose train` with what it makes."""
    from anydose.train import recipes as known

    rows = [{"recipe": name, "about": about} for name, about in known.ABOUT.items()]
    if as_json:
        print_json(rows)
        return
    width = max(len(row["recipe"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['recipe']:{width}}  {row['about']}")


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name (`anydose recipes` lists them) or .yaml file.")
    ],
    changes: Changes = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue exactly from the last checkpoint.")
    ] = False,
    device: Device = "auto",
    prior: Annotated[str, typer.Option(help="Start from an imported prior: wan or maisi.")] = "",
    machine: Annotated[str, typer.Option(help="A prior's recipe for: 24gb, 80gb or 8x80gb.")] = "24gb",
    help_settings: ShowSettings = False,
    as_json: Json = False,
) -> None:
    """Train a model by a recipe; the run lies in runs/NAME."""
    from anydose.train import recipes as known

    config = known.resolve(recipe, changes or (), prior, machine)
    if help_settings:
        show_settings(config, as_json)
        return
    from anydose.train import run

    run.start(config, resume=resume, device=device)


def train_codec(changes: Changes = None, help_settings: ShowSettings = False, as_json: Json = False) -> None:
    """Train the compact codec."""
    from anydose.train.changes import changed
    from anydose.train.recipes import CODEC

    config = changed(CODEC, changes or ())
    if help_settings:
        show_settings(config, as_json)
        return
    from anydose.train import run

    run.show_codec(config)


def export(
    run: Annotated[Path, typer.Argument(help="A trained model.safetensors.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
) -> None:
    """Store a trained model's weights as bfloat16, half the size, with its whole record."""
    from anydose.model.checkpoint import export as write

    write(run, out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def show_settings(config: Any, as_json: bool) -> None:
    """Every setting of a resolved configuration: name=value, its type and its docstring."""
    from anydose.train.settings import settings_of

    found = settings_of(config)
    if as_json:
        print_json([_row(setting) for setting in found])
        return
    for setting in found:
        typer.echo(f"{setting.name}={_value(setting.default)}  ({_type(setting)})")
        if setting.says:
            typer.echo(f"    {setting.says}")


def _row(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "type": _type(setting),
        "value": setting.default,
        "about": setting.says,
    }


def _type(setting: Setting) -> str:
    name = getattr(setting.type, "__name__", "")
    return name if name and not getattr(setting.type, "__args__", ()) else str(setting.type)


def _value(value: Any) -> str:
    """A value as it is given on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(_value, value))}]" if isinstance(value, tuple) else str(value)
