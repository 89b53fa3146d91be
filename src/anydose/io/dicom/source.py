"""What a case read from DICOM remembers of its study, so that a dose can be written beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anydose.case.case import Case, Source
from anydose.case.grid import Grid


@dataclass(frozen=True)
class DicomSource(Source):
    """The study that a case was read from."""

    format: str = "dicom"
    study: Mapping[str, Any] = field(default_factory=dict)
    """Patient and study attributes by keyword, as the CT states them."""
    struct_uid: str | None = None
    """SOPInstanceUID of the structure set."""
    plan_uid: str | None = None
    """SOPInstanceUID of the plan; None without one."""
    roi_numbers: Mapping[str, int] = field(default_factory=dict)
    """Structure -> ROINumber in that structure set."""
    dose_grid: Grid | None = None
    """The grid of the reference RTDOSE; None without one."""


def dicom_source(case: Case) -> DicomSource:
    """The study of a case; one that knows nothing for a case of another format."""
    return case.source if isinstance(case.source, DicomSource) else DicomSource()
