"""The modality table: what is drawn means the same physics after the way to the model's range and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anydose.case import beams, modality, names
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume

GRID = Grid((12, 20, 20), (4, 4, 4), (-38, -38, -22))


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    every = np.moveaxis(np.indices(GRID.shape), 0, -1)
    return ((GRID.to_mm(every) - centre) ** 2).sum(axis=-1) < radius**2


@pytest.fixture
def case() -> Case:
    """A small body with two nested targets and two organs, nothing of it symmetric."""
    body = ball((3, 0, 0), 33)
    structures = {
        "Body": body,
        "PTV_low": ball((6, 0, 2), 16),
        "PTV_high": ball((8, 2, 2), 9),
        "RightParotid": ball((-18, 4, 0), 7),
        "LeftParotid": ball((22, 0, 4), 6),
        "Heart": ball((0, 20, -8), 5),
    }
    hu = np.where(body, 20.0, -1000.0)
    dose = 70 * np.exp(-((np.indices(GRID.shape)[2] - 12.0) ** 2) / 40)
    return Case(
        name="small",
        grid=GRID,
        structures=structures,
        prescription=Prescription({"PTV_high": 70.0, "PTV_low": 56.0}, 35),
        beams=beams.equispaced(9, (6, 0, 2)),
        ct=Volume(hu, GRID, "HU"),
        dose=Volume(dose, GRID, "Gy"),
    )


@given(st.sampled_from(modality.NAMES), st.floats(0, 1), st.floats(20, 80))
def test_to_range_and_back_is_the_identity(name, part, reference):
    row = modality.TABLE[name]
    scale = reference if row.by_reference else 1.0
    value = np.float32((row.low + part * (row.high - row.low)) * scale)
    ranged = row.to_range(np.array([value]), reference)
    assert -1.0001 <= ranged[0] <= 1.0001
    back = row.from_range(ranged, reference)[0]
    assert back == pytest.approx(value, abs=2e-6 * scale * (row.high - row.low))


@pytest.mark.parametrize(
    ("name", "value", "ranged"),
    [
        ("ct", -1000, -1), ("ct", 0, 0), ("ct", 1000, 1), ("ct", 3000, 1), ("ct", -1024, -1),
        ("ptv", 0, -1), ("ptv", 35, 0), ("ptv", 70, 1),
        ("dose", 0, -1), ("dose", 70 * 1.15, 1), ("dose", 70 * 1.15 / 2, 0), ("dose", 70 * 2.3, 3),
        ("body", 0, -1), ("body", 1, 1), ("angle", 1, 1), ("oar", 1, 1), ("beam", 0.5, 0),
    ],
)  # fmt: skip
def test_the_range_maps_written_out(name, value, ranged):
    found = modality.TABLE[name].to_range(np.array([value], dtype=np.float32), 70.0)
    assert found[0] == pytest.approx(ranged, abs=1e-6)


def test_a_voxel_of_two_targets_has_the_higher_prescription(case):
    drawn = modality.TABLE["ptv"].draw(case)[0]
    high, low = case.structures["PTV_high"], case.structures["PTV_low"]
    assert (high & low).any()
    assert (drawn[high] == 70).all() and (drawn[low & ~high] == 56).all() and not drawn[~(high | low)].any()


def test_organs_stand_in_their_own_channels_and_the_rest_in_the_last(case):
    drawn = modality.TABLE["oar"].draw(case)
    for name in ("RightParotid", "LeftParotid", "Heart"):
        assert (drawn[names.organ_channel(name)] == case.structures[name]).all()
    assert drawn.sum() == sum(case.structures[n].sum() for n in ("RightParotid", "LeftParotid", "Heart"))


def test_every_row_draws_the_channels_that_it_states(case):
    drawn = modality.render(case)
    assert set(drawn) == set(modality.NAMES)
    for name, values in drawn.items():
        row = modality.TABLE[name]
        assert values.shape == (row.channels, *GRID.shape) and values.dtype == np.float32
        assert len(row.mirror) == row.channels
        assert sorted(row.mirror) == list(range(row.channels))


def test_outside_the_patient_is_the_background_value(case):
    drawn = modality.render(case)
    for name in ("ct", "ptv", "oar", "body", "angle"):
        assert (drawn[name][:, 0, 0, 0] == modality.TABLE[name].background(case.rx_max_gy)).all()


def mirror_image(case: Case) -> Case:
    """Left and right exchanged: arrays reversed along x, which GRID leaves in place; organs renamed."""
    pairs = {"RightParotid": "LeftParotid", "LeftParotid": "RightParotid"}
    return replace(
        case,
        structures={pairs.get(n, n): m[..., ::-1] for n, m in case.structures.items()},
        beams=tuple(replace(b, isocentre_mm=(-b.isocentre_mm[0], *b.isocentre_mm[1:])) for b in case.beams),
        ct=Volume(case.ct.array[..., ::-1], GRID, "HU"),
        dose=Volume(case.dose.array[..., ::-1], GRID, "Gy"),
    )


@pytest.mark.parametrize("name", modality.NAMES)
def test_the_mirrored_patient_is_drawn_as_the_mirrored_channels(case, name):
    row = modality.TABLE[name]
    here, there = row.draw(case), row.draw(mirror_image(case))
    assert not np.allclose(here, here[..., ::-1])
    assert np.allclose(there, here[list(row.mirror)][..., ::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ({"ct": None}, {"ct"}),
        ({"dose": None}, {"dose"}),
        ({"beams": ()}, {"beam", "angle"}),
    ],
)
def test_what_a_case_lacks_is_absent_not_zero(case, missing, gone):
    assert set(modality.render(replace(case, **missing))) == set(modality.NAMES) - gone


def test_a_bare_outline_has_a_body_alone(case):
    bare = Case("bare", GRID, {"Body": case.body})
    assert set(modality.render(bare)) == {"body"}


def test_without_ct_the_body_counts_as_water(case):
    water = replace(case, ct=Volume(np.where(case.body, 0.0, -1000.0), GRID, "HU"))
    draw = modality.TABLE["beam"].draw
    assert np.allclose(draw(replace(case, ct=None)), draw(water), atol=1e-6)


def test_a_couch_outside_the_body_attenuates_nothing(case):
    hu = np.array(case.ct.array)
    hu[:, -1] = 800.0  # a board behind the patient
    assert not case.body[:, -1].any()
    draw = modality.TABLE["beam"].draw
    assert np.array_equal(draw(replace(case, ct=Volume(hu, GRID, "HU"))), draw(case))


def test_a_subset_comes_in_table_order_and_a_wrong_name_is_named():
    assert modality.subset(["dose", "ct"]) == ("ct", "dose")
    with pytest.raises(ValueError, match="'mr'.*ct, ptv"):
        modality.subset(["ct", "mr"])
