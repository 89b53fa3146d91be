"""What a browser or a script may hand in: how much of it, and under which names. `io.archive` judges zips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anydose.io import archive


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
    """Of everything in the zips of one patient, by their own tables of contents."""
    max_patients: int = 200
    """Kept at a time; the oldest one without a job makes room."""
    max_active: int = 100
    """Jobs waiting or running at a time."""
    least_bytes_per_s: int = 10_000
    """A sender slower than this, averaged over `patience_s`, is cut off."""
    patience_s: float = 20.0
    """How long nothing, or too little, may come."""


def safe_path(text: str) -> PurePosixPath:
    """The relative path that a sender gives a file. Raises Refused as `archive.safe_path` does."""
    try:
        return archive.safe_path(text)
    except ValueError as error:
        raise Refused(str(error)) from error


def unpack_all(folder: Path, limits: Limits) -> None:
    """Put the content of every zip in a folder into a folder beside it, and remove the zip; a zip in a zip
    stays. Raises Refused for one that is not accepted, and for more than the limits allow together."""
    files, size = 0, 0
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() == archive.SUFFIX):
        if not file.is_file():
            continue
        left = archive.Limits(limits.max_unpacked_bytes - size, limits.max_files - files)
        try:
            more = archive.unpack(file, folder / file.stem.strip(" ."), left)
        except archive.TooLarge as error:
            raise Refused(f"zip: {error}", 413) from error
        except ValueError as error:
            raise Refused(f"zip: {error}") from error
        files, size = files + more[0], size + more[1]
        file.unlink()
