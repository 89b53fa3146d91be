"""What a browser or a script may hand in: how much of it, under which names, and whether a zip is one.

A zip is judged by its table of contents before a byte of it is unpacked, and held to that table while it is
unpacked."""

from __future__ import annotations

import stat
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

CHUNK = 1 << 20
DEEPEST = 12  # folders above a file
LONGEST_PART = 180  # bytes of one part of a path
ENCRYPTED = 0x1  # bit of a zip member's flags
PORTS = [f"{port}{number}" for port in ("com", "lpt") for number in "123456789"]
WINDOWS_NAMES = frozenset(["con", "prn", "aux", "nul", *PORTS])
Member = tuple[zipfile.ZipInfo, PurePosixPath]


class Refused(ValueError):
    """An upload that is not accepted: one sentence, and the HTTP status that says it best."""

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """How much one patient may be."""

    max_bytes: int = 2_000_000_000
    """Of everything that is sent for one patient."""
    max_files: int = 5000
    """Sent or unpacked, of one patient."""
    max_unpacked_bytes: int = 4_000_000_000
    """Of everything in a zip, by its own table of contents."""
    max_patients: int = 200
    """Kept at a time; the oldest one without a job makes room."""
    max_active: int = 100
    """Jobs waiting or running at a time."""
    least_bytes_per_s: int = 10_000
    """A sender slower than this, averaged over `patience_s`, is cut off."""
    patience_s: float = 20.0
    """How long nothing, or too little, may come."""


def safe_path(text: str) -> PurePosixPath:
    """The relative path that a sender gives a file. Raises Refused for one that could leave its folder, hide,
    or mean something else on another system."""
    parts = text.split("/")
    shown = ascii(text[:60])
    if not text or text.startswith("/") or "\\" in text or ":" in text:
        raise Refused(f"path {shown}: a relative path with forward slashes is accepted")
    if len(parts) > DEEPEST:
        raise Refused(f"path {shown}: {len(parts)} folders deep, at most {DEEPEST} are accepted")
    for part in parts:
        if part in ("", ".", "..") or part.startswith(".anydose"):
            raise Refused(f"path {shown}: no empty part, '.' or '..' is accepted")
        if len(part.encode("utf-8", "replace")) > LONGEST_PART:
            raise Refused(f"path {shown}: a part longer than {LONGEST_PART} bytes is not accepted")
        if any(unicodedata.category(c)[0] == "C" for c in part) or part != part.strip() or part.endswith("."):
            raise Refused(f"path {shown}: no control character and no blank or dot at an end is accepted")
        if part.split(".")[0].lower() in WINDOWS_NAMES:
            raise Refused(f"path {shown}: the name of a device is not accepted")
    return PurePosixPath(*parts)


def judged(archive: zipfile.ZipFile, size: int, limits: Limits) -> list[Member]:
    """The files of a zip with their paths, by its table of contents alone.

    Args:
        archive: opened; nothing of it is unpacked here.
        size: bytes of the archive's file.
        limits: what one patient may be.

    Raises:
        Refused: more or larger files than the limits allow, files that overlap (as in a bomb), two of one
            name, a link, a device, an encrypted file, or a path that `safe_path` refuses.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > limits.max_files:
        raise Refused(f"zip: {len(members)} files found, at most {limits.max_files} are accepted", 413)
    unpacked = sum(member.file_size for member in members)
    if unpacked > limits.max_unpacked_bytes:
        raise Refused(
            f"zip: {unpacked / 1e9:.1f} GB unpacked, at most {limits.max_unpacked_bytes / 1e9:g} is accepted",
            413,
        )
    if sum(member.compress_size for member in members) > size:
        raise Refused("zip: its files overlap; an ordinary zip is accepted")
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Refused(f"zip: {ascii(member.filename[:60])} is a link or a device; files are accepted")
        if member.flag_bits & ENCRYPTED:
            raise Refused("zip: encrypted; a zip without a password is accepted")
        path = safe_path(member.filename)
        if path in found:
            raise Refused(f"zip: two files of the name {ascii(str(path)[:60])}; one is accepted")
        found[path] = member
    return [(member, path) for path, member in found.items()]


def unpack(file: Path, folder: Path, limits: Limits) -> int:
    """Unpack a zip into a new folder; returns the number of its files. Raises Refused as `judged` does, and
    for a file that is no zip, is damaged, or holds more than its table of contents says."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = judged(archive, file.stat().st_size, limits)
            for member, path in members:
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, place.open("xb") as target:
                    _copy(source, target, member)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, UnicodeError, RuntimeError) as error:
        raise Refused(f"zip: cannot be unpacked ({' '.join(str(error).split())[:120]})") from error
    return len(members)


def _copy(source: IO[bytes], target: IO[bytes], member: zipfile.ZipInfo) -> None:
    written = 0
    while chunk := source.read(CHUNK):
        written += len(chunk)
        if written > member.file_size:
            raise Refused(f"zip: {ascii(member.filename[:60])} is longer than the zip says")
        target.write(chunk)
