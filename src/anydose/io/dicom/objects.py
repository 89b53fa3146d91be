"""The DICOM objects we write, as datasets: CT slice, structure set, plan, dose.

Attributes follow PS3.3's IODs as dciodvfy checks them; type 2 attributes that we do not know are present and
empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from anydose import __version__
from anydose.case import names
from anydose.case.beams import Beam
from anydose.case.case import Case
from anydose.case.grid import Floats, Grid
from anydose.case.volume import Volume
from anydose.io.dicom import files as dicom_files
from anydose.io.dicom.contours import Mask, outlines
from anydose.io.dicom.marks import SERIES_NUMBER
from anydose.io.dicom.source import dicom_source

ROI_TYPES = {
    "ptv": "PTV",
    "ctv": "CTV",
    "gtv": "GTV",
    "body": "EXTERNAL",
    "oar": "ORGAN",
    "support": "SUPPORT",
}
COLOURS = ((255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 160, 0), (160, 0, 160), (0, 160, 160), (120, 90, 40))
OPEN_FIELD_MM = 200.0  # jaws of a plan that states geometry only: a 40 cm field, which every machine has
MODEL = "anydose"


@dataclass(frozen=True)
class Identity:
    """Whose objects these are."""

    study: Mapping[str, Any]
    """Patient and study attributes by keyword."""
    frame_uid: str
    """The frame of reference."""
    made: datetime = field(default_factory=datetime.now)
    """When they were made."""


def identity(case: Case, anonymize: bool = False) -> Identity:
    """The identity of the study a case was read from; a new one for a case that is not DICOM's. anonymize: no
    patient data, and UIDs replaced by ones derived from them, the same for the same input (PS3.15)."""
    known = dicom_source(case)
    study, frame = dict(known.study), known.frame_of_reference_uid
    if anonymize or not study:
        source = study.get("StudyInstanceUID")
        study = {"PatientID": case.name, "PatientName": case.name, "StudyInstanceUID": anonymous_uid(source)}
        if anonymize:
            study |= {"PatientID": "ANONYMOUS", "PatientName": "ANONYMOUS", "PatientIdentityRemoved": "YES"}
            study["DeidentificationMethod"] = "identity and dates removed, UIDs derived"
        frame = anonymous_uid(frame)
    return Identity(study, str(frame))


def anonymous_uid(uid: str | None) -> str:
    """A UID derived from `uid`, the same each time; a new one for None."""
    return str(generate_uid(entropy_srcs=["anydose", str(uid)] if uid else None))


def new_object(who: Identity, sop_class: str, modality: str, series_uid: str, description: str) -> Dataset:
    """What every object holds: patient, study, series, equipment, SOP common."""
    out = Dataset()
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(out, keyword, "")
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "PositionReferenceIndicator",
    ):
        setattr(out, keyword, "")
    out.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in who.study.items():
        setattr(out, keyword, value)
    out.SOPClassUID, out.SOPInstanceUID = sop_class, generate_uid()
    out.Modality, out.SeriesInstanceUID, out.SeriesDescription = modality, series_uid, description[:64]
    out.SeriesNumber, out.OperatorsName = SERIES_NUMBER[modality], ""
    out.FrameOfReferenceUID = who.frame_uid
    out.Manufacturer, out.ManufacturerModelName, out.SoftwareVersions = MODEL, MODEL, __version__
    out.InstanceCreationDate, out.InstanceCreationTime = _date(who), _time(who)
    out.InstanceNumber = "1"
    out.file_meta = _file_meta(out)
    return out


def _file_meta(dataset: Dataset) -> Any:
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _date(who: Identity) -> str:
    return who.made.strftime("%Y%m%d")


def _time(who: Identity) -> str:
    return who.made.strftime("%H%M%S")


def item(**attributes: Any) -> Dataset:
    """A sequence item of attributes by keyword."""
    out = Dataset()
    for keyword, value in attributes.items():
        setattr(out, keyword, value)
    return out


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.10g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.8e}"


def image_plane(out: Dataset, grid: Grid, index_z: int) -> None:
    """Image plane attributes of slice `index_z`; ImagePositionPatient is the centre of the first voxel."""
    direction = np.asarray(grid.direction)
    out.PixelSpacing = [decimal(grid.spacing_mm[1]), decimal(grid.spacing_mm[0])]
    out.ImageOrientationPatient = [f"{v:.10f}" for v in direction.T[:2].ravel() + 0.0]
    out.ImagePositionPatient = [decimal(round(v, 6) + 0.0) for v in grid.to_mm([index_z, 0, 0])]
    out.SliceThickness = decimal(grid.spacing_mm[2])
    out.Rows, out.Columns = grid.shape[1:]
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"


def ct_slice(who: Identity, volume: Volume, index_z: int, series_uid: str, position: str) -> Dataset:
    """One CT Image Storage object of a volume in HU, rounded to whole numbers, on a right-handed grid."""
    out = new_object(who, dicom_files.CT, "CT", series_uid, "CT")
    out.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    out.PatientPosition, out.InstanceNumber = position, str(index_z + 1)
    out.KVP = out.AcquisitionNumber = out.Laterality = ""
    image_plane(out, volume.grid, index_z)
    stored = np.clip(np.rint(volume.in_unit("HU")[index_z]), -1024, 32767).astype("<i2")
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 16, 15, 1
    out.RescaleSlope, out.RescaleIntercept, out.RescaleType = "1", "0", "HU"
    out.PixelData = stored.tobytes()
    return out


def structure_set(
    who: Identity, structures: Mapping[str, Mask], grid: Grid, slices: Sequence[Dataset]
) -> Dataset:
    """RT Structure Set Storage of masks on the grid of the CT `slices`; ROI numbers count from 1 in their
    order."""
    out = new_object(who, dicom_files.RTSTRUCT, "RTSTRUCT", generate_uid(), "structures")
    out.StructureSetLabel, out.StructureSetDate, out.StructureSetTime = MODEL, _date(who), _time(who)
    images = [
        item(ReferencedSOPClassUID=s.SOPClassUID, ReferencedSOPInstanceUID=s.SOPInstanceUID) for s in slices
    ]
    series = item(SeriesInstanceUID=slices[0].SeriesInstanceUID, ContourImageSequence=images)
    study = item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=slices[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    out.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=who.frame_uid, RTReferencedStudySequence=[study])
    ]
    out.StructureSetROISequence, out.ROIContourSequence, out.RTROIObservationsSequence = [], [], []
    for number, (name, mask) in enumerate(structures.items(), start=1):
        out.StructureSetROISequence.append(
            item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=who.frame_uid,
                ROIName=name[:64],
                ROIGenerationAlgorithm="",
            )
        )
        contours = [
            _contour(points, images[round(grid.to_index(points[0])[0])]) for points in outlines(mask, grid)
        ]
        colour = list(COLOURS[number % len(COLOURS)])
        out.ROIContourSequence.append(
            item(ROIDisplayColor=colour, ReferencedROINumber=number, ContourSequence=contours)
        )
        out.RTROIObservationsSequence.append(
            item(
                ObservationNumber=number,
                ReferencedROINumber=number,
                RTROIInterpretedType=ROI_TYPES.get(names.role(name), ""),
                ROIInterpreter="",
            )
        )
    return out


def _contour(points: Floats, image: Dataset) -> Dataset:
    out = item(
        ContourImageSequence=[image], ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(points)
    )
    # as raw bytes: pydicom's list of DS objects would cost twenty times as much
    value = "\\".join(f"{v:.4f}" for v in points.ravel() + 0.0).encode()
    value += b" " * (len(value) % 2)
    tag = Tag("ContourData")
    out[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True, True)
    return out


def plan(
    who: Identity, case: Case, struct_uid: str | None, roi_numbers: Mapping[str, int], label: str
) -> Dataset:
    """RT Plan Storage of the case's beams (geometry only: no metersets, open jaws) and prescription; without
    beams it is a placeholder that a dose can refer to. Its intent is RESEARCH and it is UNAPPROVED."""
    out = new_object(who, dicom_files.RTPLAN, "RTPLAN", generate_uid(), "no deliverable plan")
    out.RTPlanLabel, out.RTPlanDate, out.RTPlanTime = label[:16], _date(who), _time(who)
    out.RTPlanDescription = "Research only: geometry for a dose prediction, no deliverable plan"
    out.PlanIntent, out.ApprovalStatus = "RESEARCH", "UNAPPROVED"
    out.RTPlanGeometry = "PATIENT" if struct_uid else "TREATMENT_DEVICE"
    if struct_uid:
        out.ReferencedStructureSetSequence = [reference(dicom_files.RTSTRUCT, struct_uid)]
    levels = {roi_numbers[n]: dose for n, dose in case.prescription.levels_gy.items() if n in roi_numbers}
    if levels:
        out.DoseReferenceSequence = [
            item(
                DoseReferenceNumber=k,
                DoseReferenceStructureType="VOLUME",
                DoseReferenceType="TARGET",
                ReferencedROINumber=roi,
                TargetPrescriptionDose=decimal(dose),
            )
            for k, (roi, dose) in enumerate(levels.items(), start=1)
        ]
    out.FractionGroupSequence = [
        item(
            FractionGroupNumber=1,
            NumberOfFractionsPlanned=case.prescription.fractions or "",
            NumberOfBeams=len(case.beams),
            NumberOfBrachyApplicationSetups=0,
        )
    ]
    out.PatientSetupSequence = [item(PatientSetupNumber=1, PatientPosition=case.patient_position)]
    if case.beams:
        out.FractionGroupSequence[0].ReferencedBeamSequence = [
            item(ReferencedBeamNumber=k) for k in range(1, len(case.beams) + 1)
        ]
        out.BeamSequence = [_beam(beam, k) for k, beam in enumerate(case.beams, start=1)]
    return out


def _beam(beam: Beam, number: int) -> Dataset:
    return item(
        BeamNumber=number,
        BeamName=(beam.name or f"beam {number}")[:64],
        BeamType="DYNAMIC" if beam.is_arc else "STATIC",
        RadiationType="PHOTON",
        TreatmentMachineName="",
        PrimaryDosimeterUnit="MU",
        SourceAxisDistance=decimal(beam.sad_mm),
        BeamLimitingDeviceSequence=[
            item(RTBeamLimitingDeviceType=jaw, NumberOfLeafJawPairs=1) for jaw in ("ASYMX", "ASYMY")
        ],
        ReferencedPatientSetupNumber=1,
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        FinalCumulativeMetersetWeight="1",
        NumberOfControlPoints=max(2, len(beam.gantry_deg)),
        ControlPointSequence=_control_points(beam),
    )


def _control_points(beam: Beam) -> list[Dataset]:
    angles = beam.gantry_deg if beam.is_arc else beam.gantry_deg * 2
    turns = ["CW" if (b - a) % 360 < 180 else "CC" for a, b in zip(angles, angles[1:], strict=False)]
    points = [
        item(
            ControlPointIndex=k,
            CumulativeMetersetWeight=decimal(k / (len(angles) - 1)),
            GantryAngle=decimal(angle),
            GantryRotationDirection=(turns + ["NONE"])[k] if beam.is_arc else "NONE",
        )
        for k, angle in enumerate(angles)
    ]
    first = points[0]
    first.NominalBeamEnergy = "6"
    first.BeamLimitingDevicePositionSequence = [
        item(RTBeamLimitingDeviceType=jaw, LeafJawPositions=[-OPEN_FIELD_MM, OPEN_FIELD_MM])
        for jaw in ("ASYMX", "ASYMY")
    ]
    for name, angle in (
        ("BeamLimitingDevice", beam.collimator_deg),
        ("PatientSupport", beam.couch_deg),
        ("TableTopEccentric", 0.0),
        ("TableTopPitch", 0.0),
        ("TableTopRoll", 0.0),
    ):
        exact = name in ("TableTopPitch", "TableTopRoll")  # these two are FL, the others DS
        setattr(first, f"{name}Angle", angle if exact else decimal(angle))
        setattr(first, f"{name}RotationDirection", "NONE")
    for axis in ("Vertical", "Longitudinal", "Lateral"):
        setattr(first, f"TableTop{axis}Position", "")
    first.IsocenterPosition = [decimal(v) for v in beam.isocentre_mm]
    return points


def reference(sop_class: str, uid: str) -> Dataset:
    """An item that refers to one object."""
    return item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)
