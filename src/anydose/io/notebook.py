"""A dose in a notebook: three linked planes with CT and wash, as NiiVue's widget (extra `notebook`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anydose.case.volume import Volume
from anydose.io.nifti import as_bytes

if TYPE_CHECKING:
    from ipyniivue import NiiVue

WINDOW_HU = (-160.0, 240.0)
WASH_FROM, WASH_TO = 0.1, 1.12
"""Of the reference dose: below the first the wash is transparent, at the second its scale ends."""
OPACITY = 0.45
OPTIONS = {"is_radiological_convention": True, "sagittal_nose_left": True, "is_colorbar": True}
"""As the viewer in the browser shows planes: the patient's right is on the left."""


def planes(dose: Volume, ct: Volume | None, reference_gy: float) -> NiiVue:
    """Axial, coronal and sagittal planes that a notebook shows.

    Args:
        dose: in Gy.
        ct: in HU, on the dose's grid; without one the wash lies on black.
        reference_gy: the dose that the scale of the wash refers to.

    Raises:
        ValueError: ipyniivue is not installed.
    """
    try:
        from ipyniivue import NiiVue
    except ImportError as error:
        raise ValueError("this needs ipyniivue: pip install 'anydose[notebook]'") from error
    if ct is None:
        ct = Volume(np.full(dose.array.shape, WINDOW_HU[0], dtype=np.float32), dose.grid, "HU")
    behind: dict[str, Any] = {"name": "ct.nii.gz", "data": as_bytes(ct.array, ct.grid)}
    behind |= {"colormap": "gray", "colorbar_visible": False}
    behind |= dict(zip(("cal_min", "cal_max"), WINDOW_HU, strict=True))
    wash: dict[str, Any] = {"name": "dose in Gy.nii.gz", "data": as_bytes(dose.array, dose.grid)}
    wash |= {"colormap": "jet", "opacity": OPACITY}
    wash |= {"cal_min": WASH_FROM * reference_gy, "cal_max": WASH_TO * reference_gy}
    shown: NiiVue = NiiVue(**OPTIONS)
    shown.load_volumes([behind, wash])
    return shown
