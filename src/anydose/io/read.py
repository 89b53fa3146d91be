"""One way in: what lies at a path decides which reader opens it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anydose.case.case import Case
from anydose.case.names import NameMap, apply_names
from anydose.case.volume import Volume
from anydose.io import plan_options, plausible, run_folder
from anydose.io.files import ONE_FILE, case_place
from anydose.io.format import ReadOptions
from anydose.io.formats import format_of, format_of_dose, table
from anydose.io.plausible import DoseReading

log = logging.getLogger(__name__)


def read_case(
    path: str | Path,
    *,
    series: Sequence[str] = (),
    beams: str | None = None,
    rx: Sequence[str] = (),
    fill_gaps: bool = False,
    dose_unit: str = "Gy",
    allow_dose_above: float | None = None,
    names: NameMap | None = None,
) -> Case:
    """The case at `path`, whatever its format; its dose is not a number beyond the dose's own grid.

    Args:
        path: a file or folder in any format of formats.py.
        series: SeriesInstanceUIDs to use where a DICOM folder holds several.
        beams: '9' or '0,40,80'.
        rx: 'NAME=GY' texts, replacing what the source states.
        fill_gaps: interpolate one or two missing CT slices.
        dose_unit: 'Gy' or 'cGy', for a dose whose file states no unit.
        allow_dose_above: in Gy; None refuses doses beyond 3 times the highest prescription.
        names: what structures are, above what their names say.

    What was inferred stands in Case.inferred. Raises ValueError with one sentence (file, found, accepted) for
    anything that is not exactly one case, and for numbers that no patient has; what is hardly ever so is a
    sentence too.
    """
    path, reading = case_place(Path(path)), DoseReading(dose_unit, allow_dose_above)
    row = format_of(path)
    case = row.read_case(path, ReadOptions(tuple(series), fill_gaps))
    row = table().get(case.source.format, row)  # of what lies in an archive
    case = apply_names(case, names) if names is not None else case
    case = plan_options.with_prescription(case, rx) if rx else plan_options.from_names(case)
    case = plan_options.with_beams(case, beams) if beams else case
    plausible.check_grid(case.grid, str(path))
    plausible.check_beams(case.beams, case.grid, str(path))
    if case.ct is not None:
        plausible.check_ct(case.ct, str(path))
    if case.dose is not None:
        dose = case.dose if row.states_dose_unit else plausible.in_gy(case.dose, reading)
        case = replace(case, dose=dose)
        plausible.check_dose(dose, case.prescription, reading, str(path))
    said = (*case.inferred, *plausible.covered_in_part(case), *plausible.suspicious(case))
    return replace(case, inferred=tuple(dict.fromkeys(said)))  # a stored case tells some of it itself


def read_dose(
    path: str | Path, case: Case, *, unit: str = "Gy", allow_above_gy: float | None = None
) -> Volume:
    """The dose at `path` in Gy on the grid of `case`, not a number beyond the dose's own grid.

    Args:
        path: a dose file of any format (an OpenKBP .csv, NIfTI, an RTDOSE, a GDP-HMM prediction .npy), the
            folder of a prediction, or a case that has a dose.
        case: the patient.
        unit: 'Gy' or 'cGy', for a file that states no unit.
        allow_above_gy: None refuses doses beyond 3 times the highest prescription of the case.

    A dose that does not look like one of the prescription is said by the library's log. Raises ValueError
    if it is none of these, lies in another frame of reference or beside the case, is
    negative or not finite, or beyond what its prescription allows.
    """
    path, reading = Path(path), DoseReading(unit, allow_above_gy)
    if run_folder.is_result(path):
        path = run_folder.dose_file(path)
    if path.is_dir() or path.suffix.lower() in ONE_FILE:
        given = read_case(path, dose_unit=unit, allow_dose_above=allow_above_gy)
        if given.dose is None:
            raise ValueError(f"{path}: no dose found in this case; a dose file is accepted too")
        frames = {given.source.frame_of_reference_uid, case.source.frame_of_reference_uid} - {None}
        if len(frames) > 1:
            raise ValueError(
                f"{path}: a dose in another frame of reference than {case.name}; its own is accepted"
            )
        dose = given.dose
    else:
        row = format_of_dose(path)
        dose = row.read_dose(path, case)
        dose = dose if row.states_dose_unit else plausible.in_gy(dose, reading)
        if np.isnan(dose.array).any():
            raise ValueError(f"{path}: a dose with values that are not a number; finite ones are accepted")
    plausible.check_dose(dose, case.prescription, reading, str(path))
    moved = plausible.on_case(dose, case, str(path))
    for sentence in plausible.unusual_dose(moved, case):
        log.warning("%s: %s", path, sentence)
    return moved
