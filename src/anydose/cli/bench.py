"""anydose bench NAME, card and chart: measurements, and what is written from them. Each benchmark of the
table in bench/registry.py is a command, whose options are the fields of its settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from anydose.cli.options import Json, JsonLines, Out, takes
from anydose.cli.output import print_json, print_line, tell, write_result
from anydose.cli.words import WritingCommand, deprecated

if TYPE_CHECKING:
    from anydose.bench.registry import Benchmark

NO_OPTIONS = ("target", "given")  # a benchmark sets these itself


class Benchmarks(TyperGroup):
    """The table of benchmarks as commands; it is read when one is asked for, as it needs torch."""

    def list_commands(self, ctx: Any) -> list[str]:
        """`list`, then the benchmarks by name."""
        return [*self.commands, *_commands()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, or by that of the last release."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        found = _commands()
        new = cmd_name if cmd_name in found else _new_name(cmd_name)
        if new != cmd_name and new in found:
            deprecated(f"bench {cmd_name}", f"bench {new}")
        return found.get(new)


bench = typer.Typer(
    cls=Benchmarks, help="Measurements, side by side where there is a rival.", no_args_is_help=True
)


@bench.command("list")
def list_benchmarks(as_json: Json = False) -> None:
    """List every benchmark with what it measures."""
    from anydose.bench.registry import benchmarks

    found = benchmarks().values()
    if as_json:
        print_json([{"bench": one.name, "measures": one.says} for one in found])
        return
    width = max(len(one.name) for one in found)
    for one in found:
        typer.echo(f"{one.name:{width}}  {one.says}")


@bench.callback()
def _group() -> None:
    """Measurements, side by side where there is a rival; `bench list` says what each measures."""


def card(
    results: Annotated[list[Path], typer.Argument(help="Files of `anydose evaluate --out`.")],
    model: Annotated[str, typer.Option(help="The model to write a card of.")] = "compact-hn",
    out: Annotated[Path, typer.Option(help="The card.")] = Path("docs/models/compact-hn.md"),
    readme: Annotated[Path | None, typer.Option(help="Put the tables into this file.")] = None,
    ablation: Annotated[
        Path | None, typer.Option(help="A file of `anydose bench ablation`, for the second table there.")
    ] = None,
) -> None:
    """Write a model card, and the README's tables, from what was measured."""
    from anydose.bench import ablation as ablations
    from anydose.bench import model_card as cards
    from anydose.io.files import whole
    from anydose.model.registry import find

    rows = cards.cohort_rows(results)
    with whole(out) as scratch:
        scratch.write_text(cards.model_card(find(model), rows))
    if readme is not None:
        cards.into_readme(readme, "scores", cards.table(rows))
    if readme is not None and ablation is not None:
        varied = [row for row in json.loads(ablation.read_text()) if row.get("sampling_steps") == 1]
        cards.into_readme(readme, "ablation", ablations.table(varied))


def chart(
    results: Annotated[
        list[Path], typer.Argument(help="Files of `anydose evaluate --out` and `anydose bench ablation`.")
    ],
    out: Annotated[Path, typer.Option(help="The picture (.png, .pdf, .svg).")] = Path(
        "docs/images/results.png"
    ),
) -> None:
    """Draw the scores that were measured as bars, beside published ones."""
    from anydose.bench import chart as charts
    from anydose.io.files import whole

    with whole(out) as scratch:
        charts.draw(charts.panels(results), scratch)
    typer.echo(f"{out}")


ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}


def scardnft(context: typer.Context) -> None:
    """Deprecated: `anydose bench posttrain`, where changes are --changes key=value."""
    deprecated("scardnft", "bench posttrain")
    command = _commands()["posttrain"]
    words: list[str] = []
    for place, word in enumerate(context.args):
        follows_an_option = place > 0 and context.args[place - 1].startswith("-")
        is_change = "=" in word and not word.startswith("-") and not follows_an_option
        words += ["--changes", word] if is_change else [word]
    command(args=words, standalone_mode=False)


def _commands() -> Mapping[str, Any]:
    """Benchmark -> its command."""
    from anydose.bench.registry import benchmarks

    app = typer.Typer()
    app.callback()(_group)
    for one in benchmarks().values():
        app.command(one.name, cls=WritingCommand, help=one.says)(_command(one))
    return typer.main.get_group(app).commands


def _new_name(old: str) -> str:
    from anydose.bench.registry import benchmarks

    return next((one.name for one in benchmarks().values() if old in one.old_names), old)


def _command(one: Benchmark) -> Any:
    @takes(one.settings, "settings", without=NO_OPTIONS)
    def command(settings: Any, out: Out = one.file, as_json: JsonLines = False) -> None:
        run(one, settings, out, as_json)

    return command


def run(one: Benchmark, settings: Any, file: Path | None, as_json: bool) -> list[dict[str, Any]]:
    """Measure, printing and keeping each row as it is there; the rows. The file appears whole, by rename."""
    from anydose.bench.markdown import tables

    rows: list[dict[str, Any]] = []
    for row in measured(one, settings, file):
        rows.append(row)
        if as_json:
            print_line(row)
        if one.file is None:
            write_result(rows, file)
    if not as_json:
        typer.echo(tables(rows))
    if file is not None and one.has_page:
        write_page(one.name, rows, file.with_suffix(".md"))
    if file is not None:
        tell(f"{file}: {len(rows)} rows")
    return rows


def measured(one: Benchmark, settings: Any, file: Path | None) -> Iterable[dict[str, Any]]:
    """The rows of a benchmark, which keeps them itself if it has a file of its own."""
    return one.measure(settings) if one.file is None else one.measure(settings, file)


def write_page(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    """The rows of a benchmark as a Markdown file that says where they come from."""
    from anydose.bench.markdown import tables
    from anydose.io.files import whole

    with whole(path) as scratch:
        scratch.write_text(
            f"Written by `anydose bench {name}`; the same rows as JSON lie beside.\n\n{tables(rows)}"
        )
