"""Patients in a zip file: judged by its table of contents, unpacked in a folder of its own, read, removed."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from anydose.io.files import is_litter

SUFFIX = ".zip"
MOST_BYTES = 8 * 2**30
"""Unpacked: a CT of 1,000 slices with doses and structures takes 1 GB."""
MOST_FILES = 20_000
FOREIGN = "__MACOSX"  # what a Mac adds beside the files


def is_archive(path: Path) -> bool:
    """True for a file that ends in .zip and is one."""
    return path.suffix.lower() == SUFFIX and path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """What the archive holds, in a folder that is removed afterwards; the innermost folder or file where all
    lies in one. Raises ValueError before anything is unpacked: more than 8 GB or 20,000 files, more than the
    disk holds, a name that leaves the folder or stands twice, a link, or a password."""
    with tempfile.TemporaryDirectory(prefix="anydose-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                _judge(members, path, shutil.disk_usage(folder).free)
                for member in members:
                    archive.extract(member, folder)  # stops at the size that the member states
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise ValueError(f"{path}: no zip file that can be read ({error})") from error
        yield _innermost(folder)


def _judge(members: list[zipfile.ZipInfo], path: Path, free: int) -> None:
    size = sum(member.file_size for member in members)
    if size > min(MOST_BYTES, free) or len(members) > MOST_FILES:
        raise ValueError(
            f"{path}: {size / 1e9:.1f} GB in {len(members)} files once unpacked; "
            f"{min(MOST_BYTES, free) / 1e9:.1f} GB in {MOST_FILES} files are accepted"
        )
    seen: set[str] = set()
    for member in members:
        name = member.filename.casefold()
        if _leaves(member.filename):
            raise ValueError(f"{path}: {member.filename!r} would leave the folder; it is not unpacked")
        if name in seen:
            raise ValueError(f"{path}: {member.filename!r} stands twice in it; each file once is accepted")
        seen.add(name)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{path}: {member.filename!r} is a link; files and folders are accepted")
        if member.flag_bits & 1:
            raise ValueError(f"{path}: {member.filename!r} has a password; one without is accepted")


def _leaves(name: str) -> bool:
    """Whether a name could lie elsewhere, on this system or another."""
    windows = PureWindowsPath(name)
    parts = {*PurePosixPath(name).parts, *windows.parts}
    return ".." in parts or name.startswith(("/", "\\")) or bool(windows.drive) or "\0" in name


def _innermost(folder: Path) -> Path:
    """Down to where there is more than one thing, or to the one file."""
    while folder.is_dir():
        inside = [p for p in folder.iterdir() if not is_litter(p) and p.name != FOREIGN]
        if len(inside) != 1:
            break
        if inside[0].is_file() and inside[0].suffix.lower() not in (".npz",):
            break  # the one file of a case that is a folder
        folder = inside[0]
    return folder
