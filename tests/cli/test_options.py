"""Options come from one place: every sampling default is that of Options(), every help its docstring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from anydose.cli.app import app
from anydose.cli.options import listed, takes
from anydose.cli.words import Command
from anydose.model.options import Options
from anydose.train.settings import docstrings

ROOT = typer.main.get_group(app)
SAMPLING = ("predict", "complete", "evaluate")


def options_of(name: str) -> dict:
    return {param.name: param for param in ROOT.commands[name].params}


@pytest.mark.parametrize("name", SAMPLING)
def test_every_default_is_that_of_options(name: str) -> None:
    shipped, said, found = asdict(Options()), docstrings(Options), options_of(name)
    shared = shipped.keys() & found.keys() - {"target"}
    assert {"steps", "sampler", "seed", "given", "looks", "precision"} <= shared
    for option in shared:
        default = found[option].default
        assert default == (shipped[option] or None if default is None else shipped[option]), option
        assert found[option].help.startswith(said[option])


def test_a_field_without_an_option_would_be_noticed() -> None:
    """Every field of Options but the target is an option of predict, with no further file touched."""
    assert asdict(Options()).keys() - options_of("predict").keys() == {"target"}


@pytest.mark.parametrize("name", SAMPLING)
def test_what_a_command_calls_its_work_with_is_options(name: str, tmp_path: Path, monkeypatch) -> None:
    """The command's own default and one that is asked for both arrive."""
    import anydose.deliver.completion
    import anydose.deliver.dose
    import anydose.evaluate

    arrived = []

    def stop(*given, **named):
        found = [value for value in (*given, *named.values()) if isinstance(value, Options)]
        arrived.extend(found)
        raise ValueError("seen")

    monkeypatch.setattr(anydose.deliver.dose, "predict_to", stop)
    monkeypatch.setattr(anydose.deliver.completion, "complete_to", stop)
    monkeypatch.setattr(anydose.evaluate, "openkbp_split", stop)
    lines = {
        "predict": ["predict", str(tmp_path), "--out", "o"],
        "complete": ["complete", str(tmp_path), "--out", "o", "--target", "dose"],
        "evaluate": ["evaluate", "--cohort", str(tmp_path)],
    }
    (tmp_path / "validation-pats").mkdir()  # an OpenKBP dataset
    for extra in ([], ["--given", "ptv, body", "--views", "4"]):
        result = CliRunner().invoke(app, [*lines[name], *extra])
        assert str(result.exception) == "seen", result.output
    assert arrived == [Options(), Options(given=("ptv", "body"), looks=4)]


@dataclass(frozen=True)
class Inner:
    depth: int = 2
    """How deep."""


@dataclass(frozen=True)
class Outer:
    where: Path
    """Which place."""
    sizes: tuple[int, ...] = (0, 5)
    """How many."""
    changes: tuple[str, ...] = ()
    """key=value."""
    keep: bool = False
    """Whether it is kept."""
    inner: Inner = field(default_factory=lambda: Inner(depth=7))


def outer_app() -> tuple[typer.Typer, list[Outer]]:
    found: list[Outer] = []
    made = typer.Typer()

    @made.command(cls=Command)
    @takes(Outer, "settings")
    def run(settings: Outer) -> None:
        found.append(settings)

    return made, found


def test_a_dataclass_becomes_options_and_comes_back() -> None:
    made, found = outer_app()
    words = ["--sizes", "all,3", "--sizes", "9", "--changes", "a=[1,2],b=3", "--keep", "--depth", "1"]
    assert CliRunner().invoke(made, ["--where", "x"]).exit_code == 0
    assert CliRunner().invoke(made, ["--where", "x", *words]).exit_code == 0
    assert found == [
        Outer(Path("x")),
        Outer(Path("x"), (0, 3, 9), ("a=[1,2]", "b=3"), True, Inner(depth=1)),
    ]


def test_a_required_field_is_a_required_option_and_lists_of_numbers_hold_numbers() -> None:
    made, found = outer_app()
    assert CliRunner().invoke(made, []).exit_code == 2
    refused = CliRunner().invoke(made, ["--where", "x", "--sizes", "1,two"])
    assert isinstance(refused.exception, ValueError) and "'1,two'" in str(refused.exception)
    assert not found


def test_lists_of_shares_hold_numbers() -> None:
    assert listed("points", ["0.5,1"], tuple[float, ...]) == (0.5, 1.0)
    with pytest.raises(ValueError, match="--points 'half'"):
        listed("points", ["half"], tuple[float, ...])


def test_a_command_may_not_have_an_option_twice() -> None:
    with pytest.raises(TypeError, match="depth"):

        @takes(Inner, "settings")
        def run(settings: Inner, depth: int = 1) -> None:
            """Never called."""


def test_no_command_takes_a_root_option_for_itself() -> None:
    """-v, -q and --debug may stand anywhere, so no command may mean anything else by them."""
    from anydose.cli.words import ANYWHERE

    def walk(group: click.Group) -> None:
        for command in group.commands.values():
            if hasattr(command, "commands"):
                walk(command)
                continue
            taken = {word for param in command.params for word in (*param.opts, *param.secondary_opts)}
            assert not taken & ANYWHERE, command.name

    walk(ROOT)
