"""A physical point keeps its dose through read -> prediction grid -> RTDOSE -> read, however the patient
lies."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from linear_patient import AXES, MIDDLE_MM, dose_at, patient
from patients import phantom_of
from scipy import ndimage

from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.dicom import write
from anydose.io.dicom.dose import read_rtdose
from anydose.io.dicom.source import DicomSource
from anydose.io.dicom.write import dose_grid, write_rtdose, write_study
from anydose.io.read import read_case, read_dose


def turned(axis, degrees):
    """Rotation matrix about `axis` (Rodrigues)."""
    k = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


TURNS = {"straight": np.eye(3), "turned": turned((1, 2, 3), 17.0), "mirrored": np.diag([1.0, 1.0, -1.0])}
POINTS = MIDDLE_MM + np.random.default_rng(3).uniform(-11, 11, (200, 3))


def at_points(dose: Volume) -> np.ndarray:
    return ndimage.map_coordinates(dose.array, dose.grid.to_index(POINTS).T, order=1)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("position", AXES)
def test_a_physical_point_keeps_its_dose(position, turn, tmp_path):
    original = patient(position, TURNS[turn], (2.0, 1.3, 3.1))
    write_study(original, tmp_path / "study")
    case = read_case(tmp_path / "study")
    assert case.patient_position == position
    worst = np.abs(at_points(case.dose) - dose_at(POINTS)).max()
    for k, (text, bits) in enumerate([("ct", 32), ("2.5", 16), ("reference", 16), ("1.7", 32)]):
        predicted = case.dose.resample(dose_grid(case, text))
        write_rtdose(predicted, case, tmp_path / f"{k}.dcm", bits=bits)
        own_grid = read_rtdose(tmp_path / f"{k}.dcm", case.source.frame_of_reference_uid)
        assert own_grid.grid.matches(predicted.grid) or turn == "mirrored"
        for dose in (own_grid, read_dose(tmp_path / f"{k}.dcm", case)):
            worst = max(worst, np.abs(at_points(dose) - dose_at(POINTS)).max())
    assert worst < 0.001 * original.dose.array.max()


@pytest.mark.parametrize("position", AXES)
def test_beams_and_masks_come_back(position, tmp_path):
    original = patient(position, TURNS["turned"])
    write_study(original, tmp_path / "study")
    case = read_case(tmp_path / "study")
    assert case.inferred == ()
    assert case.prescription == original.prescription
    for name, mask in original.structures.items():
        assert (case.structures[name] == mask).all(), name
    for beam, was in zip(case.beams, original.beams, strict=True):
        assert (beam.name, beam.couch_deg, beam.collimator_deg) == (
            was.name,
            was.couch_deg,
            was.collimator_deg,
        )
        assert set(was.gantry_deg) <= set(beam.gantry_deg)
        assert np.abs(np.array(beam.isocentre_mm) - was.isocentre_mm).max() < 1e-4
    arc = np.unwrap(case.beams[2].gantry_deg, period=360)
    assert np.abs(np.diff(arc)).max() <= 5 + 1e-9
    assert arc[-1] - arc[0] == pytest.approx(300 - 360 - 179)


def test_simpleitk_sees_the_same_dose_at_the_same_place(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="pip install SimpleITK")
    case = patient("HFP", TURNS["turned"])
    for bits in (16, 32):
        write_rtdose(case.dose, case, tmp_path / "dose.dcm", bits=bits)
        image = sitk.ReadImage(str(tmp_path / "dose.dcm"), sitk.sitkFloat64)
        image *= float(pydicom.dcmread(tmp_path / "dose.dcm").DoseGridScaling)
        inside = [p for p in POINTS if np.all(np.abs(p - MIDDLE_MM) < 9)]
        seen = [image.EvaluateAtPhysicalPoint(p.tolist()) for p in inside]
        assert np.abs(np.array(seen) - dose_at(inside)).max() < 0.01


def test_highdicom_sees_the_same_ct(tmp_path):
    highdicom = pytest.importorskip("highdicom", reason="pip install highdicom")
    original = patient("FFS", TURNS["turned"])
    write_study(original, tmp_path / "study")
    slices = [pydicom.dcmread(p) for p in sorted((tmp_path / "study" / "CT").iterdir())]
    volume = highdicom.image.get_volume_from_series(slices)
    case = read_case(tmp_path / "study")
    for index in np.argwhere(original.ct.array == 900.0):
        point = case.grid.to_mm(index)
        seen = volume.map_reference_to_indices(point[None], round_output=True)[0]
        assert volume.array[tuple(seen)] == 900.0 == case.ct.array[tuple(index)]


@pytest.mark.parametrize("bits", [16, 32])
def test_a_dose_is_kept_to_half_a_step(bits, tmp_path):
    grid = Grid((4, 5, 6), (2, 2, 2))
    gy = np.random.default_rng(0).uniform(0, 70, grid.shape).astype(np.float32)
    gy[0] = 0
    write_rtdose(Volume(gy, grid, "Gy"), patient(), tmp_path / "dose.dcm", bits=bits)
    back = read_rtdose(tmp_path / "dose.dcm").array
    assert np.abs(back - gy).max() <= 0.5 * 70 / (2**bits - 1) + 70 * 2**-23
    write_rtdose(Volume(np.zeros_like(gy), grid, "Gy"), patient(), tmp_path / "zero.dcm", bits=bits)
    assert not read_rtdose(tmp_path / "zero.dcm").array.any()
    for bad in (-1.0, np.nan, 2000.0):
        with pytest.raises(ValueError, match="0 to 1000 Gy is accepted"):
            write_rtdose(
                Volume(np.full_like(gy, bad), grid, "Gy"), patient(), tmp_path / "bad.dcm", bits=bits
            )


@pytest.mark.parametrize("position", ["HFS", "FFS"])  # the normal points to the head, and to the feet
@pytest.mark.parametrize("order", [1, -1])
def test_frames_that_state_the_patients_own_z_stand_where_relative_ones_do(position, order, tmp_path):
    """PS3.3 C.8.8.3.2: absolute offsets are z coordinates; along a normal to the feet they descend."""
    case = patient(position)
    path = tmp_path / "dose.dcm"
    write_rtdose(case.dose, case, path)
    relative = read_rtdose(path)
    dose = pydicom.dcmread(path)
    offsets = np.array(dose.GridFrameOffsetVector, dtype=float)
    along = np.sign(np.asarray(relative.grid.direction)[2, 2])
    z = float(dose.ImagePositionPatient[2]) + along * offsets
    pixels = dose.pixel_array[::order]
    x, y, _ = dose.ImagePositionPatient
    dose.ImagePositionPatient = [x, y, z[::order][0]]
    dose.GridFrameOffsetVector = [f"{value:.4f}" for value in z[::order]]
    dose.PixelData = np.ascontiguousarray(pixels).tobytes()
    dose.save_as(path)
    absolute = read_rtdose(path)
    assert absolute.grid.matches(relative.grid, 1e-3)
    assert np.abs(absolute.array - relative.array).max() < 1e-4


def test_dose_grids():
    case = patient()
    assert dose_grid(case, "ct") is case.grid
    assert dose_grid(case, "2.5").spacing_mm == (2.5, 2.5, 2.5)
    assert dose_grid(case, "4").spacing_mm == (4, 4, 4)
    for text in ("reference", "fine", "0", "nan"):
        with pytest.raises(ValueError, match="accepted|taken"):
            dose_grid(case, text)


def test_the_default_dose_grid_loses_nothing_in_the_body():
    """Its voxels are the case's about the body; where they would be too many, every k-th of them."""
    case = replace(phantom_of(0), source=DicomSource(format="dicom"))
    rng = np.random.default_rng(0)
    dose = Volume(rng.uniform(0, 70, case.grid.shape).astype(np.float32), case.grid, "Gy")
    grid = dose_grid(case)
    assert np.prod(grid.shape) < np.prod(case.grid.shape)
    back = dose.resample(grid).resample(case.grid, outside=float("nan"))
    assert np.array_equal(back.array[case.body], dose.array[case.body])


def test_a_large_body_is_written_coarser_on_its_own_voxel_centres(monkeypatch):
    case = replace(phantom_of(0), source=DicomSource(format="dicom"))
    for most in (10_000, 50_000):
        monkeypatch.setattr(write, "MOST_VOXELS", most)
        grid = dose_grid(case)
        assert grid.shape[1] * grid.shape[2] * grid.shape[0] <= 1.1 * most
        index = case.grid.to_index(grid.to_mm(np.argwhere(np.ones(grid.shape, dtype=bool))))
        assert np.abs(index - np.rint(index)).max() < 1e-6
        known = Volume(np.ones(grid.shape, dtype=np.float32), grid, "Gy").resample(case.grid, outside=np.nan)
        assert np.isfinite(known.array[case.body]).all()
