"""One dose, one number: histograms of shapes known on paper, read from contours, on voxels of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from anydose.case.case import Case
from anydose.case.grid import Floats, Grid
from anydose.case.volume import Volume
from anydose.io.dicom.contours import rasterise
from anydose.io.dicom.edges import edges
from anydose.io.dicom.struct import Roi
from anydose.score.dvh import structure_dvh

GRADIENT = np.array([0.6, 0.3, 0.2])  # Gy per mm
SPACINGS = ((4.0, 4.0, 2.5), (2.5, 2.5, 2.5), (3.1, 2.3, 2.5), (1.25, 1.25, 2.5))
Inside = Callable[[Floats, Floats, Floats], np.ndarray]


def circle(radius: float, z: float) -> Floats:
    turn = np.linspace(0, 2 * np.pi, 241)[:-1]
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full(len(turn), z)], axis=1)


def sphere(z: float) -> list[Floats]:
    return [circle(np.sqrt(30**2 - z**2), z)] if abs(z) < 30 else []


def cylinder(z: float) -> list[Floats]:
    return [circle(11.0, z)] if abs(z) < 25 else []


def shell(z: float) -> list[Floats]:
    """Between 18 and 20 mm about the axis: thinner than a voxel."""
    return [circle(20.0, z), circle(18.0, z)] if abs(z) < 25 else []


AREAS: dict[str, Inside] = {
    "sphere": lambda x, y, z: x**2 + y**2 + z**2 <= 30**2,
    "cylinder": lambda x, y, z: (x**2 + y**2 <= 11**2) & (abs(z) < 25),
    "shell": lambda x, y, z: (x**2 + y**2 <= 20**2) & (x**2 + y**2 >= 18**2) & (abs(z) < 25),
}


def contoured(make: Callable[[float], list[Floats]], spacing: tuple[float, float, float]) -> Case:
    """A case on a grid whose slices at z = -25 .. 25 end where the shapes do."""
    counts = [2 * int(40 / s) for s in spacing]
    grid = Grid(
        (counts[2], counts[1], counts[0]),
        spacing,
        tuple(s * (0.5 - n / 2) for s, n in zip(spacing, counts, strict=True)),
    )
    contours = []
    for k in range(grid.shape[0]):
        contours += make(float(grid.to_mm((k, 0, 0))[2]))
    roi = Roi(1, "Shape", "", "", tuple(contours))
    structures = {"Shape": rasterise(roi.contours, grid)[0]}
    return Case("shape", grid, structures, edges=edges([roi], structures, grid))


def linear(grid: Grid) -> Volume:
    return Volume(40.0 + sum(grid.along(GRADIENT, (0, 0, 0)), np.zeros(grid.shape)), grid, "Gy")


VOLUMES_CC = {
    "sphere": 4 / 3 * np.pi * 3.0**3,
    "cylinder": np.pi * 1.1**2 * 5.0,
    "shell": np.pi * (2.0**2 - 1.8**2) * 5.0,
}


def doses_on_paper(inside: Inside) -> Floats:
    """The doses of points 0.5 mm apart."""
    axis = np.arange(-31.75, 32, 0.5)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return (40 + GRADIENT[0] * x + GRADIENT[1] * y + GRADIENT[2] * z)[inside(x, y, z)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("make", [sphere, cylinder, shell])
def test_volume_and_doses_are_those_on_paper_within_half_a_percent(
    make: Callable[[float], list[Floats]], spacing: tuple[float, float, float]
) -> None:
    doses = doses_on_paper(AREAS[make.__name__])
    case = contoured(make, spacing)
    found = structure_dvh(case, linear(case.grid), "Shape")
    assert found.volume_cc == pytest.approx(VOLUMES_CC[make.__name__], rel=0.005)
    assert found.mean_gy == pytest.approx(doses.mean(), rel=0.005)
    for percent in (2, 50, 95, 98):
        at = found.dose_at_cc(percent / 100 * found.volume_cc)
        assert at == pytest.approx(np.percentile(doses, 100 - percent), rel=0.005), percent


def test_an_edge_stands_for_its_own_mask_alone() -> None:
    case = contoured(sphere, SPACINGS[0])
    part, mask = case.covered("Shape"), case.structures["Shape"]
    assert part.dtype == np.float32 and ((part > 0) & (part < 1)).sum() > 0
    assert part.sum() * case.grid.voxel_cc == pytest.approx(4 / 3 * np.pi * 3**3, rel=0.005)
    renamed = Case("r", case.grid, {"Renamed": mask}, edges=case.edges)
    assert np.array_equal(renamed.covered("Renamed"), part)
    other = Case("o", case.grid, {"Shape": mask.copy()}, edges=case.edges)
    assert other.covered("Shape").dtype == np.bool_


def test_every_file_of_a_prediction_has_the_same_score(tmp_path: Path) -> None:
    """The dose as NIfTI and as RTDOSE on its default grid, of a patient with contours."""
    from patients import phantom_of

    from anydose.io.dicom.write import dose_grid, write_rtdose, write_study
    from anydose.io.nifti import write_volume
    from anydose.io.read import read_case, read_dose
    from anydose.score.binding import bind, own_template
    from anydose.score.scoring import score

    write_study(phantom_of(0), tmp_path / "study")
    patient = read_case(tmp_path / "study")
    assert patient.edges, "contours are kept"
    level = np.zeros(patient.grid.shape, dtype=np.float32)
    for name, gy in sorted(patient.prescription.levels_gy.items(), key=lambda pair: pair[1]):
        level[patient.structures[name]] = gy
    dose = Volume(ndimage.gaussian_filter(level, 1.2) * patient.body, patient.grid, "Gy")
    write_volume(dose, tmp_path / "dose.nii.gz")
    write_rtdose(dose.resample(dose_grid(patient)), patient, tmp_path / "dose.dcm")
    bound = bind(patient, own_template(patient))
    found = [score(bound, read_dose(tmp_path / name, patient)) for name in ("dose.nii.gz", "dose.dcm")]
    assert found[0].percent == pytest.approx(found[1].percent, abs=0.5)
    for a, b in zip(found[0].targets, found[1].targets, strict=True):
        assert a.d95_gy == pytest.approx(b.d95_gy, abs=0.1)
