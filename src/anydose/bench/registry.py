"""The table of benchmarks. A benchmark is one function in one file of this folder:

    @dataclass(frozen=True)
    class Settings(Patients):
        repeats: int = 3
        \"\"\"How often it is timed.\"\"\"

    @benchmark("name", settings=Settings, says="What it measures.")
    def measure(settings: Settings) -> Rows: ...

It is then `anydose bench name --cohort ... --repeats 3`: the fields of its settings are the options, their
docstrings the help. Another package adds its own by an entry point of the group `anydose.benchmarks`, which
names the module that holds such functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

Row = dict[str, Any]
Rows = list[Row]
Measure = TypeVar("Measure", bound=Callable[..., Iterable[Row]])
GROUP = "anydose.benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """One row of the table."""

    name: str
    """The word after `anydose bench`."""
    measure: Callable[..., Iterable[Row]]
    """Settings in, JSON rows out, one at a time where that takes long. Where `file` is set it takes that as
    well, keeps every finished row there itself and does not make it again."""
    settings: type
    """A frozen dataclass: each field is an option, and its docstring the option's help."""
    says: str
    """What is measured, in a sentence or two."""
    old_names: tuple[str, ...] = ()
    """Names of the last release."""
    has_page: bool = False
    """Whether a Markdown table is written beside the rows."""
    file: Path | None = None
    """Where the rows go when no file is named."""


_TABLE: dict[str, Benchmark] = {}


def benchmark(
    name: str,
    *,
    settings: type,
    says: str,
    old_names: tuple[str, ...] = (),
    has_page: bool = False,
    file: Path | None = None,
) -> Callable[[Measure], Measure]:
    """Enter a function into the table; the arguments are Benchmark's fields. ValueError if another function
    has the name."""

    def entered(measure: Measure) -> Measure:
        if name in _TABLE and _TABLE[name].measure.__module__ != measure.__module__:
            raise ValueError(f"benchmark {name!r}: {_TABLE[name].measure.__module__} has that name already")
        _TABLE[name] = Benchmark(
            name=name,
            measure=measure,
            settings=settings,
            says=says,
            old_names=old_names,
            has_page=has_page,
            file=file,
        )
        return measure

    return entered


def benchmarks() -> dict[str, Benchmark]:
    """Every benchmark by name: those of this folder's files, then those of other installed packages."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()
    return dict(sorted(_TABLE.items()))
