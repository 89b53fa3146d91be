"""anydose names: what the structures of a study were taken for; and the options that say what they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anydose.cli.options import Json
from anydose.cli.output import print_json, tell

if TYPE_CHECKING:
    from anydose.case.case import Case
    from anydose.case.names import NameMap

Names = Annotated[
    Path | None, typer.Option("--names", help="The clinic's names, a file by `anydose names --save`.")
]
Name = Annotated[
    list[str] | None, typer.Option("--name", help="What a structure is, as ROI=Parotid_L; may be repeated.")
]
COLUMNS = ("structure", "type", "is", "used as", "why", "perhaps")


def name_map(names: Path | None, name: list[str] | None) -> NameMap | None:
    """What the two options say, --name above the file; None if neither is there."""
    from anydose.case.names import NameMap

    if names is None and not name:
        return None
    of_file = NameMap.load(names) if names is not None else NameMap()
    return of_file.with_more(NameMap.of(name or ()))


def divided(pairs: list[str] | None, case: Case) -> tuple[list[str], list[str]]:
    """(ROI=NAME, SCORECARD=CASE) texts of a command that takes both by --name. Left of a ROI=NAME stands a
    structure of the case, right of it none."""
    there = {name.casefold() for name in case.structures}
    of_rois: list[str] = []
    of_card: list[str] = []
    for pair in pairs or ():
        left, _, right = (part.strip().casefold() for part in pair.rpartition("="))
        if left in there and right not in there:
            of_rois.append(pair)
        else:
            of_card.append(pair)
    return of_rois, of_card


def names(
    study: Annotated[Path, typer.Argument(help="A patient in any form, or a folder of patients.")],
    save: Annotated[
        Path | None, typer.Option("--save", help="Write or complete the clinic's file of names (YAML).")
    ] = None,
    given: Names = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Say what every structure of a study was taken for, and propose names for those not understood."""
    from anydose.case.names import naming_table
    from anydose.case.naming.propose import proposals
    from anydose.io.read import read_case
    from anydose.io.sources import sources

    known = name_map(given, name)
    found: dict[str, dict[str, str]] = {}
    for _, path in sources(study):
        case = read_case(path, names=known)
        kinds = {meaning.roi: meaning.kind for meaning in case.naming}
        for row in naming_table(case):
            perhaps = ", ".join(proposals(row["roi"])) if row["role"] == "unknown" else ""
            found.setdefault(row["roi"], {**row, "type": kinds[row["roi"]], "perhaps": perhaps})
    rows = list(found.values())
    if as_json:
        print_json(rows)
    else:
        _print(rows)
    open_rows = [row for row in rows if row["role"] == "unknown"]
    if save is not None:
        _save(save, open_rows, known)
        tell(f"{save}: {len(open_rows)} names without an answer; fill them in and pass --names {save}")


def _print(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS)
    for row in rows:
        cells = ("roi", "type", "tg263", "channel", "why", "perhaps")
        table.add_row(*(Text(row[cell] or "-") for cell in cells))
    Console(width=None if sys.stdout.isatty() else 180).print(table)


def _save(path: Path, open_rows: list[dict[str, str]], known: NameMap | None) -> None:
    """The file's own answers and those given now are kept; names not understood are added without one."""
    from anydose.case.naming.mapping import file_text, read_file
    from anydose.io.files import whole

    answers: dict[str, str | None] = dict(read_file(path)) if path.exists() else {}
    answers |= dict(known.names) if known is not None else {}
    for row in open_rows:
        answers.setdefault(row["roi"], None)
    perhaps = {row["roi"]: row["perhaps"].split(", ") for row in open_rows if row["perhaps"]}
    with whole(path) as scratch:
        scratch.write_text(file_text(answers, perhaps), encoding="utf-8")
