"""Options that several commands share, and options made from the fields of a configuration: their names,
types, defaults and help come from the dataclass, so that a new field is a new option."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from anydose.engine.engine import Engine
from anydose.train.settings import default_of, docstrings

Config = TypeVar("Config")
Command = Callable[..., None]

Patient = Annotated[
    Path, typer.Argument(help="A patient: an OpenKBP, DICOM or NIfTI folder, a GDP-HMM .npz, a .zip of one.")
]
Case = Annotated[Path, typer.Option(help="The patient: DICOM, OpenKBP or NIfTI folder, GDP-HMM .npz.")]
Dose = Annotated[Path, typer.Argument(help="Dose file, or a case that holds one.")]
DoseUnit = Annotated[str, typer.Option(help="Gy or cGy: the unit of a dose file that states none.")]
DoseAbove = Annotated[float | None, typer.Option(help="Accept a dose up to this, in Gy.")]
Model = Annotated[str, typer.Option(help="A shipped model's name or a .safetensors file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text: one object.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON instead of text: an object a line.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the result to this file as JSON.")]
Split = Annotated[str, typer.Option(help="OpenKBP: train, validation or test.")]
Cohort = Annotated[Path, typer.Option(help="OpenKBP dataset folder (with provided-data).")]
EACH_CORE = Engine(workers=0)  # what a command does with many cases, unless told
Limit = Annotated[int, typer.Option(help="Only the first N patients; 0 for all.", min=0)]
Changes = Annotated[list[str] | None, typer.Argument(help="key=value changes of the settings.")]

BETWEEN = re.compile(r",(?![^\[]*\])")  # a comma that stands in no [list]
ALL = "all"  # a word for 0 where a number of patients or steps is asked for


def takes(
    config: type, name: str, without: Collection[str] = (), panel: str | None = None, start: Any = None
) -> Callable[[Command], Command]:
    """Give a command one option for every field of a dataclass, in place of its parameter `name`, which is
    then called with the dataclass.

    Args:
        config: the dataclass; a field that is a dataclass itself is followed by that one's fields.
        name: the command's parameter.
        without: fields that are no options: they keep their defaults.
        panel: the heading that the options stand under in the help.
        start: a value whose fields are the defaults, in place of the class's own.
    """

    def changed(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        added = {p.name: p for p in _parameters(config, without, panel, start)}
        double = added.keys() & own.parameters.keys() - {name}
        if double:
            raise TypeError(f"{command.__name__}: has its own {', '.join(sorted(double))}")
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            parameters += added.values() if parameter.name == name else [parameter]

        @wraps(command)
        def called(**values: Any) -> None:
            given = {field: values.pop(field) for field in added}
            command(**values, **{name: made(config, given, without, start)})

        ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        called.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in ordered}
        return called

    return changed


def made(config: Any, values: dict[str, Any], without: Collection[str] = (), start: Any = None) -> Any:
    """The dataclass of an option's values. ValueError for a list of other things than its numbers."""
    given: dict[str, Any] = {}
    types = get_type_hints(config)
    for field in fields(config):
        before = getattr(start, field.name) if start is not None else default_of(field)
        if is_dataclass(before):
            given[field.name] = made(type(before), values, without, before)
        elif field.name in without:
            continue
        elif _is_list(types[field.name]) and values[field.name] is None:
            given[field.name] = before
        elif _is_list(types[field.name]):
            given[field.name] = listed(field.name, values[field.name], types[field.name])
        else:
            given[field.name] = values[field.name]
    return replace(start, **given) if start is not None else config(**given)


def _parameters(
    config: type, without: Collection[str], panel: str | None, start: Any = None
) -> list[inspect.Parameter]:
    """An option for every field; start: a value whose fields are the defaults, if not the class's own."""
    found: list[inspect.Parameter] = []
    types, said = get_type_hints(config), docstrings(config)
    for field in fields(config):
        default = getattr(start, field.name) if start is not None else default_of(field)
        if is_dataclass(default):
            found += _parameters(type(default), without, panel, default)
        elif field.name not in without:
            says = said.get(field.name, "")
            found.append(_parameter(field.name, types[field.name], default, says, panel=panel))
    return found


def _parameter(name: str, kind: Any, default: Any, says: str, panel: str | None) -> inspect.Parameter:
    flag = _flag(name)
    shown: bool | str = default not in ("", None)
    if _is_list(kind):
        says = f"{says} Several with commas."
        kind, default, shown = list[str] | None, None, ",".join(map(str, default)) or False
    elif kind in (bool, bool | None):
        flag = f"{flag}/--no-{flag[2:]}"
    option = typer.Option(flag, help=says, show_default=shown, rich_help_panel=panel)
    default = inspect.Parameter.empty if default is MISSING else default
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_list(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is tuple


def listed(name: str, words: Sequence[str], kind: Any) -> tuple[Any, ...]:
    """The parts of a list option, which may be repeated and hold commas: words, or numbers where the type
    says so (whole ones: 'all' is 0). ValueError for anything else among the numbers, or for no whole one."""
    parts = [part.strip() for word in words for part in BETWEEN.split(word)]
    found = [part for part in parts if part]
    if kind.__args__[0] is float:
        try:
            return tuple(float(part) for part in found)
        except ValueError:
            given = ",".join(words)
            raise ValueError(f"{_flag(name)} {given!r}: numbers are accepted, as 0.5,1.0") from None
    of_numbers = kind.__args__[0] is int
    if of_numbers and not (found and all(part.isdigit() or part == ALL for part in found)):
        given = ",".join(words)
        raise ValueError(f"{_flag(name)} {given!r}: whole numbers or {ALL} are accepted, as 0,1")
    return tuple(0 if part == ALL else int(part) for part in found) if of_numbers else tuple(found)
