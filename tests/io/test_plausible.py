"""Doses that come in: what lies beyond their grid is unknown, and what no patient has is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from linear_patient import patient

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io import gdphmm, nifti, openkbp
from anydose.io.check import check
from anydose.io.read import read_case, read_dose


@pytest.fixture
def case() -> Case:
    return patient()


def written(case: Case, array: np.ndarray, folder: Path) -> Path:
    path = folder / "dose.nii.gz"
    nifti.write_volume(Volume(array.astype(np.float32), case.grid, "Gy"), path)
    return path


def test_a_dose_on_the_grid_of_its_case_is_that_array(case: Case, tmp_path: Path) -> None:
    assert case.dose is not None
    read = read_dose(written(case, case.dose.array, tmp_path), case)
    assert np.array_equal(read.array, case.dose.array)


def test_beyond_its_grid_a_dose_is_unknown_and_not_zero(case: Case, study: Path, tmp_path: Path) -> None:
    """An RTDOSE without its upper frames: unknown above, unchanged below."""
    path = study / "RTDOSE.dcm"
    whole = read_dose(path, case)
    dataset = pydicom.dcmread(path)
    kept = int(dataset.NumberOfFrames) // 2
    dataset.PixelData = dataset.pixel_array[:kept].tobytes()
    dataset.NumberOfFrames, dataset.GridFrameOffsetVector = kept, dataset.GridFrameOffsetVector[:kept]
    dataset.save_as(path)
    part = read_dose(path, case)
    known = ~np.isnan(part.array)
    assert 0 < known.mean() < 1 and np.array_equal(part.array[known], whole.array[known])
    read = read_case(study)
    assert read.dose is not None and np.isnan(read.dose.array).any()
    sentence = next(s for s in read.inferred if s.startswith("dose: its grid covers"))
    assert "beyond it the dose is unknown" in sentence
    assert sentence in next(iter(check(study))).findings
    drawn = modality.TABLE["dose"].draw(read)
    assert drawn is not None and np.isfinite(drawn).all()
    coarse = read.on(read.grid.with_spacing((8.0, 8.0, 8.0)))
    assert coarse.dose is not None and 0 < np.isnan(coarse.dose.array).mean() < 1


def test_a_dose_that_does_not_meet_the_case_is_refused(case: Case, tmp_path: Path) -> None:
    assert case.dose is not None
    x, y, z = case.grid.origin_mm
    away = Volume(case.dose.array, replace(case.grid, origin_mm=(x + 5000, y, z)), "Gy")
    nifti.write_volume(away, tmp_path / "away.nii.gz")
    with pytest.raises(ValueError, match="away.nii.gz: the dose's grid, centred .* does not meet the case"):
        read_dose(tmp_path / "away.nii.gz", case)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda gy: gy - 60, "never negative"),
        (lambda gy: gy * 100, "--dose-unit cGy reads centigray; --allow-dose-above"),
        (lambda gy: np.where(gy == gy.max(), 1e6, gy), "a dose of 1e.06 Gy for"),
        (lambda gy: np.where(gy == gy.max(), np.nan, gy), "not a finite number"),
        (lambda gy: np.where(gy == gy.max(), np.inf, gy), "not a finite number"),
    ],
    ids=["negative", "cGy", "huge", "nan", "inf"],
)
def test_an_impossible_dose_is_refused_as_a_file_and_in_a_case(
    case: Case, change, complaint, tmp_path: Path
) -> None:
    assert case.dose is not None
    nifti.write_case(replace(case, dose=None), tmp_path / "p")
    path = written(case, change(case.dose.array), tmp_path / "p")
    with pytest.raises(ValueError, match=complaint):
        read_dose(path, case)
    with pytest.raises(ValueError, match=complaint):
        read_case(tmp_path / "p")


def test_the_user_says_otherwise(case: Case, tmp_path: Path) -> None:
    assert case.dose is not None
    nifti.write_case(replace(case, dose=None), tmp_path / "p")
    path = written(case, case.dose.array * 100, tmp_path / "p")
    assert np.allclose(read_dose(path, case, unit="cGy").array, case.dose.array, atol=1e-4)
    again = read_case(tmp_path / "p", dose_unit="cGy").dose
    assert again is not None and np.allclose(again.array, case.dose.array, atol=1e-4)
    high = float(case.dose.array.max()) * 100
    assert read_dose(path, case, allow_above_gy=high + 1).array.max() == pytest.approx(high)
    with pytest.raises(ValueError, match="--dose-unit mGy: Gy or cGy"):
        read_dose(path, case, unit="mGy")
    with pytest.raises(ValueError, match=r"a dose of .* Gy; up to 10 Gy|up to 10 Gy"):
        read_dose(path, case, unit="cGy", allow_above_gy=10)


def test_an_rtdose_states_its_unit(case: Case, study: Path) -> None:
    plain = read_dose(study / "RTDOSE.dcm", case).array
    assert np.array_equal(read_dose(study / "RTDOSE.dcm", case, unit="cGy").array, plain)


def test_an_absurd_ct_is_refused(case: Case, tmp_path: Path) -> None:
    nifti.write_case(case, tmp_path / "p")
    assert case.ct is not None
    metal = case.ct.array.copy()
    metal[0, 0, 0] = 1e30
    nifti.write_volume(Volume(metal, case.grid, "HU"), tmp_path / "p" / "ct.nii.gz")
    with pytest.raises(ValueError, match="CT numbers from"):
        read_case(tmp_path / "p")


@pytest.mark.parametrize(("mm", "found"), [(100.0, "voxels of"), (0.003, "voxels of"), (0.0, "positive")])
def test_absurd_voxels_are_refused(phantom: Case, mm: float, found: str, tmp_path: Path) -> None:
    openkbp.write_case(phantom, tmp_path / "pt_1")
    (tmp_path / "pt_1" / "voxel_dimensions.csv").write_text(f"{mm}\n{mm}\n{mm}\n")
    with pytest.raises(ValueError, match=found):
        read_case(tmp_path / "pt_1")


@pytest.mark.parametrize("scale", [0.0, -1e-4, np.nan, np.inf])
def test_a_gdphmm_scale_is_positive(case: Case, scale: float, tmp_path: Path) -> None:
    path = tmp_path / "001+A+MOS_1.npz"
    gdphmm.write_case(case, path)
    plan = gdphmm._load(path) | {"dose_scale": scale}
    np.savez_compressed(path, np.array(plan, dtype=object))
    with pytest.raises(ValueError, match="dose_scale .* a positive number"):
        read_case(path)


def test_a_predictions_folder_is_the_dose_it_holds(case: Case, study: Path, tmp_path: Path) -> None:
    assert case.dose is not None
    written(case, case.dose.array, tmp_path)
    (tmp_path / "run.json").write_text(
        json.dumps({"case": case.name, "options": {}, "outputs": ["dose.nii.gz"]})
    )
    (tmp_path / "okbp.csv").write_text(",data\n")
    assert np.array_equal(read_dose(tmp_path, case).array, case.dose.array)


def test_a_case_of_another_frame_of_reference_has_no_dose_of_this_one(case: Case, study: Path) -> None:
    read = read_case(study)
    other = replace(read, source=replace(read.source, frame_of_reference_uid="1.2.3"))
    with pytest.raises(ValueError, match="another frame of reference"):
        read_dose(study, other)
