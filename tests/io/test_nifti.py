"""NIfTI folders: a physical point keeps its value, whatever the axes; what states no place is refused."""

import gzip
import json
import tracemalloc
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from anydose.case.beams import Beam
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io import nifti
from anydose.io.plausible import suspicious
from anydose.io.read import read_case, read_dose

TURN = np.radians(20)
DIRECTIONS = {
    "axial": np.eye(3),
    "flipped": np.diag([-1.0, 1.0, -1.0]),
    "rotated": np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]]),
}


def linear(grid: Grid) -> Volume:
    """A dose that is a linear function of the place: 30 + x/10 + y/20 + z/40 Gy."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return Volume((grid.to_mm(index) @ [0.1, 0.05, 0.025] + 30).astype(np.float32), grid, "Gy")


def small_case(direction: np.ndarray) -> Case:
    grid = Grid((7, 9, 11), (2.0, 3.0, 4.0), (-20.0, 15.0, 7.5), direction)
    target = np.zeros(grid.shape, dtype=bool)
    target[2:5, 3:6, 4:8] = True
    ct = Volume(np.full(grid.shape, 20.0, dtype=np.float32), grid, "HU")
    return Case(
        "case",
        grid,
        {"PTV 70/a": target, "Body": np.ones(grid.shape, dtype=bool)},
        Prescription({"PTV 70/a": 70.0}, 35),
        (Beam((0.0,), (1.0, 2.0, 3.0)), Beam((10.0, 20.0, 30.0), (1.0, 2.0, 3.0), 5.0, 30.0, 1000.0, "arc")),
        ct,
        linear(grid),
        "FFS",
    )


@pytest.mark.parametrize("axes", DIRECTIONS)
def test_a_case_comes_back_and_a_point_keeps_its_dose(axes, tmp_path):
    case = small_case(DIRECTIONS[axes])
    nifti.write_case(case, tmp_path / "case")
    back = read_case(tmp_path / "case")
    assert back.beams == case.beams
    assert back.patient_position == "FFS"
    assert dict(back.prescription.levels_gy) == {"PTV 70_a": 70.0}
    assert (back.structures["PTV 70_a"] == case.structures["PTV 70/a"]).all()
    assert back.grid.matches(case.grid)
    point = case.grid.to_mm([3.0, 4.0, 5.0])
    z, y, x = np.rint(back.grid.to_index(point)).astype(int)
    assert back.dose.array[z, y, x] == pytest.approx(point @ [0.1, 0.05, 0.025] + 30, abs=1e-4)


def test_our_file_stands_where_nibabel_says(tmp_path):
    grid = Grid((7, 9, 11), (2.0, 3.0, 4.0), (-20.0, 15.0, 7.5), DIRECTIONS["rotated"])
    nifti.write_volume(linear(grid), tmp_path / "dose.nii.gz")
    image = nib.load(tmp_path / "dose.nii.gz")
    ras = image.affine @ [5, 4, 3, 1]
    assert image.get_fdata()[5, 4, 3] == pytest.approx(
        30 - ras[0] * 0.1 - ras[1] * 0.05 + ras[2] * 0.025, abs=1e-4
    )


def test_a_dose_on_another_grid_is_brought_to_the_case(tmp_path):
    case = small_case(DIRECTIONS["axial"])
    nifti.write_volume(linear(Grid((20, 20, 20), (3, 3, 3), (-30, 0, 0))), tmp_path / "other.nii.gz")
    dose = read_dose(tmp_path / "other.nii.gz", case)
    assert dose.grid == case.grid
    assert np.abs(dose.array - case.dose.array).max() < 1e-3


def test_what_states_no_place_is_refused(tmp_path):
    array = np.zeros((4, 4, 4), dtype=np.float32)
    image = nib.Nifti1Image(array, None)
    nib.save(image, tmp_path / "ct.nii")
    with pytest.raises(ValueError, match="neither qform nor sform"):
        read_case(tmp_path)
    shear = np.eye(4)
    shear[0, 1] = 0.3
    nib.save(nib.Nifti1Image(array, shear), tmp_path / "ct.nii")
    with pytest.raises(ValueError, match="orthonormal"):
        read_case(tmp_path)
    (tmp_path / "ct.nii").write_bytes(b"not a volume")
    with pytest.raises(ValueError, match="ct.nii"):
        read_case(tmp_path)


def test_masks_are_zero_and_one_on_the_grid_of_the_case(tmp_path):
    case = small_case(DIRECTIONS["axial"])
    nifti.write_case(case, tmp_path)
    nifti.write_volume(case.ct, tmp_path / "segmentations" / "Cord.nii.gz")
    with pytest.raises(ValueError, match=r"0 and 1 are accepted, a CT as ct\.nii\.gz"):
        read_case(tmp_path)
    moved = Grid(case.grid.shape, case.grid.spacing_mm, (0, 0, 0))
    nifti.write_volume(
        Volume(case.structures["Body"], moved, "1"), tmp_path / "segmentations" / "Cord.nii.gz"
    )
    with pytest.raises(ValueError, match="another grid"):
        read_case(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "an object is accepted"),
        ("{", "no JSON"),
        (json.dumps({"prescription": {}}), "'prescription'"),
        (json.dumps({"patient_position": "upside down"}), "HFS"),
        (json.dumps({"prescription_gy": {"PTV": 70}}), "no such structure"),
        (json.dumps({"beams": [{"gantry_deg": 0}]}), "isocentre_mm"),
    ],
)
def test_case_json_is_checked(text, message, tmp_path):
    case = small_case(DIRECTIONS["axial"])
    nifti.write_case(case, tmp_path)
    (tmp_path / "case.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_case(tmp_path)


def test_what_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "MAX_BYTES", 2**26)
    path = tmp_path / "ct.nii.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(8):
            file.write(bytes(2**24))
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 2 GB unpacked"):
        nifti.read_volume(path, "HU")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize("spacing_mm", [(5.422, 5.422, 3.0), (3.906, 3.906, 2.5), (1.1, 0.7, 1 / 3)])
def test_a_grid_of_decimals_comes_back_exactly_though_the_file_keeps_32_bits(tmp_path, spacing_mm):
    grid = Grid((2, 3, 4), spacing_mm, (-123.4, 56.78, 0.1))
    nifti.write_volume(Volume(np.zeros(grid.shape, np.float32), grid, "Gy"), tmp_path / "dose.nii.gz")
    found = nifti.read_volume(tmp_path / "dose.nii.gz", "Gy").grid
    assert found.origin_mm == grid.origin_mm
    for ours, theirs in zip(grid.spacing_mm, found.spacing_mm, strict=True):
        assert theirs == (ours if ours == round(ours, 6) else pytest.approx(ours, rel=1e-7))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_that_holds_more_than_its_header_states_is_refused(tmp_path, suffix):
    """One slice fewer in the header: all other numbers would be those of other voxels along an inner axis."""
    path = tmp_path / f"dose{suffix}"
    grid = Grid((6, 8, 10), (2.0, 2.0, 3.0))
    nifti.write_volume(Volume(np.ones(grid.shape, np.float32), grid, "Gy"), path)
    nifti.read_volume(path, "Gy")
    opened = gzip.open if suffix == ".nii.gz" else open
    with opened(path, "rb") as file:
        data = bytearray(file.read())
    data[44:46] = (7).to_bytes(2, "little")
    with opened(path, "wb") as file:
        file.write(data)
    with pytest.raises(ValueError, match=r"dose\.nii.* bytes, the header states"):
        nifti.read_volume(path, "Gy")


def test_ct_numbers_of_half_their_size_and_doses_below_zero_are_said():
    case = small_case(DIRECTIONS["axial"])
    ct, dose = case.ct.array.copy(), case.dose.array.copy()
    ct[0], dose[0, 0, 0] = -1000.0, -1e-30
    usual = replace(case, ct=replace(case.ct, array=ct))
    odd = replace(usual, ct=replace(case.ct, array=ct / 2), dose=replace(case.dose, array=dose))
    assert not [sentence for sentence in suspicious(usual) if "no air" in sentence or "below 0" in sentence]
    said = list(suspicious(odd))
    assert any("no air found" in sentence for sentence in said)
    assert any("1 voxels below 0 Gy, down to -1e-30 Gy" in sentence for sentence in said)
