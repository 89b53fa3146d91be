"""One way in: what lies at a path decides which reader opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io import plan_options
from anydose.io.format import ReadOptions
from anydose.io.formats import format_of, format_of_dose


def read_case(
    path: str | Path,
    *,
    series: Sequence[str] = (),
    beams: str | None = None,
    rx: Sequence[str] = (),
    fill_gaps: bool = False,
) -> Case:
    """The case at `path`, whatever its format. series: SeriesInstanceUIDs to use where a DICOM folder holds
    several; beams: '9' or '0,40,80'; rx: 'NAME=GY' texts, replacing what the source states; fill_gaps:
    interpolate one or two missing CT slices. What was inferred stands in Case.inferred. ValueError with one
    sentence (file, found, accepted) for anything that is not exactly one case."""
    path = Path(path)
    case = format_of(path).read_case(path, ReadOptions(tuple(series), fill_gaps))
    case = plan_options.with_prescription(case, rx) if rx else plan_options.from_names(case)
    return plan_options.with_beams(case, beams) if beams else case


def read_dose(path: str | Path, case: Case) -> Volume:
    """The dose at `path` in Gy on the grid of `case`: a dose file of any format (an OpenKBP .csv, NIfTI, an
    RTDOSE, a GDP-HMM prediction .npy), or the dose of the case in a folder. ValueError if it is none of these
    or, for a format that states it, lies in another frame of reference."""
    path = Path(path)
    if path.is_dir() or path.suffix == ".npz":
        dose = read_case(path).dose
        if dose is None:
            raise ValueError(f"{path}: no dose found in this case; a dose file is accepted too")
    else:
        dose = format_of_dose(path).read_dose(path, case)
    return dose.resample(case.grid)
