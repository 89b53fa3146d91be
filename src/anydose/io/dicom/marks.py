"""The marks that every object made by a model bears, so that nobody takes it for the clinic's own."""

from __future__ import annotations

from datetime import datetime

from pydicom import Dataset

from anydose import __version__

PREDICTED = "AI PREDICTED DOSE - NOT FOR CLINICAL USE"  # SeriesDescription of every dose we predict
COMMENT = "Predicted by a neural network for research; not for clinical use"
LABEL = "AI GENERATED"  # a label has 16 characters
MAKER = "anydose"
SERIES_NUMBER = {"CT": 9001, "RTSTRUCT": 9002, "RTPLAN": 9003, "RTDOSE": 9004}  # beyond a clinic's own


def description(what: str) -> str:
    """SeriesDescription of generated objects."""
    return f"AI GENERATED {what.upper()} - NOT FOR CLINICAL USE"


def mark(dataset: Dataset, model: str, sha256: str) -> None:
    """Say in `dataset` which model contributed to it (Contributing Equipment Sequence, PS3.3 C.12.1).
    model: its name; sha256: the hash of its weights."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer, equipment.ManufacturerModelName = MAKER, (model or MAKER)[:64]
    equipment.DeviceSerialNumber, equipment.SoftwareVersions = sha256[:64], __version__
    equipment.ContributionDateTime = datetime.now().strftime("%Y%m%d%H%M%S")
    equipment.ContributionDescription = (
        f"{COMMENT}; model {model or '(not named)'}, sha256 {sha256 or '(not known)'}"
    )
    dataset.ContributingEquipmentSequence = [equipment]
    dataset.DeviceSerialNumber = sha256[:64]


def mark_structures(struct: Dataset, made: tuple[str, ...], model: str, sha256: str) -> None:
    """Mark a structure set of which the ROIs called `made` were generated."""
    struct.SeriesDescription = description("structures")
    struct.StructureSetLabel = LABEL
    struct.StructureSetDescription = COMMENT
    for roi in struct.StructureSetROISequence:
        if str(roi.ROIName) in made:
            roi.ROIGenerationAlgorithm = "AUTOMATIC"
            roi.ROIGenerationDescription = f"{MAKER} {model}"[:64].strip()
    mark(struct, model, sha256)


def mark_ct(image: Dataset, model: str, sha256: str) -> None:
    """Mark a slice of a generated CT."""
    image.SeriesDescription = description("CT")
    image.DerivationDescription = COMMENT
    mark(image, model, sha256)
