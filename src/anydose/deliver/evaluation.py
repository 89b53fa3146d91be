"""What an evaluation leaves in its folder: tables, the summary and a page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from anydose.io.files import whole, write_json
from anydose.score.cohort_scores import Evaluation, write_table
from anydose.score.report.cohort import cohort_page


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[str]:
    """Write scores.csv, scores.parquet where pandas and pyarrow are installed, summary.json and report.html,
    each by atomic rename; returns their names. Raises ValueError for an evaluation without a case."""
    names = ["scores.csv"]
    if find_spec("pandas") and find_spec("pyarrow"):
        names.append("scores.parquet")
    for name in names:
        with whole(folder / name) as scratch:
            write_table(evaluation, scratch)
    write_json(evaluation.to_json(), folder / "summary.json")
    with whole(folder / "report.html") as scratch:
        scratch.write_text(cohort_page(evaluation), encoding="utf-8")
    return [*names, "summary.json", "report.html"]
