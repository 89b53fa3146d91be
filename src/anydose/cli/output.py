"""What the command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from anydose.io.convert import Outcome

log = logging.getLogger("anydose")


def configure(verbose: int, quiet: bool) -> None:
    """Let the library's log go to standard error: warnings; -v: what is done; -vv: all; -q: errors alone."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)


class _StandardError(logging.Handler):
    """Writes to what standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def is_quiet() -> bool:
    """Whether -q asked for results and errors alone."""
    return log.getEffectiveLevel() >= logging.ERROR


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(value: Any) -> None:
    """One JSON object on one line of standard output, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def tell(sentence: str) -> None:
    """A sentence for whoever waits at the terminal, on standard error; silent with -q."""
    if not is_quiet():
        typer.echo(sentence, err=True)


def print_outcomes(outcomes: Iterable[Outcome], as_json: bool, total: int = 0) -> list[str]:
    """A line for each outcome as it comes, numbered where their total is known; the states of all."""
    states: list[str] = []
    for outcome in outcomes:
        states.append(outcome.state)
        if as_json:
            print_line(asdict(outcome))
        else:
            number = f"{len(states)}/{total} " if total else ""
            typer.echo(f"{number}{outcome.name}: {outcome.state} {outcome.why}".rstrip())
    return states


def counts(states: Sequence[str]) -> str:
    """'12 written, 3 kept, 0 refused'."""
    return ", ".join(f"{states.count(state)} {state}" for state in ("written", "kept", "refused"))


def write_result(value: Any, file: Path | None) -> None:
    """Write a result as JSON by atomic rename, where a file is asked for."""
    from anydose.io.files import write_json

    if file is not None:
        write_json(value, file)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner while something takes long; silent where there is no terminal, and with -q."""
    from rich.console import Console

    with Console(stderr=True, quiet=is_quiet()).status(what):
        yield
