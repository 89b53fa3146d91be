"""What is sent of a prediction: its RTDOSE, the placeholder plan if there is one, and a Secondary Capture of
its page. The UIDs are made from the job's own, so that an object that is sent again is the same object."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian

from anydose.io.dicom.marks import PREDICTED

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "SpecificCharacterSet")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
MADE = ("ContributingEquipmentSequence", "InstanceCreationDate", "InstanceCreationTime", "Manufacturer")
COPIED = (*PATIENT, *STUDY, *MADE, "ContentDate", "ContentTime")


def outgoing(folder: Path, job: str, with_page: bool) -> list[Dataset]:
    """What is sent of a prediction: placeholder plan, dose, page, in that order, with UIDs of the job's own.
    ValueError if the folder holds no RTDOSE."""
    if not (folder / "dose.dcm").is_file():
        raise ValueError(f"{folder}: no dose.dcm of a complete prediction found")
    dose = dcmread(folder / "dose.dcm")
    found: list[Dataset] = [dose]
    if (folder / "dose_plan.dcm").is_file():
        plan = dcmread(folder / "dose_plan.dcm")
        _rename(plan, job, "plan")
        dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = plan.SOPInstanceUID
        found.insert(0, plan)
    _rename(dose, job, "dose")
    if with_page and (folder / "page.png").is_file():
        found.append(secondary_capture(folder / "page.png", dose, job))
    return found


def uid_of(job: str, what: str) -> UID:
    """A UID that is the same each time (PS3.5 B.2: of a UUID, here one that is made from a name)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{job}/{what}').int}")


def _rename(dataset: Dataset, job: str, what: str) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid_of(job, what)
    dataset.SeriesInstanceUID = uid_of(job, f"series of {what}")


def secondary_capture(page: Path, dose: Dataset, job: str) -> Dataset:
    """The page of a prediction as a Secondary Capture Image in the patient's study (PS3.3 A.8.1)."""
    pixels = np.asarray(Image.open(page).convert("RGB"))
    out = Dataset()
    for name in COPIED:
        if name in dose:
            out[name] = dose[name]
    out.SOPClassUID, out.SOPInstanceUID = SECONDARY_CAPTURE, uid_of(job, "page")
    out.SeriesInstanceUID, out.SeriesNumber, out.InstanceNumber = uid_of(job, "series of page"), "9005", "1"
    out.Modality, out.ConversionType, out.BurnedInAnnotation = "OT", "WSD", "YES"
    out.SeriesDescription, out.PatientOrientation, out.Laterality = PREDICTED, "", ""
    out.Rows, out.Columns = pixels.shape[:2]
    out.SamplesPerPixel, out.PhotometricInterpretation, out.PlanarConfiguration = 3, "RGB", 0
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 8, 8, 7, 0
    content = pixels.tobytes()
    out.PixelData = content + b"\0" * (len(content) % 2)
    out.file_meta = FileMetaDataset()
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID
    out.file_meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return out
