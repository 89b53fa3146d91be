"""Rows that take hours to make: kept in a file as they come, never made again, and shown on a page beside
it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from anydose.bench.registry import Row
from anydose.io.files import whole


def kept_rows(file: Path, shared: Row) -> list[Row]:
    """The rows in `file`; none where there is no file. ValueError for rows that were made in another way than
    `shared` says."""
    rows: list[Row] = json.loads(file.read_text()) if file.is_file() else []
    for row in rows:
        for name, asked in shared.items():
            if row.get(name) != asked:
                found = f"rows made with {name} {row.get(name)!r}"
                raise ValueError(f"{file}: holds {found}, {asked!r} asked; another file is needed")
    return rows


def write_page(file: Path, page: str, draw: Callable[[Path], object] | None = None) -> None:
    """Write the Markdown page beside the rows' file, and by `draw` its picture."""
    with whole(file.with_suffix(".md")) as scratch:
        scratch.write_text(page)
    if draw is not None:
        with whole(file.with_suffix(".png")) as scratch:
            draw(scratch)
