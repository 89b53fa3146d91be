"""One series with two scans in it: which of them the structures were drawn on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anydose.io.dicom.files import Found, axes, items, naming, numbers, text


def one_acquisition(stack: list[Found], struct: Found, said: list[str]) -> list[Found]:
    """The slices of the acquisition that the structure set refers to, where two of them stand one through the
    other in `stack`; the whole stack where its acquisitions follow one another. ValueError where nothing
    tells which one is meant; `said` gets a sentence on what was left out."""
    groups: dict[str, list[Found]] = {}
    for found in stack:
        groups.setdefault(text(found.header, "AcquisitionNumber", needed=False), []).append(found)
    if len(groups) < 2 or not _interleaved(list(groups.values())):
        return stack
    for referred in (_listed(struct), _drawn(struct)):
        named = [label for label, slices in groups.items() if any(f.uid in referred for f in slices)]
        if len(named) == 1:
            rest = len(stack) - len(groups[named[0]])
            said.append(
                f"ct: {rest} slices of another acquisition in the same series passed over; the structures "
                f"were drawn on AcquisitionNumber {named[0] or '(none)'}"
            )
            return groups[named[0]]
    listing = ", ".join(
        f"{label or '(none)'} ({len(slices)} slices)" for label, slices in sorted(groups.items())
    )
    raise ValueError(
        f"{stack[0].path.parent}: acquisitions {listing} stand one through the other in one series, and the "
        "structure set does not refer to one of them alone; one acquisition is accepted"
    )


def _interleaved(groups: Sequence[list[Found]]) -> bool:
    """True if the slices of two groups alternate along the normal."""
    spans = []
    for slices in groups:
        with naming(slices[0].path):
            normal = axes(slices[0].header)[:, 2]
            places = [float(normal @ numbers(f.header, "ImagePositionPatient", 3)) for f in slices]
        spans.append((min(places), max(places)))
    spans.sort()
    return any(later < end - 1e-3 for (_, end), (later, _) in zip(spans, spans[1:], strict=False))


def _listed(struct: Found) -> set[str]:
    """The images that the structure set lists for its frame of reference."""
    with naming(struct.path):
        return {
            text(image, "ReferencedSOPInstanceUID", needed=False)
            for frame in items(struct.header, "ReferencedFrameOfReferenceSequence")
            for study in items(frame, "RTReferencedStudySequence")
            for series in items(study, "RTReferencedSeriesSequence")
            for image in items(series, "ContourImageSequence")
        }


def _drawn(struct: Found) -> set[str]:
    """The images that single contours refer to."""
    with naming(struct.path):
        return set(_of_contours(struct))


def _of_contours(struct: Found) -> Iterator[str]:
    for roi in items(struct.header, "ROIContourSequence"):
        for contour in items(roi, "ContourSequence"):
            for image in items(contour, "ContourImageSequence"):
                yield text(image, "ReferencedSOPInstanceUID", needed=False)
