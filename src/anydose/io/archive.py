"""Patients in a zip file, whether a person names its path or sends it to a server. A zip is judged by its
table of contents before a byte of it is unpacked, and held to that table while it is unpacked."""

from __future__ import annotations

import shutil
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from anydose.io.files import is_litter

SUFFIX = ".zip"
FOREIGN = "__MACOSX"  # what a Mac adds beside the files
CHUNK = 1 << 20
DEEPEST = 12  # folders above a file
LONGEST_PART = 180  # bytes of one part of a path
ENCRYPTED = 0x1  # bit of a zip member's flags
PORTS = [f"{port}{number}" for port in ("com", "lpt") for number in "123456789"]
WINDOWS_NAMES = frozenset(["con", "prn", "aux", "nul", *PORTS])
Member = tuple[zipfile.ZipInfo, PurePosixPath]


@dataclass(frozen=True)
class Limits:
    """How much a zip may hold."""

    most_bytes: int = 8 * 2**30
    """Unpacked: a CT of 1,000 slices with doses and structures takes 1 GB."""
    most_files: int = 20_000


class TooLarge(ValueError):
    """A zip that holds more than is accepted."""


def is_archive(path: Path) -> bool:
    """True for a file that ends in .zip and is one."""
    return path.suffix.lower() == SUFFIX and path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def unpacked(path: Path, limits: Limits = Limits()) -> Iterator[Path]:
    """What the archive holds, in a folder that is removed afterwards; the innermost folder or file where all
    lies in one. ValueError as of `unpack`, with the path."""
    with tempfile.TemporaryDirectory(prefix="anydose-") as name:
        folder = Path(name)
        try:
            unpack(path, folder, limits)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        yield innermost(folder)


def unpack(file: Path, folder: Path, limits: Limits) -> tuple[int, int]:
    """Unpack a zip into a folder, in which nothing of its files may lie.

    Returns:
        How many files and how many bytes it held.

    Raises:
        TooLarge: more than the limits allow, or than the disk has free.
        ValueError: what `judged` refuses; a file that is no zip, is damaged, or holds more than its table of
            contents says.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = judged(archive, file.stat().st_size, limits)
            size = sum(member.file_size for member, _ in members)
            if members:
                folder.mkdir(parents=True, exist_ok=True)
                _refuse_more(size, shutil.disk_usage(folder).free, "the disk has free")
            for member, path in members:
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, place.open("xb") as target:
                    _copy(source, target, member)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, UnicodeError, RuntimeError) as error:
        raise ValueError(f"no zip that can be unpacked ({' '.join(str(error).split())[:120]})") from error
    return len(members), size


def judged(archive: zipfile.ZipFile, size: int, limits: Limits) -> list[Member]:
    """The files of a zip with their paths, by its table of contents alone.

    Args:
        archive: opened; nothing of it is unpacked here.
        size: bytes of the archive's file.
        limits: what it may hold.

    Raises:
        TooLarge: more or larger files than the limits allow.
        ValueError: files that overlap (as in a bomb), two of one name, a link, a device, a password, or a
            path that `safe_path` refuses.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > limits.most_files:
        raise TooLarge(f"{len(members)} files found, at most {limits.most_files} are accepted")
    _refuse_more(sum(member.file_size for member in members), limits.most_bytes, "are accepted")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("its files overlap; an ordinary zip is accepted")
    found: dict[str, Member] = {}
    for member in members:
        shown = ascii(member.filename[:60])
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ValueError(f"{shown} is a link or a device; files and folders are accepted")
        if member.flag_bits & ENCRYPTED:
            raise ValueError(f"{shown} has a password; a zip without one is accepted")
        path = safe_path(member.filename)
        name = str(path).casefold()  # one file on some systems
        if name in found:
            raise ValueError(f"{shown} stands twice in it; each file once is accepted")
        found[name] = member, path
    return list(found.values())


def safe_path(text: str) -> PurePosixPath:
    """The relative path that a zip or a sender gives a file. Raises ValueError for one that could leave its
    folder, hide, or mean something else on another system."""
    parts = text.split("/")
    shown = ascii(text[:60])
    if not text or text.startswith("/") or "\\" in text or ":" in text:
        raise ValueError(f"path {shown}: a relative path with forward slashes is accepted")
    if len(parts) > DEEPEST:
        raise ValueError(f"path {shown}: {len(parts)} folders deep, at most {DEEPEST} are accepted")
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"path {shown}: no empty part, '.' or '..' is accepted")
        if len(part.encode("utf-8", "replace")) > LONGEST_PART:
            raise ValueError(f"path {shown}: a part longer than {LONGEST_PART} bytes is not accepted")
        if any(unicodedata.category(c)[0] == "C" for c in part) or part != part.strip() or part.endswith("."):
            raise ValueError(f"path {shown}: no control character and no blank or dot at an end is accepted")
        if part.split(".")[0].lower() in WINDOWS_NAMES:
            raise ValueError(f"path {shown}: the name of a device is not accepted")
    return PurePosixPath(*parts)


def _refuse_more(size: int, most: int, which: str) -> None:
    if size > most:
        raise TooLarge(f"{size / 1e9:.1f} GB once unpacked; {most / 1e9:.1f} GB {which}")


def _copy(source: IO[bytes], target: IO[bytes], member: zipfile.ZipInfo) -> None:
    written = 0
    while chunk := source.read(CHUNK):
        written += len(chunk)
        if written > member.file_size:
            raise ValueError(f"{ascii(member.filename[:60])} is longer than the zip says")
        target.write(chunk)


def innermost(folder: Path) -> Path:
    """Where the one case in a folder lies: down to where there is more than one thing, or to the one file
    that is a case. What desktops leave beside files does not count."""
    while folder.is_dir():
        inside = [p for p in folder.iterdir() if not is_litter(p) and p.name != FOREIGN]
        if len(inside) != 1:
            break
        if inside[0].is_file() and inside[0].suffix.lower() not in (".npz",):
            break  # the one file of a case that is a folder
        folder = inside[0]
    return folder
