"""Figures that slow tests measure, kept in a page where ANYDOSE_FIGURES names one: a row each."""

from __future__ import annotations

import os
from pathlib import Path


def kept(what: str, figure: str) -> None:
    """Put the row `| what | figure |` into the page, in the place of the last one of that name."""
    page = os.environ.get("ANYDOSE_FIGURES")
    if not page:
        return
    path = Path(page)
    rows = path.read_text(encoding="utf-8").splitlines()
    there = [k for k, row in enumerate(rows) if row.startswith(f"| {what} |")]
    new = f"| {what} | {figure.replace('|', '/')} |"
    if there:
        rows[there[0]] = new
    else:
        rows.append(new)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
