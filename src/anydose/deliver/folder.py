"""The folder that a run leaves: one folder, one result of one case, whole or not at all.

Everything is written into a hidden folder inside it. Only when that is complete, with the hash of every file
in its run.json, does it take the place of what was there; run.json goes first and comes last. So a folder
with a run.json is complete, whenever a run is killed: what a dead run had finished is put in place by the
next run, anything less is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anydose.io.files import write_json
from anydose.io.run_folder import RECORD, hash_of, read_record
from anydose.io.sources import sources

LOCK = ".anydose.lock"
WRITING = ".anydose-writing"
"""What a run is writing; without its owner it is of no use."""
PRIVATE = 0o700
"""Permissions of that folder: nobody else reads what is half written."""
COMPLETE = ".anydose-complete"
"""The same when it is complete, until it is in place."""


@dataclass(frozen=True)
class Place:
    """A folder that this run alone may write to."""

    folder: Path
    """Where the result will lie."""
    scratch: Path
    """Where it is written."""
    overwrite: bool
    """Whether a result of another case, or anything else, may be replaced."""

    def refuse_other(self, target: str, inputs: Mapping[str, str], case: str | None = None) -> None:
        """Raises ValueError if the folder holds anything but this target of the same case. inputs: file ->
        SHA-256; case: its name, where it is known already."""
        there = _content(self.folder)
        if not there or self.overwrite:
            return
        record = read_record(self.folder)
        if record is None:
            some = ", ".join(sorted(p.name for p in there)[:3])
            found, why = f"{some} found", "no complete result of anydose"
        elif record["target"] != target:
            found, why = f"the {record['target']} of {record['case']} found", f"no {target}"
        elif case not in (None, record["case"]):
            found, why = f"a result of {record['case']} found", f"another case than {case}"
        elif record.get("inputs") != dict(inputs):
            found, why = f"a result of {record['case']} found", "made from other files"
        else:
            return
        raise ValueError(f"{self.folder}: {found}, {why}; a new or empty folder is accepted, or --overwrite")

    def finish(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Hash what was written, add run.json and put everything in place; returns the whole record."""
        files = sorted(p for p in self.scratch.rglob("*") if p.is_file())
        outputs = {p.relative_to(self.scratch).as_posix(): hash_of(p) for p in files}
        inputs = record.get("inputs", {})
        whole = {**{k: v for k, v in record.items() if k != "inputs"}, "outputs": outputs, "inputs": inputs}
        write_json(whole, self.scratch / RECORD)
        self.scratch.rename(self.folder / COMPLETE)
        _put_in_place(self.folder)
        return whole


@contextmanager
def one_result(folder: Path, source: Path | None = None, overwrite: bool = False) -> Iterator[Place]:
    """A place to write one result to; `finish` puts it there, anything else leaves the folder as it was.
    source: where the case lies. Tried before any work begins.

    Raises:
        ValueError: the place is no folder, lies in the case or around it, holds patients where it would be
            overwritten, or another run writes there.
        OSError: nothing can be written there.
    """
    _refuse_around(folder, source)
    made = _make(folder)
    try:
        with _locked(folder):
            _tidy(folder)
            if overwrite:
                _refuse_patients(folder)
            scratch = folder / WRITING
            scratch.mkdir(PRIVATE)
            try:
                yield Place(folder, scratch, overwrite)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    finally:
        _remove_if_empty(made)


def _refuse_around(folder: Path, source: Path | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file is there; the name of a folder is accepted")
    if source is None:
        return
    here, case = folder.resolve(), source.resolve()
    if here == case or case in here.parents:
        raise ValueError(f"{folder}: lies in the case {source}; a folder outside it is accepted")
    if here in case.parents:
        raise ValueError(f"{folder}: the case {source} lies in it; a folder beside the case is accepted")


def _refuse_patients(folder: Path) -> None:
    """What --overwrite would remove must be no patients and nobody's home."""
    there = _content(folder)
    if not there or read_record(folder) is not None:
        return
    if folder.resolve() in (Path.home(), *Path.home().parents):
        raise ValueError(f"{folder}: is not overwritten; a folder of its own is accepted")
    try:
        name, _ = sources(folder)[0]
    except ValueError:
        return
    raise ValueError(
        f"{folder}: holds the case {name}, which --overwrite would remove; another folder is accepted"
    )


def _make(folder: Path) -> list[Path]:
    """Make the folder and those above it; returns the new ones, lowest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_if_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder for this run alone. The lock goes with its process, however that ends. Raises ValueError if
    another run has it."""
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise ValueError(
                f"{folder}: another run of anydose writes there; wait, or give another folder"
            ) from error
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            break
        os.close(handle)  # its owner removed it between our two calls
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _tidy(folder: Path) -> None:
    """Put in place what a dead run had completed, and remove what it had not."""
    if (folder / COMPLETE).is_dir():
        _put_in_place(folder)
    shutil.rmtree(folder / WRITING, ignore_errors=True)


def _put_in_place(folder: Path) -> None:
    """Replace the folder's content by that of COMPLETE. Any number of attempts, each killed somewhere, end in
    the same state; run.json, which moves last, is in COMPLETE until all the rest is in place."""
    new = folder / COMPLETE
    record = read_record(new)
    if record is not None:
        (folder / RECORD).unlink(missing_ok=True)
        wanted = {name.split("/")[0] for name in record["outputs"]}
        to_come = {path.name for path in new.iterdir()}
        for path in _content(folder):
            if path.name not in wanted or path.name in to_come:
                _remove(path)
        for name in sorted(to_come - {RECORD}):
            (new / name).rename(folder / name)
        (new / RECORD).rename(folder / RECORD)
    shutil.rmtree(new, ignore_errors=True)


def _content(folder: Path) -> list[Path]:
    ours = (LOCK, WRITING, COMPLETE)
    return [path for path in folder.iterdir() if path.name not in ours]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
