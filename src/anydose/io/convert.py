"""One case into another form; every case of a folder into a cohort store, by several processes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from anydose.case.case import Case
from anydose.case.names import NameMap, naming_table
from anydose.case.naming import table
from anydose.engine.engine import Engine, each
from anydose.io.format import Format
from anydose.io.formats import format_of, named
from anydose.io.read import read_case
from anydose.io.sources import sources
from anydose.io.store import attributes, clear_scraps, open_cohort, read_stored, stored_name, write_stored

FILE_SUFFIX = ".npz"  # of the one form whose cases are single files


@dataclass(frozen=True)
class Outcome:
    """What became of one source."""

    name: str
    """The case's name."""
    state: str
    """'written', 'kept' (there already, from the same bytes) or 'refused'."""
    why: str = ""
    """Why it was refused, or what the structures of a written one were taken for."""


def convert_case(source: Path, out: Path, format: str) -> Case:
    """Write the case at `source` in another form as `out`, which appears whole or not at all; a store is
    added to. ValueError for what the form cannot hold, for an unknown one, and for an `out` that holds
    something."""
    row, case = named(format), read_case(source)
    if row.name == "store":
        open_cohort(out)
        write_stored(case, out, case.name, source=source.name, source_sha256=source_hash(source))
        return case
    return write_new(lambda: case, out, row)


def write_new(make: Callable[[], Case], out: Path, row: Format) -> Case:
    """Make a case and write it as `out`, which appears whole or not at all.

    Raises:
        ValueError: `out` holds something; said before the case is made.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: not empty; a new or empty folder is accepted")
    case = make()
    scratch = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        if out.suffix != FILE_SUFFIX:
            scratch.mkdir(parents=True)
        row.write_case(case, scratch)
        scratch.replace(out)
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch)
        scratch.unlink(missing_ok=True)
    return case


def convert(
    root: Path,
    cohort: Path,
    engine: Engine | None = None,
    again: Sequence[str] = (),
    names: NameMap | None = None,
) -> Iterator[Outcome]:
    """Write every case of `root` into the local cohort store, one Outcome a case as it is done. What is
    stored from the same bytes is kept; a killed run goes on where it was, its scraps are removed. engine:
    where it is done, by default in this process; again: names to write anew; names: what structures are;
    another file of them makes every case new."""
    open_cohort(cohort)
    clear_scraps(cohort)
    work = partial(_convert, cohort=cohort, again=tuple(again), names=names)
    for done in each(work, sources(root), engine):
        yield Outcome(done.job[0], "refused", done.why) if done.why else done.result
    clear_scraps(cohort)  # of workers that were killed meanwhile


def _convert(job: tuple[str, Path], cohort: Path, again: Sequence[str], names: NameMap | None) -> Outcome:
    name, path = job
    digest = source_hash(path) + names_hash(names)
    place = cohort / stored_name(name)
    if name not in again and place.is_dir() and _holds(place, digest):
        return Outcome(name, "kept")
    case = replace(read_case(path, names=names), name=name)
    said = "; ".join(table.lines(naming_table(case)))
    write_stored(case, cohort, name, source=path.parent.name, source_sha256=digest)
    return Outcome(name, "written", said)


def names_hash(names: NameMap | None) -> str:
    """What tells a map of names from another; '' without one."""
    if names is None or not names.names:
        return ""
    return hashlib.sha256(repr(sorted(names.names.items())).encode()).hexdigest()[:16]


def _holds(place: Path, digest: str) -> bool:
    """True if a stored case is of the source with this hash and undamaged."""
    try:
        if attributes(place).get("source_sha256") != digest:
            return False
        read_stored(place)
    except ValueError:
        return False
    return True


def source_hash(path: Path) -> str:
    """SHA-256 over the names and bytes of a case's files, side files included."""
    return files_hash(path, side_files=format_of(path).side_files(path))


def files_hash(path: Path, side_files: Iterable[Path] = ()) -> str:
    """SHA-256 over names and bytes of a file, or of a folder's files, after those of `side_files`."""
    digest = hashlib.sha256()
    for file in side_files:
        digest.update(f"{file.name}:".encode())
        digest.update(file.read_bytes())
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        digest.update(f"{file.relative_to(path.parent)}:{file.stat().st_size}:".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
