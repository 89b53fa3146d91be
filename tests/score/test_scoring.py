"""A scorecard on a case: missing items, totals, prescriptions (5.4 to 5.6), and the tensor twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scored_phantom import (
    BODY,
    CONFORMITY,
    CORD,
    CORD_MAX,
    COVERAGE,
    EMPTY,
    GRID,
    HEART,
    HOMOGENEITY,
    MISFIT,
    PTV,
    RIND,
    UNKNOWN,
    card,
    case,
    dose_gy,
    item,
)

from anydose.case.case import Prescription
from anydose.case.volume import Volume
from anydose.score.scorecard import Item, read_scorecard, templates
from anydose.score.scoring import hold, normalised, own_template, score
from anydose.score.structures import Wanted, matching


def test_the_total_is_the_sum_of_the_scores_and_the_maximum_of_their_curves() -> None:
    found = score(hold(case(), card(COVERAGE, CORD_MAX, RIND, CONFORMITY)), dose_gy())
    assert found.missing == ()
    assert found.total == pytest.approx(sum(r.score or 0 for r in found.items))
    assert found.maximum == 10 + 8 + 4 + 6
    covered = 100 * (dose_gy()[PTV] >= 57).mean()
    assert found.items[0].value == pytest.approx(covered)
    assert found.items[0].score == pytest.approx(covered / 10)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (HEART, "no structure Heart"),
        (EMPTY, "no points"),
        (UNKNOWN, "not known"),
        (MISFIT, "no volume"),
        (item("Gap", "MeanDose", (0, 1), (1, 0), output="Gy"), "empty"),
        (item("x", "MeanDose", (0, 1), (1, 0), output="Gy", comment="{<Heart>|3}"), "no structure Heart"),
    ],
)
def test_an_item_that_cannot_be_scored_is_reported_and_left_out_of_total_and_maximum(
    bad: Item, why: str
) -> None:
    with_gap = case(Gap=np.zeros(GRID.shape, dtype=bool))
    alone = score(hold(with_gap, card(COVERAGE)), dose_gy())
    found = score(hold(with_gap, card(COVERAGE, bad)), dose_gy())
    assert (found.total, found.maximum) == (alone.total, alone.maximum)
    row = found.items[1]
    assert (row.value, row.score, row.flag) == (None, None, "missing")
    assert why in row.why
    assert found.missing == (f"{row.structure} {row.metric}",)


def test_a_structure_that_matches_twice_is_missing_with_both_names() -> None:
    found = score(
        hold(case(spinalcord=CORD, SPINALCORD=CORD), card(replace(CORD_MAX, structure=Wanted("Spinalcord")))),
        dose_gy(),
    )
    assert "SPINALCORD, SpinalCord, spinalcord" in found.items[0].why


def test_several_bodies_make_only_the_metrics_that_need_one_missing() -> None:
    found = score(hold(case(External=BODY), card(COVERAGE, CONFORMITY)), dose_gy())
    assert found.missing == ("PTV ConformationNumber 57Gy",)
    assert "EXTERNAL" in found.items[1].why


def test_percent_of_dose_is_of_the_plans_prescription() -> None:
    relative = item("PTV", "VolumeAtDose", (0, 0), (100, 10), value=95.0, unit="%", output="%")
    found = score(hold(case(), card(relative, COVERAGE)), dose_gy())
    assert found.items[0].value == found.items[1].value


def test_a_prescription_that_disagrees_is_reported_with_the_items_it_concerns() -> None:
    other = replace(card(COVERAGE, CORD_MAX, CONFORMITY), dose_per_fraction_gy=2.3)
    (note,) = score(hold(case(), other), dose_gy()).warnings
    assert "60 Gy in 30" in note and "69 Gy" in note and "PTV V57Gy[%]" in note
    assert score(hold(case(), card(COVERAGE)), dose_gy()).warnings == ()


def test_rescaling_is_off_by_default_and_gives_a_scaled_plan_the_same_total() -> None:
    plan = replace(case(), prescription=Prescription({"PTV": 72.0}, 30))
    of = card(COVERAGE, CORD_MAX, RIND, CONFORMITY, HOMOGENEITY)
    plain = score(hold(case(), of), dose_gy())
    assert score(hold(plan, of), 1.2 * dose_gy()).total != pytest.approx(plain.total)
    assert score(hold(plan, of, rescale=True), 1.2 * dose_gy()).total == pytest.approx(plain.total)


def test_a_map_by_hand_names_the_case_s_structure() -> None:
    by = matching(case(), ["Heart=SpinalCord"])
    assert score(hold(case(), card(HEART), by), dose_gy()).items[0].matched == "SpinalCord"
    with pytest.raises(ValueError, match="SCORECARD=CASE"):
        matching(case(), ["Heart"])


def test_a_dose_in_another_unit_or_shape_is_refused() -> None:
    held = hold(case(), card(COVERAGE))
    with pytest.raises(ValueError, match="Gy is needed"):
        score(held, Volume(dose_gy(), GRID, "1"))
    with pytest.raises(ValueError, match="shape"):
        score(held, dose_gy()[1:])


def test_a_dose_elsewhere_is_refused_and_one_that_misses_a_structure_is_reported() -> None:
    held = hold(case(), card(COVERAGE, CORD_MAX))
    far = replace(GRID, origin_mm=(5000.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="frame of reference"):
        score(held, Volume(dose_gy(), far, "Gy"))
    near = Volume(dose_gy()[:, :18], GRID.crop((0, 0, 0), (20, 18, 22)), "Gy")
    found = score(held, near)
    assert found.items[0].flag != "missing"
    assert "outside the dose grid" in found.items[1].why


def test_normalising_finds_the_factor_with_the_highest_total_within_20_percent() -> None:
    held = hold(case(), card(COVERAGE, item("SpinalCord", "MaxDose", (20, 8), (45, 0), output="Gy")))
    factor, best = normalised(held, 0.9 * dose_gy())
    assert 0.8 <= factor <= 1.2
    totals = [float(score(held, f * 0.9 * dose_gy()).total) for f in np.linspace(0.8, 1.2, 41)]
    assert best.total >= max(totals) - 0.05


def test_normalising_leaves_excluded_items_out_of_the_search() -> None:
    low = item("SpinalCord", "MeanDose", (0, 50), (80, 1), output="Gy")
    held = hold(case(), card(COVERAGE, low))
    both, _ = normalised(held, dose_gy())
    without, found = normalised(held, dose_gy(), without=(1,))
    assert without > both
    assert len(found.items) == 2, "the score itself holds every item"


def test_normalising_does_not_give_an_item_up() -> None:
    """Without the -1000 at the zero-score point, losing the small item would pay."""
    small = item("SpinalCord", "MaxDose", (10, 1), (float(dose_gy()[CORD].max()) * 1.05, 0), output="Gy")
    factor, found = normalised(hold(case(), card(COVERAGE, small)), 0.95 * dose_gy())
    assert (found.items[1].score or 0) > 0


def test_the_packaged_template_is_chosen_by_the_structures_and_the_prescription() -> None:
    masks = {
        n: PTV for n in ("PTV70", "PTV63", "PTV56", "Brainstem", "LeftParotid", "RightParotid", "Mandible")
    }
    assert (
        "Head and neck"
        in own_template(replace(case(**masks), prescription=Prescription({"PTV70": 70.0}))).name
    )
    pelvis = case(Rectum=PTV, Bladder=PTV, Femur_Head_L=PTV, Femur_Head_R=PTV)
    assert "Prostate" in own_template(pelvis).name
    with pytest.raises(ValueError, match="no packaged scorecard"):
        own_template(replace(case(), structures={"Body": BODY}, prescription=Prescription()))


def test_the_result_as_text_and_json_names_what_is_missing() -> None:
    found = score(hold(case(), card(COVERAGE, HEART)), dose_gy())
    assert "not scored: Heart MeanDose[Gy]" in found.text()
    raw = found.to_json()
    assert raw["missing"] == ["Heart MeanDose[Gy]"] and raw["items"][1]["value"] is None
    assert (raw["total"], raw["maximum"]) == (found.total, found.maximum)


@pytest.mark.parametrize("name", sorted(templates()))
def test_the_lung_template_builds_its_ring_and_rind(name: str) -> None:
    found = score(hold(case(), read_scorecard(templates()[name])), dose_gy())
    built = [r for r in found.items if r.structure.startswith(("Ring", "Body rind"))]
    assert len(built) == (2 if name == "lung_60" else 0)
    assert all(r.value is not None and r.value > 0 for r in built)


def test_a_real_patient_keeps_its_score_under_its_own_dose(openkbp_root: Any) -> None:
    from anydose.io.openkbp import patients, read_case
    from anydose.score.challenge import dvh_metrics

    folder = next(
        p
        for split in ("validation", "train")
        for p in patients(openkbp_root, split)
        if p.name in ("pt_201", "pt_1")
    )
    patient = read_case(folder)
    found = score(hold(patient, own_template(patient)), patient.dose)
    official = dvh_metrics(patient.dose.array, patient.structures, 1000 * patient.grid.voxel_cc)
    for row in found.items:
        key = {"D99%[Gy]": "D_99 ", "D0.1cc[Gy]": "D_0.1_cc ", "MeanDose[Gy]": "mean "}[row.metric] + str(
            row.matched
        )
        assert row.value == pytest.approx(official[key], abs=0.6), "whole voxels against interpolated ranks"
    assert 0 < found.total < found.maximum
