"""RTSTRUCT to named masks, and its regions of interest as they stand in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from anydose.case import names
from anydose.case.grid import Floats, Grid
from anydose.io.dicom.contours import EMPTY, Mask, rasterise
from anydose.io.dicom.files import items, load, naming, number, text

LONGEST_NAME = 128  # characters; the standard has 64
XOR = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", XOR)


@dataclass(frozen=True)
class Roi:
    """One region of interest."""

    number: int
    """ROINumber."""
    name: str
    """Unique in its file."""
    kind: str
    """RTROIInterpretedType, or ''."""
    frame_uid: str
    """Its frame of reference, or ''."""
    contours: tuple[Floats, ...]
    """Closed contours, (n, 3) LPS mm each."""
    said: tuple[str, ...] = ()
    """What was left out of it."""
    code: str = ""
    """Code value of its RTROIIdentificationCodeSequence, or ''."""
    xor: bool = False
    """Whether what two contours enclose is left out."""


def read_rois(path: Path) -> list[Roi]:
    """Every ROI of an RTSTRUCT. ValueError (file, found, accepted) for a contour whose coordinates are no
    numbers or not as many as it states, and for contours of an ROI that the file does not name."""
    dataset = load(path)
    with naming(path):
        kinds: dict[int, str] = {}
        codes: dict[int, str] = {}
        for item in items(dataset, "RTROIObservationsSequence"):
            observed = int(number(item, "ReferencedROINumber"))
            kinds[observed] = text(item, "RTROIInterpretedType", needed=False)
            coded = items(item, "RTROIIdentificationCodeSequence")
            codes[observed] = text(coded[0], "CodeValue", needed=False) if coded else ""
        drawn: dict[int, list[Dataset]] = {}
        for item in items(dataset, "ROIContourSequence"):
            drawn.setdefault(int(number(item, "ReferencedROINumber")), []).extend(
                items(item, "ContourSequence")
            )
        rois: dict[int, Roi] = {}
        taken: set[str] = set()
        for item in items(dataset, "StructureSetROISequence"):
            roi_number = int(number(item, "ROINumber"))
            if roi_number in rois:
                raise ValueError(f"ROINumber {roi_number} stands twice; each once is accepted")
            stated = _one_text(item, "ROIName")
            name = _unique(stated[:LONGEST_NAME] or f"ROI {roi_number}", taken)
            sequence = drawn.pop(roi_number, [])
            closed, said = _contours(sequence, name)
            said += [] if stated else ["no name stated, called by its number"]
            if len(stated) > LONGEST_NAME:
                said.append(f"name cut to {LONGEST_NAME} of {len(stated):,} characters")
            frame_uid = text(item, "ReferencedFrameOfReferenceUID", needed=False)
            rois[roi_number] = Roi(
                number=roi_number,
                name=name,
                kind=kinds.get(roi_number, ""),
                frame_uid=frame_uid,
                contours=closed,
                said=tuple(said),
                code=codes.get(roi_number, ""),
                xor=any(_plain(c, "ContourGeometricType", name) == XOR for c in sequence),
            )
        if drawn:
            raise ValueError(
                f"contours of ROI number {next(iter(drawn))}, which StructureSetROISequence lacks"
            )
    return list(rois.values())


def masks(rois: list[Roi], grid: Grid) -> tuple[dict[str, Mask], list[str]]:
    """The masks (d, h, w) of the ROIs on `grid`, without those that are empty, and what was left out or
    renamed. The one ROI of type EXTERNAL is the body whatever its name."""
    out, said = {}, []
    for roi in rois:
        try:
            mask, more = rasterise(roi.contours, grid, roi.xor)
        except ValueError as error:
            raise ValueError(f"structure {roi.name}: {error}") from error
        if more[-1:] != [EMPTY]:
            out[roi.name] = mask
        said += [f"structure {roi.name}: {sentence}" for sentence in (*roi.said, *more)]
    externals = [roi.name for roi in rois if roi.kind == "EXTERNAL" and roi.name in out]
    if len(externals) == 1:
        out, renamed = _one_body(out, externals[0])
        said += renamed
    return out, said


def _one_body(structures: dict[str, Mask], external: str) -> tuple[dict[str, Mask], list[str]]:
    """The same masks under names of which only `external` (or 'External' in its place) has the role of the
    body."""
    new = {}
    for name in structures:
        is_body = names.role(name) == "body"
        if name == external and not is_body:
            new[name] = "External"
        elif name != external and is_body:
            new[name] = f"{name} (not the body)"
    said = [f"structure {old}: called {name}, as {external} is of type EXTERNAL" for old, name in new.items()]
    return {new.get(name, name): mask for name, mask in structures.items()}, said


def _contours(sequence: list[Dataset], name: str) -> tuple[tuple[Floats, ...], list[str]]:
    closed = []
    for item in sequence:
        if _plain(item, "ContourGeometricType", name) not in CLOSED:
            continue
        value = _plain(item, "ContourData", name)
        points = np.fromstring(value, sep="\\")
        if len(points) != value.count("\\") + 1 or len(points) % 3:  # it stops at what is no number
            raise ValueError(f"structure {name}: ContourData is not triplets of numbers")
        stated = _plain(item, "NumberOfContourPoints", name) if "NumberOfContourPoints" in item else ""
        if stated and stated != str(len(points) // 3):
            raise ValueError(f"structure {name}: a contour of {len(points) // 3} points that states {stated}")
        closed.append(points.reshape(-1, 3))
    skipped = len(sequence) - len(closed)
    return tuple(closed), [f"{skipped} point or open contours ignored"] if skipped else []


def _plain(item: Dataset, keyword: str, name: str) -> str:
    """A text attribute as it stands in the file, without pydicom's conversion, which costs 20 times as
    much."""
    element = item.get_item(keyword) if keyword in item else None
    value = None if element is None else element.value
    if not isinstance(value, bytes):
        raise ValueError(f"structure {name}: a contour without {keyword}; it is needed")
    return value.decode("ascii", "replace").strip(" \0")


def _one_text(item: Dataset, keyword: str) -> str:
    """A text of one value as it stands there; a backslash, which DICOM keeps for several values, is '/'."""
    value = item.get(keyword)
    several = value if isinstance(value, MultiValue) else [value or ""]
    return "/".join(str(part) for part in several).strip(" \0")


def _unique(name: str, taken: set[str]) -> str:
    """`name`, numbered where the file has it already."""
    new, count = name, 1
    while new in taken:
        count += 1
        new = f"{name} ({count})"
    taken.add(new)
    return new
