"""What a notebook is given of a dose: the voxels, where they lie, and how they are shown."""

import gzip
import sys

import nibabel as nib
import numpy as np
import pytest
from scored_phantom import GRID, case, dose_gy

from anydose.case.volume import Volume
from anydose.io import notebook

pytest.importorskip("ipyniivue")


def shown(volume):
    """The NIfTI that the browser gets."""
    return nib.Nifti1Image.from_bytes(gzip.decompress(volume.get_state()["data"]))


@pytest.mark.parametrize("has_ct", [True, False])
def test_the_widget_holds_ct_and_dose_where_they_lie(has_ct):
    dose = Volume(dose_gy().astype(np.float32), GRID, "Gy")
    hu = np.random.default_rng(0).uniform(-1000, 1000, GRID.shape).astype(np.float32)
    widget = notebook.planes(dose, Volume(hu, GRID, "HU") if has_ct else None, case().rx_max_gy)
    behind, wash = widget.volumes
    assert np.array_equal(np.asarray(shown(wash).dataobj).transpose(2, 1, 0), dose.array)
    if has_ct:
        assert np.array_equal(np.asarray(shown(behind).dataobj).transpose(2, 1, 0), hu)
    for volume in (behind, wash):
        right, back, up = shown(volume).affine[:3, :3].diagonal()
        assert (-right, -back, up) == pytest.approx(GRID.spacing_mm)  # NIfTI is RAS, x and y turn round
    assert (wash.cal_min, wash.cal_max) == pytest.approx((6.0, 67.2))  # of 60 Gy
    assert wash.colormap == "jet" and 0 < wash.opacity < 1 and behind.opacity == 1
    assert widget.opts.is_radiological_convention and widget.opts.sagittal_nose_left


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(ValueError, match=r"anydose\[notebook\]"):
        notebook.planes(Volume(dose_gy(), GRID, "Gy"), None, 60.0)
