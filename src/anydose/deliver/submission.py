"""The file that a challenge takes: the doses of a whole cohort, as it wants them, in one zip."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from anydose.deliver.cohort import Outcome
from anydose.io.files import whole
from anydose.io.formats import table

DATE = (1980, 1, 1, 0, 0, 0)  # equal predictions make equal zips


def write_submission(outcomes: Sequence[Outcome], folder: Path, path: Path) -> list[str]:
    """Write every case's dose in its challenge's own form (GDP-HMM: PLAN_pred.npy, OpenKBP: pt_N.csv) into
    one zip, without folders; returns the names in it.

    Args:
        outcomes: what became of the cases, as `predict_cohort` returns it.
        folder: where it left them.
        path: the zip; it appears whole or not at all.

    Raises:
        ValueError: a case failed, or came in a form that no challenge takes.
    """
    failed = [outcome.case for outcome in outcomes if outcome.state == "failed"]
    if failed:
        raise ValueError(f"{path}: {len(failed)} cases failed ({failed[0]}, ...), which it would lack")
    files = [_dose_of(outcome, folder) for outcome in outcomes]
    with whole(path) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name, DATE), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return [file.name for file in files]


def _dose_of(outcome: Outcome, folder: Path) -> Path:
    """The dose file of one case. ValueError if it has none in a challenge's form."""
    patterns = {row.submission for row in table().values() if row.submission}
    names = [pattern.format(name=outcome.record["case"]) for pattern in sorted(patterns)]
    for name in names:
        if name in outcome.record["outputs"]:
            return folder / outcome.case / name
    raise ValueError(
        f"{outcome.case}: no {' or '.join(names)} among what was written; plans in a challenge's own form "
        "are needed, not a cohort store"
    )
