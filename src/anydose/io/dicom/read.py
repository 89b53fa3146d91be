"""A clinic's folder as a case: the CT, its structure set and, where there are, plan and dose of one study.

What belongs together is told by references and frame of reference, never by file names. Where several objects
fit, the choice is the user's: the refusal lists them and `series` takes their UIDs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anydose.case.beams import PATIENT_FROM_TABLE
from anydose.case.case import Case, Prescription
from anydose.case.volume import Volume
from anydose.io.dicom import files as dicom_files
from anydose.io.dicom.acquisition import one_acquisition
from anydose.io.dicom.contours import Mask
from anydose.io.dicom.ct import read_ct
from anydose.io.dicom.dose import read_rtdose
from anydose.io.dicom.edges import edges
from anydose.io.dicom.files import Found, items, naming, scan, text
from anydose.io.dicom.marks import PREDICTED
from anydose.io.dicom.plan import Plan, read_plan
from anydose.io.dicom.source import DicomSource
from anydose.io.dicom.struct import Roi, masks, read_rois
from anydose.io.plausible import check_beams, on_case

STUDY = (  # what a dose of the same study repeats
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "PositionReferenceIndicator",
)


def read_case(folder: Path, series: Sequence[str] = (), fill_gaps: bool = False) -> Case:
    """The case of a DICOM folder on the CT's grid. series: SeriesInstanceUIDs or SOPInstanceUIDs that settle
    which of several objects to take. Beams and prescription come from the RTPLAN if there is one. ValueError
    with one sentence (file, found, accepted) for anything missing, ambiguous or off the CT's frame of
    reference."""
    with naming(folder):
        return _read(folder, series, fill_gaps)


def _read(folder: Path, series: Sequence[str], fill_gaps: bool) -> Case:
    found = scan(folder)
    _check_known(found, series, folder)
    struct = _choose(_wanted(found, dicom_files.RTSTRUCT, series), "RTSTRUCT", folder)
    chosen: list[str] = []
    slices = _choose_ct(found, struct, series, folder, chosen)
    frame_uid = _frame_uid(slices)
    rois = _rois_in_frame(read_rois(struct.path), struct, frame_uid)
    ct, said = read_ct(slices, fill_gaps)
    said = [*(sentence for f in found for sentence in f.said), *chosen, *said]
    with naming(struct.path):
        structures, more = masks(rois, ct.grid)
        if not structures:
            raise ValueError("no structure with a voxel in the CT; at least one is needed")
    plan = _plan(found, struct, series, folder, frame_uid)
    dose = _dose(found, plan, series, folder, frame_uid, said)
    position = _position(slices[0], plan, said)
    levels, rest = _levels(plan, rois, structures)
    if plan:
        check_beams(plan[1].beams, ct.grid, str(plan[0].path))
    case = Case(
        name=folder.resolve().name,
        grid=ct.grid,
        structures=structures,
        prescription=Prescription(levels, plan[1].fractions if plan else None),
        beams=plan[1].beams if plan else (),
        ct=ct,
        patient_position=position,
        inferred=(*said, *more, *(plan[1].said if plan else ()), *rest),
        source=_source(slices[0], struct, plan and plan[0], rois, dose),
        edges=edges(rois, structures, ct.grid),
    )
    return case if dose is None else replace(case, dose=on_case(dose, case, f"{folder}: RTDOSE"))


def _check_known(found: Sequence[Found], series: Sequence[str], folder: Path) -> None:
    known = {uid for f in found for uid in (f.series, f.uid)}
    for uid in series:
        if uid not in known:
            raise ValueError(f"{folder}: --series {uid} is not there; found are {_listing(found)}")


def _wanted(found: Sequence[Found], sop_class: str, series: Sequence[str]) -> list[Found]:
    """The objects of one class, only those the user named if he named any of them."""
    of_class = [f for f in found if text(f.header, "SOPClassUID") == sop_class]
    named = [f for f in of_class if f.series in series or f.uid in series]
    return named or of_class


def _choose(candidates: Sequence[Found], what: str, folder: Path) -> Found:
    distinct: list[Found] = []
    for f in candidates:
        if not any(f.header == other.header for other in distinct):  # the same object stored twice is one
            distinct.append(f)
    if len(distinct) != 1:
        listing = _listing(distinct, one_by_one=True) or "none"
        hint = "choose one with --series" if distinct else "a CT with an RTSTRUCT is accepted"
        raise ValueError(f"{folder}: {len(distinct)} {what} objects found ({listing}); {hint}")
    return distinct[0]


def _listing(found: Sequence[Found], one_by_one: bool = False) -> str:
    """Modality and UID of each series, or of each object."""
    groups: dict[tuple[str, str], int] = {}
    for f in found:
        key = text(f.header, "Modality", needed=False), f.uid if one_by_one else f.series
        groups[key] = groups.get(key, 0) + 1
    return ", ".join(f"{kind} {uid} ({n} object{'s' * (n > 1)})" for (kind, uid), n in groups.items())


def _choose_ct(
    found: Sequence[Found], struct: Found, series: Sequence[str], folder: Path, said: list[str]
) -> list[Found]:
    """The slices of the one CT series that the structure set was drawn on."""
    for f in found:
        if (name := dicom_files.REFUSED.get(text(f.header, "SOPClassUID"))) and not series:
            raise ValueError(f"{f.path}: {name}; single-slice CT and photon plans are accepted")
    stacks: dict[tuple[str, ...], list[Found]] = {}
    for f in _wanted(found, dicom_files.CT, series):
        if "LOCALIZER" not in (f.header.get("ImageType") or ()):
            with naming(f.path):
                turn = tuple(f"{v:.3f}" for v in dicom_files.axes(f.header).ravel() + 0.0)
            stacks.setdefault(
                (f.series, text(f.header, "FrameOfReferenceUID", needed=False), *turn), []
            ).append(f)
    drawn_on = _referenced_series(struct)
    fitting = [stack for key, stack in stacks.items() if key[0] in drawn_on] or list(stacks.values())
    if len(fitting) != 1:
        raise ValueError(f"{folder}: {len(fitting)} CT series found ({_stacks(stacks)})")
    return one_acquisition(fitting[0], struct, said)


def _stacks(stacks: Mapping[tuple[str, ...], Sequence[Found]]) -> str:
    """The stacks as the user can tell them apart; one series in two frames or orientations has a file that
    does not belong there."""
    if not stacks:
        return "none; a CT with an RTSTRUCT is accepted"
    series = {key[0] for key in stacks}
    if len(series) == len(stacks):
        return f"{_listing([f for stack in stacks.values() for f in stack])}; choose one with --series"
    odd = min(stacks.values(), key=len)
    return (
        f"series {odd[0].series} in {len(stacks)} frames of reference or orientations; {odd[0].path.name} "
        f"and {len(odd) - 1} more differ from the rest"
    )


def _referenced_series(struct: Found) -> set[str]:
    with naming(struct.path):
        return {
            text(image, "SeriesInstanceUID", needed=False)
            for frame in items(struct.header, "ReferencedFrameOfReferenceSequence")
            for study in items(frame, "RTReferencedStudySequence")
            for image in items(study, "RTReferencedSeriesSequence")
        }


def _frame_uid(slices: Sequence[Found]) -> str:
    with naming(slices[0].path):
        return text(slices[0].header, "FrameOfReferenceUID")


def _rois_in_frame(rois: list[Roi], struct: Found, frame_uid: str) -> list[Roi]:
    """The ROIs, all of them in the CT's frame of reference; ValueError if one states another or none is
    stated."""
    own = text(struct.header, "FrameOfReferenceUID", needed=False)
    listed = {
        text(item, "FrameOfReferenceUID", needed=False)
        for item in items(struct.header, "ReferencedFrameOfReferenceSequence")
    }
    own = own or (listed.pop() if len(listed) == 1 else "")
    for roi in rois:
        stated = roi.frame_uid or own
        if stated != frame_uid:
            raise ValueError(
                f"{struct.path}: structure {roi.name} lies in frame of reference {stated or '(not stated)'}; "
                f"that of the CT, {frame_uid}, is accepted"
            )
    if not rois:
        raise ValueError(f"{struct.path}: no structure found; at least one is needed")
    return rois


def _plan(
    found: Sequence[Found], struct: Found, series: Sequence[str], folder: Path, frame_uid: str
) -> tuple[Found, Plan] | None:
    """The plan made on the structure set: those that refer to it go before those that refer to none."""
    candidates = _wanted(found, dicom_files.RTPLAN, series)
    fitting = [f for f in candidates if struct.uid in _references(f, "ReferencedStructureSetSequence")]
    fitting = fitting or [f for f in candidates if not _references(f, "ReferencedStructureSetSequence")]
    if not candidates:
        return None
    if not fitting:
        raise ValueError(
            f"{candidates[0].path}: a plan on another structure set; one on {struct.path.name} is accepted"
        )
    chosen = _choose(fitting, "RTPLAN", folder)
    stated = text(chosen.header, "FrameOfReferenceUID", needed=False)
    if stated not in ("", frame_uid):
        raise ValueError(
            f"{chosen.path}: frame of reference {stated}; that of the CT, {frame_uid}, is accepted"
        )
    return chosen, read_plan(chosen.path)


def _dose(
    found: Sequence[Found],
    plan: tuple[Found, Plan] | None,
    series: Sequence[str],
    folder: Path,
    frame_uid: str,
    said: list[str],
) -> Volume | None:
    """The reference dose: of the plan, if there is one. Doses that we predicted, of single beams and of other
    plans are none; `said` gets a sentence on them."""
    doses = _wanted(found, dicom_files.RTDOSE, series)
    candidates = [
        f
        for f in doses
        if f.header.get("DoseSummationType") not in ("BEAM", "CONTROL_POINT", "FRACTION", "BEAM_SESSION")
        and (f.header.get("SeriesDescription") != PREDICTED or f.series in series)
    ]
    if plan:
        own = [f for f in candidates if plan[0].uid in _references(f, "ReferencedRTPlanSequence")]
        candidates = own or [f for f in candidates if not _references(f, "ReferencedRTPlanSequence")]
    if len(candidates) < len(doses):
        passed = len(doses) - len(candidates)
        said.append(f"dose: {passed} RTDOSE predicted, of single beams or of another plan passed over")
    if not candidates:
        return None
    return read_rtdose(_choose(candidates, "RTDOSE", folder).path, frame_uid)


def _references(f: Found, keyword: str) -> set[str]:
    with naming(f.path):
        return {text(item, "ReferencedSOPInstanceUID") for item in items(f.header, keyword)}


def _position(ct: Found, plan: tuple[Found, Plan] | None, said: list[str]) -> str:
    """DICOM's patient position, of the plan before the CT; ValueError where it is absent or unknown."""
    with naming(ct.path):
        of_ct = text(ct.header, "PatientPosition", needed=False)
        position = (plan[1].patient_position if plan else "") or of_ct
        if position not in PATIENT_FROM_TABLE:
            raise ValueError(
                f"PatientPosition {position!r}; one of {', '.join(PATIENT_FROM_TABLE)} is accepted"
            )
    if of_ct not in ("", position):
        said.append(f"patient position: {position} of the plan; the CT was taken {of_ct}")
    return position


def _levels(
    plan: tuple[Found, Plan] | None, rois: list[Roi], structures: dict[str, Mask]
) -> tuple[dict[str, float], list[str]]:
    """The plan's prescription by structure name, without structures that have no mask."""
    by_number = {roi.number: roi.name for roi in rois}
    levels, said = {}, []
    for roi, dose in (plan[1].levels_gy if plan else {}).items():
        name = by_number.get(roi, "")
        if name in structures:
            levels[name] = dose
        else:
            said.append(f"prescription: the plan's {dose:g} Gy is for ROI {roi} {name}, which has no mask")
    return levels, said


def _source(
    ct: Found, struct: Found, plan: Found | None, rois: list[Roi], dose: Volume | None
) -> DicomSource:
    """What a writer needs to put a dose beside these objects."""
    return DicomSource(
        frame_of_reference_uid=text(ct.header, "FrameOfReferenceUID"),
        structure_types={roi.name: roi.kind for roi in rois if roi.kind},
        structure_codes={roi.name: roi.code for roi in rois if roi.code},
        study={keyword: ct.header[keyword].value for keyword in STUDY if keyword in ct.header},
        struct_uid=struct.uid,
        plan_uid=plan.uid if plan else None,
        roi_numbers={roi.name: roi.number for roi in rois},
        dose_grid=dose.grid if dose else None,
    )
