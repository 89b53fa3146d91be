"""Other people's contour tools on our structure sets, and ours on theirs; pip install rt-utils."""

import numpy as np
import pytest
from linear_patient import MIDDLE_MM, patient

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.dicom.read import read_case
from anydose.io.dicom.struct import masks, read_rois
from anydose.io.dicom.write import write_study

rt_utils = pytest.importorskip("rt_utils", reason="pip install rt-utils")


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def ball(radius_mm: float, hole_mm: float) -> Case:
    """A ball of `radius_mm` with a hollow of `hole_mm`, in voxels of 1 x 1 x 2 mm."""
    grid = Grid((40, 80, 80), (1.0, 1.0, 2.0), (-39.5, -39.5, -39.0))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    away = np.linalg.norm(grid.to_mm(index), axis=-1)
    ct = Volume(np.where(away < 38, 20, -1000).astype(np.float32), grid, "HU")
    return Case("ball", grid, {"Ball": (away < radius_mm) & (away >= hole_mm)}, ct=ct)


def theirs(study, name):
    built = rt_utils.RTStructBuilder.create_from(
        dicom_series_path=str(study / "CT"), rt_struct_path=str(study / "RTSTRUCT.dcm")
    )
    return built.get_roi_mask_by_name(name).transpose(2, 0, 1)


def test_rt_utils_changes_the_volume_of_a_hollow_ball(tmp_path):
    """Where the peer is not right: it fills every voxel that a contour touches, on both sides of a wall."""
    case = ball(30.0, 20.0)
    write_study(case, tmp_path)
    analytic_cc = 4 / 3 * np.pi * (30.0**3 - 20.0**3) / 1000
    ours = read_case(tmp_path).structures["Ball"]
    other = theirs(tmp_path, "Ball")
    assert (ours == case.structures["Ball"]).all()
    assert ours.sum() * case.grid.voxel_cc == pytest.approx(analytic_cc, rel=0.01)
    assert other.sum() * case.grid.voxel_cc != pytest.approx(analytic_cc, rel=0.03)


def test_a_structure_set_that_rt_utils_wrote_is_read(tmp_path):
    """Its contours run through the centres of the border voxels: the half of the border that lies on them is
    undecided, the inside is not."""
    case = ball(30.0, 0.0)
    write_study(case, tmp_path / "study")
    built = rt_utils.RTStructBuilder.create_new(dicom_series_path=str(tmp_path / "study" / "CT"))
    built.add_roi(mask=case.structures["Ball"].transpose(1, 2, 0), name="Ball")
    built.save(str(tmp_path / "theirs"))
    mask = masks(read_rois(tmp_path / "theirs.dcm"), case.grid)[0]["Ball"]
    assert not (mask & ~case.structures["Ball"]).any()
    assert dice(mask, case.structures["Ball"]) > 0.95


def test_rt_utils_moves_structures_on_pixels_that_are_not_square(tmp_path):
    """Where the peer is not right: it takes PixelSpacing's row value (1.5 mm) for the columns' 2 mm."""
    case = patient()
    write_study(case, tmp_path)

    def off_mm(mask):
        return np.abs(case.grid.to_mm(np.argwhere(mask).mean(axis=0)) - MIDDLE_MM).max()

    assert off_mm(read_case(tmp_path).structures["PTV_60"]) < 0.1
    assert off_mm(theirs(tmp_path, "PTV_60")) > 5
