"""A case refuses what does not fit together, and a block of it is the same patient."""

from __future__ import annotations

import numpy as np
import pytest

from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume

GRID = Grid((6, 7, 8), (3.0, 2.0, 4.0), (5, 6, 7))


def mask(*corner: int) -> np.ndarray:
    out = np.zeros(GRID.shape, dtype=bool)
    z, y, x = corner
    out[z : z + 2, y : y + 2, x : x + 2] = True
    return out


def small(**changes) -> Case:
    rng = np.random.default_rng(1)
    fields = {
        "name": "pt",
        "grid": GRID,
        "structures": {"Body": mask(1, 1, 1), "PTV70": mask(2, 3, 3), "PTV_boost": mask(2, 3, 4)},
        "prescription": Prescription({"PTV70": 70.0}, 35),
        "ct": Volume(rng.normal(size=GRID.shape), GRID, "HU"),
        "dose": Volume(rng.random(GRID.shape), GRID, "Gy"),
    }
    return Case(**(fields | changes))


def test_roles_targets_and_body():
    case = small()
    assert set(case.of_role("ptv")) == {"PTV70", "PTV_boost"}
    assert set(case.targets) == {"PTV70"}  # a target without a prescription is none
    assert (case.body == case.structures["Body"]).all()
    assert case.rx_max_gy == 70.0
    assert case.find("External") is case.structures["Body"]
    assert case.find("Brainstem") is None


def test_a_block_keeps_every_point_s_ct_dose_and_structures():
    case = small()
    part = case.block((2, 1, 3), (3, 4, 4))
    for step in np.ndindex(*part.grid.shape):
        there = tuple(np.rint(case.grid.to_index(part.grid.to_mm(step))).astype(int))
        assert part.ct.array[step] == case.ct.array[there]
        assert part.dose.array[step] == case.dose.array[there]
        for name, values in part.structures.items():
            assert values[step] == case.structures[name][there]


def test_a_block_beyond_the_grid_is_air_without_dose():
    part = small().block((-2, 0, 0), (2, 7, 8))
    assert (part.ct.array == -1000).all() and not part.dose.array.any()
    assert not any(m.any() for m in part.structures.values())


def test_a_block_of_a_case_without_ct_and_dose_has_none():
    part = small(ct=None, dose=None).block((0, 0, 0), (2, 2, 2))
    assert part.ct is None and part.dose is None


OTHER = Grid(GRID.shape, GRID.spacing_mm, (5, 6, 8))
NAN = np.full(GRID.shape, np.nan)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ct": Volume(np.zeros(GRID.shape), GRID, "Gy")}, "HU is needed"),
        ({"dose": Volume(np.zeros(GRID.shape), OTHER, "Gy")}, "dose lies on another grid"),
        ({"dose": Volume(NAN, GRID, "Gy")}, "dose holds a value that is not a number"),
        ({"structures": {"PTV70": np.zeros((2, 2, 2), bool)}}, r"\(2, 2, 2\), bool \(6, 7, 8\) is needed"),
        ({"structures": {"PTV70": np.zeros(GRID.shape)}}, "PTV70 is float64"),
        ({"structures": {"Body": mask(0, 0, 0)}}, "prescription for PTV70, but there is no such structure"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_patient_s_name(changes, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        small(**changes)
    assert changes.get("ct") or str(error.value).startswith("pt: ")


def test_two_bodies_are_refused_not_chosen_from():
    case = small(structures={"Body": mask(0, 0, 0), "Outline": mask(0, 0, 0), "PTV70": mask(2, 3, 3)})
    with pytest.raises(ValueError, match="several body structures \\(Body, Outline\\)"):
        _ = case.body


@pytest.mark.parametrize("dose", [0.0, -1.0, float("nan"), 7000.0])
def test_a_prescription_that_no_patient_gets_is_refused(dose):
    with pytest.raises(ValueError, match="between 0 and 200 Gy"):
        Prescription({"PTV": dose})


def test_a_case_without_prescription_has_no_reference_dose():
    with pytest.raises(ValueError, match="no prescription"):
        _ = small(prescription=Prescription()).rx_max_gy
