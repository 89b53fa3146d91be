"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600
"""Permissions of a file while it is written; whole, it has the usual ones."""


def _usual_permissions() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


USUAL = _usual_permissions()  # once: the mask belongs to the process, and asking for it changes it


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` (same suffixes) to write to; on leaving it is renamed to `path`, on an
    exception it is deleted. The folder is created. Scratch files of the same name that dead processes of this
    machine left are removed. Only this user can read a scratch file. OSError names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(path)
    scratch = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE))
        yield scratch
        scratch.chmod(USUAL)
        scratch.replace(path)
    except OSError as error:
        if error.filename not in (None, str(scratch)):
            raise
        why = (error.errno or errno.EIO, error.strerror or f"cannot be written ({error})")
        raise OSError(*why, str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    for left in path.parent.glob(f".*.{glob.escape(path.name)}"):
        owner = left.name.removeprefix(".").removesuffix(f".{path.name}")
        if owner.isdigit() and not is_alive(int(owner)):
            left.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """True if a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
