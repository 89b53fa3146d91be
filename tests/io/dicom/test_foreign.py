"""Studies as other systems write them: contours, acquisitions, files and names that are not plain."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from linear_patient import patient
from pydicom.uid import generate_uid

from anydose.case.grid import Grid
from anydose.io.dicom.contours import rasterise
from anydose.io.read import read_case

GRID = Grid((10, 60, 60), (1.0, 1.0, 3.0))


def circle(x: float, y: float, radius: float, z: float, count: int = 120) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle), np.full(count, z)])


def volume_mm3(mask: np.ndarray) -> float:
    return float(mask.sum() * np.prod(GRID.spacing_mm))


def test_lobes_that_overlap_in_part_are_one_structure() -> None:
    slices = range(2, 8)
    contours = [circle(x, 30, 10, 3.0 * k) for k in slices for x in (25, 35)]
    mask, said = rasterise(contours, GRID)
    each = [rasterise([circle(x, 30, 10, 3.0 * k) for k in slices], GRID)[0] for x in (25, 35)]
    assert np.array_equal(mask, each[0] | each[1])
    assert said == ["12 contours that overlap in part taken together"]


def test_what_xor_contours_both_enclose_is_left_out() -> None:
    contours = [circle(x, 30, 10, 6.0) for x in (25, 35)]
    each = [rasterise([c], GRID)[0] for c in contours]
    assert np.array_equal(rasterise(contours, GRID, xor=True)[0], each[0] ^ each[1])


@pytest.mark.parametrize(("dx", "radius"), [(0.2, 10.0), (0.0, 9.85)])
def test_a_contour_drawn_twice_encloses_what_one_does(dx: float, radius: float) -> None:
    mask, said = rasterise([circle(30, 30, 10, 6.0), circle(30 + dx, 30, radius, 6.0)], GRID)
    assert np.array_equal(mask, rasterise([circle(30, 30, 10, 6.0)], GRID)[0])
    assert said == ["1 contour drawn again within less than a pixel ignored"]


def test_a_hole_in_a_lobe_stays_a_hole_and_a_thin_wall_a_wall() -> None:
    lobes = [circle(25, 30, 10, 6.0), circle(35, 30, 10, 6.0)]
    mask, _ = rasterise([*lobes, circle(21, 30, 3, 6.0)], GRID)
    whole, hole = rasterise(lobes, GRID)[0], rasterise([circle(21, 30, 3, 6.0)], GRID)[0]
    assert np.array_equal(mask, whole & ~hole)
    wall, said = rasterise([circle(30, 30, 20, 6.0), circle(30, 30, 18.5, 6.0)], GRID)
    outer, inner = (rasterise([circle(30, 30, radius, 6.0)], GRID)[0] for radius in (20, 18.5))
    assert np.array_equal(wall, outer & ~inner) and said == []


def test_contours_half_way_between_slices_keep_centroid_and_volume() -> None:
    contours = [circle(30, 30, 10, 3.0 * k + 1.5) for k in range(2, 7)]
    mask, said = rasterise(contours, GRID)
    middle = GRID.to_mm(np.argwhere(mask).mean(axis=0))
    assert np.allclose(middle, (30, 30, 3.0 * 4 + 1.5), atol=0.05)
    one_slice = volume_mm3(rasterise([circle(30, 30, 10, 6.0)], GRID)[0])
    assert volume_mm3(mask) == pytest.approx(5 * one_slice, rel=0.01)
    assert said == ["contours half-way between slices: the slices are interpolated between them"]
    single, _ = rasterise(contours[:1], GRID)
    assert volume_mm3(single) == pytest.approx(one_slice, rel=0.01)


def second_acquisition(study: Path, number: int | None = 2) -> None:
    """Slices half-way between those of the series, of water, in the same series and frame."""
    for path in sorted((study / "CT").glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.AcquisitionNumber = 1
        dataset.save_as(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + float(dataset.SliceThickness) / 2]
        dataset.AcquisitionNumber = number
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path.with_name(f"B{path.name}"))


def test_of_two_acquisitions_in_a_series_the_structures_tell(study: Path) -> None:
    plain = read_case(study)
    second_acquisition(study)
    read = read_case(study)
    assert read.grid.matches(plain.grid)
    assert read.ct is not None and plain.ct is not None and np.array_equal(read.ct.array, plain.ct.array)
    assert any("another acquisition in the same series passed over" in s for s in read.inferred)


def test_two_acquisitions_that_nothing_tells_apart_are_refused(study: Path) -> None:
    second_acquisition(study)
    path = study / "RTSTRUCT.dcm"
    dataset = pydicom.dcmread(path)
    series = (
        dataset.ReferencedFrameOfReferenceSequence[0]
        .RTReferencedStudySequence[0]
        .RTReferencedSeriesSequence[0]
    )
    del series.ContourImageSequence
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            del contour.ContourImageSequence
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"acquisitions 1 .* stand one through the other"):
        read_case(study)


def test_what_desktops_leave_behind_is_passed_over(study: Path) -> None:
    (study / "CT" / "._CT_0001.dcm").write_bytes(b"\0\5\x16\7")
    (study / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert read_case(study).structures


def test_an_rtstruct_without_preamble_is_read_and_said(study: Path) -> None:
    path = study / "RTSTRUCT.dcm"
    plain = read_case(study)
    dataset = pydicom.dcmread(path)
    bare = pydicom.Dataset(dataset)
    pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[128:132] != b"DICM"
    read = read_case(study)
    assert "RTSTRUCT.dcm: has no DICOM preamble, read as a bare dataset" in read.inferred
    assert all(np.array_equal(read.structures[n], m) for n, m in plain.structures.items())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="RTSTRUCT.dcm: "):
        read_case(study)


def test_a_backslash_in_a_name_is_no_list(study: Path) -> None:
    path = study / "RTSTRUCT.dcm"
    dataset = pydicom.dcmread(path)
    dataset.StructureSetROISequence[-1].ROIName = ["a", "b"]
    dataset.save_as(path)
    assert "a/b" in read_case(study).structures


def test_the_frame_of_reference_may_stand_in_its_own_sequence(study: Path) -> None:
    path = study / "RTSTRUCT.dcm"
    dataset = pydicom.dcmread(path)
    for roi in dataset.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    if "FrameOfReferenceUID" in dataset:
        del dataset.FrameOfReferenceUID
    dataset.save_as(path)
    assert set(read_case(study).structures) == set(patient().structures)
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    dataset.save_as(path)
    with pytest.raises(ValueError, match="lies in frame of reference 1.2.3"):
        read_case(study)


def test_two_doses_of_a_series_are_listed_by_what_tells_them_apart(study: Path) -> None:
    dataset = pydicom.dcmread(study / "RTDOSE.dcm")
    first = dataset.SOPInstanceUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.save_as(study / "RTDOSE_2.dcm")
    with pytest.raises(ValueError) as error:
        read_case(study)
    assert str(first) in str(error.value) and str(dataset.SOPInstanceUID) in str(error.value)
    assert read_case(study, series=[str(first)]).dose is not None


def test_a_slice_of_another_frame_is_named(study: Path) -> None:
    path = study / "CT" / "CT_0002.dcm"
    dataset = pydicom.dcmread(path)
    dataset.FrameOfReferenceUID = "1.2.3"
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"in 2 frames of reference or orientations; CT_0002.dcm"):
        read_case(study)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmtk is not installed")
def test_jpeg_lossless_slices_are_read_or_the_remedy_named(study: Path) -> None:
    plain = read_case(study).ct
    for path in (study / "CT").glob("*.dcm"):
        subprocess.run(["dcmcjpeg", "+e1", str(path), str(path)], check=True)
    try:
        import gdcm  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"pip install 'anydose\[jpeg\]'"):
            read_case(study)
        return
    read = read_case(study).ct
    assert plain is not None and read is not None and np.array_equal(plain.array, read.array)


def test_beams_beyond_a_turn_are_refused(study: Path) -> None:
    with pytest.raises(ValueError, match="gantry angles from -360 to 360"):
        read_case(study, beams="0,90,400")


def test_a_bare_rtdose_is_read(study: Path) -> None:
    plain = read_case(study).dose
    dataset = pydicom.dcmread(study / "RTDOSE.dcm")
    bare = pydicom.Dataset(dataset)
    pydicom.dcmwrite(
        study / "RTDOSE.dcm", bare, implicit_vr=True, little_endian=True, enforce_file_format=False
    )
    read = read_case(study).dose
    assert plain is not None and read is not None and np.array_equal(plain.array, read.array, equal_nan=True)


def test_a_slice_whose_ct_numbers_run_backwards_is_refused(study: Path) -> None:
    path = sorted((study / "CT").iterdir())[4]
    image = pydicom.dcmread(path)
    image.RescaleSlope = "-1"
    image.save_as(path)
    with pytest.raises(ValueError, match=rf"{path.name}: RescaleSlope -1"):
        read_case(study)


def test_a_name_of_thousands_of_characters_is_cut_and_said(study: Path) -> None:
    path = study / "RTSTRUCT.dcm"
    struct = pydicom.dcmread(path)
    for roi in struct.StructureSetROISequence[1:]:
        roi.ROIName = "n" * 60_000
    struct.save_as(path)
    (study / "RTPLAN.dcm").unlink()
    case = read_case(study)
    assert {"n" * 128, "n" * 128 + " (2)"} <= case.structures.keys()
    assert sum("name cut to 128 of 60,000 characters" in sentence for sentence in case.inferred) == 2


def test_dicom_without_suffix_is_found_among_thousands_of_other_files(study: Path) -> None:
    clean = read_case(study)
    for path in list(study.rglob("*.dcm")):
        path.rename(path.with_suffix(""))
    for k in range(1100):
        (study / f"aa{k:04d}.txt").write_text("x")
    assert (read_case(study).ct.array == clean.ct.array).all()
    other = study.parent / "other"
    other.mkdir()
    for k in range(1100):
        (other / f"{k:04d}").write_text("x")
    with pytest.raises(ValueError, match=r"of more than 1,000 files; DICOM was looked for in the first ones"):
        read_case(other)
