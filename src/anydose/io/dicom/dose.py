"""RTDOSE to a volume in Gy on its own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from anydose.case.grid import Floats, Grid
from anydose.case.volume import Volume, layers_at
from anydose.io.dicom.files import RTDOSE, axes, load, naming, number, numbers, pixel_spacing, pixels, text

EVEN_MM = 0.05
MAX_GY = 1000.0


def read_rtdose(path: Path, frame_of_reference_uid: str | None = None) -> Volume:
    """The dose of one RTDOSE file in Gy, frames ascending along the normal; uneven frames are interpolated to
    the finest step. ValueError (file, found, accepted) for relative, signed or single-frame doses, offsets
    that do not fit the frames, and, if `frame_of_reference_uid` is given, for another frame of reference."""
    dataset = load(path)
    with naming(path):
        if text(dataset, "SOPClassUID") != RTDOSE:
            raise ValueError(f"{dataset.SOPClassUID.name} found; RT Dose Storage is accepted")
        _check_words(dataset, frame_of_reference_uid)
        spacing, direction = pixel_spacing(dataset), axes(dataset)
        offsets = _offsets(dataset, direction)
        scaling = number(dataset, "DoseGridScaling")
        if not 0 < scaling <= MAX_GY:
            raise ValueError(f"DoseGridScaling {scaling:g}; a positive number of Gy is accepted")
        stored = pixels(dataset)
        if len(stored) != len(offsets):
            raise ValueError(
                f"{len(stored)} frames and {len(offsets)} frame offsets; as many of both are accepted"
            )
        order = np.argsort(offsets)
        array = np.multiply(stored[order], scaling, dtype=np.float32)
        if array.max() > MAX_GY:
            raise ValueError(f"a dose of {array.max():g} Gy; up to {MAX_GY:g} Gy is accepted")
        array, step = _even(array, offsets[order])
        x, y, z = numbers(dataset, "ImagePositionPatient", 3) + direction[:, 2] * offsets.min()
        turned: Any = direction
        return Volume(array, Grid(array.shape, (spacing[1], spacing[0], step), (x, y, z), turned), "Gy")


def _check_words(dataset: Dataset, frame_of_reference_uid: str | None) -> None:
    units, kind = text(dataset, "DoseUnits"), text(dataset, "DoseType")
    if units != "GY":
        raise ValueError(f"DoseUnits {units}; GY is accepted")
    if kind not in ("PHYSICAL", "EFFECTIVE"):
        raise ValueError(f"DoseType {kind}; PHYSICAL and EFFECTIVE are accepted")
    if number(dataset, "PixelRepresentation") != 0:
        raise ValueError("signed pixels; an unsigned dose is accepted")
    frame = text(dataset, "FrameOfReferenceUID")
    if frame_of_reference_uid and frame != frame_of_reference_uid:
        raise ValueError(f"frame of reference {frame}; that of the CT, {frame_of_reference_uid}, is accepted")


def _offsets(dataset: Dataset, direction: Floats) -> Floats:
    """Frame offsets in mm along the normal, from ImagePositionPatient (PS3.3 C.8.8.3.2: relative, first one
    0, or the patient's z coordinates, first one that of ImagePositionPatient)."""
    offsets = numbers(dataset, "GridFrameOffsetVector")
    if len(offsets) < 2:
        raise ValueError("a single frame, whose thickness nothing states; two or more frames are accepted")
    first = numbers(dataset, "ImagePositionPatient", 3)[2]
    if offsets[0] != 0:
        if abs(offsets[0] - first) > EVEN_MM or abs(abs(direction[2, 2]) - 1) > 1e-3:
            raise ValueError(
                f"GridFrameOffsetVector starts at {offsets[0]:g}; 0 or the first frame's z is accepted"
            )
        offsets = (offsets - offsets[0]) * np.sign(direction[2, 2])
    steps = np.diff(np.sort(offsets))
    if steps.min() < 0.05 or steps.max() > 50:
        raise ValueError(f"frames {steps.min():g} to {steps.max():g} mm apart; 0.05 to 50 mm is accepted")
    return offsets


def _even(array: np.ndarray, offsets: Floats) -> tuple[np.ndarray, float]:
    """(frames at even steps, the step in mm)."""
    even = np.linspace(offsets[0], offsets[-1], len(offsets))
    if np.abs(even - offsets).max() <= EVEN_MM:
        return array, float(even[1] - even[0])
    step = float(np.diff(offsets).min())
    wanted = np.arange(offsets[0], offsets[-1] + EVEN_MM, step)
    if len(wanted) > 10 * len(offsets):
        raise ValueError(
            f"frames from {step:g} to {np.diff(offsets).max():g} mm apart; steps alike are accepted"
        )
    return layers_at(array, np.interp(wanted, offsets, np.arange(len(offsets)))), step
