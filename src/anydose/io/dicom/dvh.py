"""The DVHs of a dose inside its RTDOSE (PS3.3 C.8.8.4, RT DVH)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydicom import Dataset

from anydose.io.dicom.files import RTSTRUCT
from anydose.io.dicom.objects import decimal, item, reference
from anydose.io.format import DVHCurve

MOST_BINS = 2000  # a viewer draws no more; a bin of 0.25 Gy reaches 500 Gy


def add_dvhs(
    dose: Dataset, curves: Mapping[str, DVHCurve], struct_uid: str | None, numbers: Mapping[str, int]
) -> None:
    """Add the cumulative DVHs of the structures in `numbers` (name -> ROINumber in the structure set
    `struct_uid`) to an RTDOSE; nothing without a structure set, which the module must refer to."""
    known = {name: curve for name, curve in curves.items() if name in numbers}
    if struct_uid is None or not known:
        return
    dose.ReferencedStructureSetSequence = [reference(RTSTRUCT, struct_uid)]
    dose.DVHSequence = [_dvh(curve, numbers[name]) for name, curve in known.items()]


def _dvh(curve: DVHCurve, roi_number: int) -> Dataset:
    """DVHData is pairs of (bin width in Gy, volume in cc that receives the bin's lower end or more)."""
    volumes = np.asarray(curve.volume_cc[:MOST_BINS], dtype=np.float64)
    pairs = np.stack([np.full(len(volumes), curve.step_gy), volumes], axis=1)
    return item(
        DVHReferencedROISequence=[item(DVHROIContributionType="INCLUDED", ReferencedROINumber=roi_number)],
        DVHType="CUMULATIVE",
        DoseUnits="GY",
        DoseType="PHYSICAL",
        DVHDoseScaling="1",
        DVHVolumeUnits="CM3",
        DVHNumberOfBins=str(len(volumes)),
        DVHData=[decimal(value) for value in pairs.ravel()],
        DVHMinimumDose=decimal(curve.min_gy),
        DVHMaximumDose=decimal(curve.max_gy),
        DVHMeanDose=decimal(curve.mean_gy),
    )
