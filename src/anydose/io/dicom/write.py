"""A dose as RTDOSE beside the study it belongs to, and a whole case as a DICOM-RT study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid

from anydose.case.case import Case, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume, bounding_box
from anydose.io.dicom import files as dicom_files
from anydose.io.dicom import objects as dicom_objects
from anydose.io.dicom.dvh import add_dvhs
from anydose.io.dicom.marks import COMMENT, PREDICTED, mark, mark_ct, mark_structures
from anydose.io.dicom.objects import Identity
from anydose.io.dicom.source import dicom_source
from anydose.io.files import whole
from anydose.io.format import Beside, Generated
from anydose.io.plausible import known_part

MARGIN = 4  # voxels
MOST_VOXELS = 48_000_000  # 192 MB at 32 bits
FRAME_OFFSETS = 0x3004000C


def dose_grid(case: Case, text: str = "") -> Grid:
    """The grid a predicted dose is written on.

    Args:
        case: whose CT grid and body are meant.
        text: 'ct' (the whole CT's grid), 'reference' (that of the plan's RTDOSE), a spacing in mm ('2.5'), or
            '' for the reference's where there is one, else the CT's own voxels about all structures.

    Returns:
        By default voxels that coincide with the case's, so that interpolation changes no dose: a spacing of
        2.5 mm on a CT of 1.25 mm costs up to 0.5 Gy of a target's D99%. In boxes of more than MOST_VOXELS
        voxels every second one in the plane, or every third, still on voxel centres of the CT.

    Raises:
        ValueError: for any other text.
    """
    reference = dicom_source(case).dose_grid
    if text == "ct":
        return case.grid
    if text == "reference" or (not text and reference):
        if reference is None:
            raise ValueError(
                f"{case.name}: no reference RTDOSE whose grid could be taken; 'ct' or mm is accepted"
            )
        return reference
    if not text:
        return _about_patient(case)
    try:
        spacing = float(text)
    except ValueError:
        spacing = 0.0
    if not 0.5 <= spacing <= 20:
        raise ValueError(f"dose grid {text!r}; 'ct', 'reference' or a spacing from 0.5 to 20 mm is accepted")
    return case.grid.with_spacing((spacing, spacing, spacing))


def _about_patient(case: Case) -> Grid:
    """The case's voxels in the box of its structures and MARGIN more on each side, or every k-th of them."""
    there = np.zeros(case.grid.shape, dtype=bool)
    for mask in case.structures.values():
        there |= mask
    if not there.any():
        return case.grid
    start, shape = bounding_box(there)
    low = np.maximum(np.array(start) - MARGIN, 0)
    high = np.minimum(np.array(start) + np.array(shape) + MARGIN, case.grid.shape)
    box = case.grid.crop(low, high - low)
    every = int(np.ceil(np.sqrt(np.prod(box.shape) / MOST_VOXELS)))
    if every == 1:
        return box
    _, rows, columns = box.shape
    skipped = [((count - 1) % every) // 2 for count in (rows, columns)]  # what is left over, shared out
    d, h, w = box.shape[0], (rows - 1) // every + 1, (columns - 1) // every + 1
    x, y, z = box.spacing_mm
    return replace(box.crop((0, *skipped), (d, h, w)), spacing_mm=(x * every, y * every, z))


def write_rtdose(
    dose: Volume,
    case: Case,
    path: Path,
    *,
    bits: int = 32,
    beside: Beside | None = None,
    anonymize: bool = False,
    placeholder_plan: bool = False,
) -> None:
    """Write a predicted dose in Gy on its own grid as RTDOSE, in the frame of reference of the case and with
    new UIDs. It is a PLAN_OVERVIEW, or with `placeholder_plan` the dose of a beamless RTPLAN written beside
    it as `<stem>_plan.dcm`; it never stands for the dose of the clinic's own plan. bits: 16 or 32;
    beside: model and DVHs. ValueError for a dose that is negative, not finite or above 1000 Gy."""
    who, study, beside = dicom_objects.identity(case, anonymize), dicom_source(case), beside or Beside()
    struct_uid = study.struct_uid
    if anonymize and struct_uid:
        struct_uid = dicom_objects.anonymous_uid(struct_uid)
    out = _dose(who, dose, PREDICTED, bits)
    out.DoseComment = COMMENT
    mark(out, beside.model, beside.sha256)
    add_dvhs(out, beside.dvhs, struct_uid, study.roi_numbers)
    if placeholder_plan:
        beamless = replace(case, beams=())
        plan = dicom_objects.plan(who, beamless, struct_uid, study.roi_numbers, "AI placeholder")
        mark(plan, beside.model, beside.sha256)
        _save(plan, path.with_name(f"{path.stem}_plan.dcm"))
        _refer_to_plan(out, plan.SOPInstanceUID)
    else:
        _overview(out, case, struct_uid, study.roi_numbers)
    _save(out, path)


def write_study(case: Case, folder: Path, made: Generated | None = None) -> None:
    """Write a case as a DICOM-RT study: CT/CT_nnnn.dcm, RTSTRUCT.dcm, RTPLAN.dcm if it has beams or a
    prescription, RTDOSE.dcm (32 bits) if it has a dose. HU are rounded to whole numbers.

    Args:
        case: with CT and structures.
        folder: without DICOM files in it.
        made: what of the case a model generated. These objects are marked, and the study is the patient's
            own; without it the study is a new one, with the case's name for the patient's.

    Raises:
        ValueError: for a case without CT or structures, and for a folder that holds DICOM files.
    """
    if case.ct is None or not case.structures:
        raise ValueError(f"{case.name}: a CT and at least one structure are needed for a DICOM study")
    if any(folder.rglob("*.dcm")):
        raise ValueError(f"{folder}: holds DICOM files already; an empty or new folder is accepted")
    who = dicom_objects.identity(case if made else replace(case, source=Source()))
    slices = _write_ct(case, who, folder / "CT", made)
    masks = {n: _right_handed(Volume(m, case.grid, "1")).array for n, m in case.structures.items()}
    struct = dicom_objects.structure_set(who, masks, _right_handed(case.ct).grid, slices)
    if made and made.structures:
        mark_structures(struct, made.structures, made.model, made.sha256)
    _save(struct, folder / "RTSTRUCT.dcm")
    numbers = {name: k for k, name in enumerate(case.structures, start=1)}
    plan = None
    if case.beams or case.prescription.levels_gy:
        plan = dicom_objects.plan(who, case, struct.SOPInstanceUID, numbers, case.name)
        _save(plan, folder / "RTPLAN.dcm")
    if case.dose is not None:
        ai_dose = made is not None and made.target == "dose"
        dose = _dose(who, known_part(case.dose), PREDICTED if ai_dose else "REFERENCE DOSE", 32)
        if made and ai_dose:
            dose.DoseComment = COMMENT
            mark(dose, made.model, made.sha256)
        if plan is None or ai_dose:
            _overview(dose, case, struct.SOPInstanceUID, numbers)
        else:
            _refer_to_plan(dose, plan.SOPInstanceUID)
        _save(dose, folder / "RTDOSE.dcm")


def _write_ct(case: Case, who: Identity, folder: Path, made: Generated | None) -> list[Dataset]:
    """Write the CT slices; returns their datasets without pixels."""
    assert case.ct is not None
    ct, series_uid = _right_handed(case.ct), generate_uid()
    slices = []
    for k in range(ct.grid.shape[0]):
        out = dicom_objects.ct_slice(who, ct, k, series_uid, case.patient_position)
        if made and made.target == "ct":
            mark_ct(out, made.model, made.sha256)
        _save(out, folder / f"CT_{k + 1:04d}.dcm")
        del out.PixelData
        slices.append(out)
    return slices


def _dose(who: Identity, volume: Volume, description: str, bits: int) -> Dataset:
    """RT Dose Storage without the reference to what it is the dose of."""
    if bits not in (16, 32):
        raise ValueError(f"{bits} bits a voxel; 16 or 32 is accepted")
    volume = _right_handed(volume)
    gy = volume.in_unit("Gy")
    if not np.isfinite(gy).all() or gy.min() < 0 or gy.max() > 1000:
        raise ValueError(f"a dose from {gy.min()} to {gy.max()} Gy; 0 to 1000 Gy is accepted")
    out = dicom_objects.new_object(who, dicom_files.RTDOSE, "RTDOSE", generate_uid(), description)
    out.ContentDate, out.ContentTime = out.InstanceCreationDate, out.InstanceCreationTime
    dicom_objects.image_plane(out, volume.grid, 0)
    out.NumberOfFrames, out.FrameIncrementPointer = str(len(gy)), FRAME_OFFSETS
    out.GridFrameOffsetVector = [
        dicom_objects.decimal(k * volume.grid.spacing_mm[2]) for k in range(volume.grid.shape[0])
    ]
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = bits, bits, bits - 1, 0
    out.DoseUnits, out.DoseType = "GY", "PHYSICAL"
    out.DoseGridScaling, out.PixelData = quantise(gy, bits)
    return out


def quantise(gy: np.ndarray, bits: int) -> tuple[str, bytes]:
    """(DoseGridScaling of at most 16 characters, little-endian pixels) of a dose in Gy. The division is by
    the text as a reader will parse it, so that rounding it shifts no dose; the largest error is half a
    step."""
    highest = 2**bits - 1
    text = f"{max(float(gy.max()), 1e-3) / highest * (1 + 1e-9):.9e}"
    frames = (np.rint(frame.astype(np.float64) / float(text)) for frame in gy)
    return text, b"".join(np.clip(f, 0, highest).astype(f"<u{bits // 8}").tobytes() for f in frames)


def _refer_to_plan(dose: Dataset, plan_uid: str) -> None:
    dose.DoseSummationType = "PLAN"
    dose.ReferencedRTPlanSequence = [dicom_objects.reference(dicom_files.RTPLAN, plan_uid)]


def _overview(dose: Dataset, case: Case, struct_uid: str | None, numbers: Mapping[str, int]) -> None:
    """The reference of a dose without a plan (PS3.3 C.8.8.3, PLAN_OVERVIEW)."""
    overview = dicom_objects.item(PlanOverviewIndex=1, RTPlanLabel="", PrescriptionOverviewSequence=[])
    if struct_uid:
        overview.ReferencedStructureSetSequence = [dicom_objects.reference(dicom_files.RTSTRUCT, struct_uid)]
    for name, level_gy in case.prescription.levels_gy.items():
        row = dicom_objects.item(TotalPrescriptionDose=level_gy)
        if name in numbers:
            row.ReferencedROINumber = numbers[name]
        overview.PrescriptionOverviewSequence.append(row)
    if case.prescription.fractions:
        overview.NumberOfFractionsIncluded = case.prescription.fractions
    overview.TreatmentSite, overview.TreatmentSiteCodeSequence = "", []
    dose.DoseSummationType = "PLAN_OVERVIEW"
    dose.PlanOverviewSequence = [overview]


def _right_handed(volume: Volume) -> Volume:
    """The same volume with its slices along the cross product of its other axes, as DICOM counts them."""
    grid = volume.grid
    direction = np.asarray(grid.direction)
    if np.linalg.det(direction) > 0:
        return volume
    x, y, z = grid.to_mm([grid.shape[0] - 1, 0, 0])
    mirrored: Any = direction * [1, 1, -1]
    turned = replace(grid, origin_mm=(x, y, z), direction=mirrored)
    return Volume(volume.array[::-1], turned, volume.unit)


def _save(dataset: Dataset, path: Path) -> None:
    encoded = BytesIO()  # first: pydicom puts a traceback into whatever a disk raises
    dataset.save_as(encoded, enforce_file_format=True)
    with whole(path) as scratch:
        scratch.write_bytes(encoded.getbuffer())
