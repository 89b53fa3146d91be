"""S7 to S9: structures and CT series that mean two things."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from ways import Places, edit, read, reproducer


def contours_of(struct: Any, name: str) -> Any:
    """The contour sequence of the structure called `name`."""
    number = next(r.ROINumber for r in struct.StructureSetROISequence if r.ROIName == name)
    return next(r for r in struct.ROIContourSequence if r.ReferencedROINumber == number).ContourSequence


def redrawn(places: Places, change: Any) -> tuple[Any, Any]:
    """(the case as it was, the case with the Brainstem's contours changed)."""
    study = places.copy("dicom")
    edit(study / "RTSTRUCT.dcm", lambda struct: change(contours_of(struct, "Brainstem")))
    return read(places.root / "dicom"), read(study)


def cc(case: Any, name: str = "Brainstem") -> float:
    """Volume of a structure."""
    return float(case.structures[name].sum()) * case.grid.voxel_cc


def points(contour: Any) -> Any:
    """(n, 3) mm."""
    return np.array(contour.ContourData, dtype=float).reshape(-1, 3)


def put(contour: Any, values: Any) -> None:
    """Set a contour's points."""
    contour.ContourData = [f"{v:.3f}" for v in values.ravel()]
    contour.NumberOfContourPoints = len(values)


@reproducer("S7a", "Contours drawn twice, 0.2 mm apart: Brainstem of 0.21 cc instead of 3.05 cc, unsaid")
def near_doubles(places: Places) -> str:
    def double(contours: Any) -> None:
        for contour in list(contours):
            again = pydicom.Dataset()
            again.update(contour)
            put(again, points(contour) + [0.2, 0.2, 0])
            contours.append(again)

    clean, case = redrawn(places, double)
    assert abs(cc(case) - cc(clean)) < 0.03 * cc(clean), f"{cc(case):.2f} cc, {cc(clean):.2f} cc once"
    said = [sentence for sentence in case.inferred if "Brainstem" in sentence]
    return f"{cc(case):.2f} cc, {cc(clean):.2f} cc drawn once; {'; '.join(said) or 'nothing to say'}"


@reproducer("S7b", "Two overlapping lobes of one structure: what they share is left out")
def lobes(places: Places) -> str:
    def lobed(contours: Any) -> None:
        for contour in list(contours):
            again = pydicom.Dataset()
            again.update(contour)
            put(again, points(contour) + [9.0, 0, 0])
            contours.append(again)

    clean, case = redrawn(places, lobed)
    inside = (clean.structures["Brainstem"] & ~case.structures["Brainstem"]).sum()
    assert inside == 0, f"{inside} voxels of the first lobe are left out"
    said = [sentence for sentence in case.inferred if "Brainstem" in sentence]
    return f"{cc(clean):.2f} cc once, {cc(case):.2f} cc both lobes together; {'; '.join(said)}"


@reproducer("S8", "Contours half-way between two slices are moved up half a slice, unsaid")
def between_slices(places: Places) -> str:
    def lift(contours: Any) -> None:
        for contour in contours:
            put(contour, points(contour) + [0, 0, 1.25])
            del contour.ContourImageSequence

    clean, case = redrawn(places, lift)
    moved = [
        float((case.grid.to_mm(np.argwhere(c.structures["Brainstem"]).mean(axis=0)))[2])
        for c in (clean, case)
    ]
    off = moved[1] - moved[0] - 1.25
    said = [sentence for sentence in case.inferred if "Brainstem" in sentence]
    assert abs(off) < 0.2, f"centroid {off:+.2f} mm off"
    assert said, "nothing said"
    return f"centroid {off:+.2f} mm off; {said[0]}"


@reproducer("S9", "Two acquisitions in one series, offset by half a slice: read as one stack, unsaid")
def two_acquisitions(places: Places) -> str:
    study = places.copy("dicom")
    for path in sorted((study / "CT").iterdir()):
        image = pydicom.dcmread(path)
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, z + 1.25]
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.AcquisitionNumber = "2"
        image.PixelData = (np.frombuffer(image.PixelData, "<i2") // 2 - 500).astype("<i2").tobytes()
        image.save_as(path.with_name(f"b_{path.name}"))
    clean, case = read(places.root / "dicom"), read(study)
    assert case.grid.matches(clean.grid), f"{case.grid.shape} read as one stack"
    assert (case.ct.array == clean.ct.array).all(), "slices of the other scan"
    return next(sentence for sentence in case.inferred if "acquisition" in sentence)
