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
from anydose.score.binding import bind, own_template
from anydose.score.hard_limit import HardLimit
from anydose.score.normalise import normalised
from anydose.score.scorecard import Item, Point, read_scorecard, templates
from anydose.score.scoring import score
from anydose.score.structures import StructureReference, matching


def test_the_total_is_the_sum_of_the_scores_and_the_maximum_of_their_curves() -> None:
    found = score(bind(case(), card(COVERAGE, CORD_MAX, RIND, CONFORMITY)), dose_gy())
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
    alone = score(bind(with_gap, card(COVERAGE)), dose_gy())
    found = score(bind(with_gap, card(COVERAGE, bad)), dose_gy())
    assert (found.total, found.maximum) == (alone.total, alone.maximum)
    row = found.items[1]
    assert (row.value, row.score, row.flag) == (None, None, "missing")
    assert why in row.why
    assert found.missing == (f"{row.structure} {row.metric}",)


def test_a_structure_that_matches_twice_is_missing_with_both_names() -> None:
    found = score(
        bind(
            case(spinalcord=CORD, SPINALCORD=CORD),
            card(replace(CORD_MAX, structure=StructureReference("Spinalcord"))),
        ),
        dose_gy(),
    )
    assert "SPINALCORD, SpinalCord, spinalcord" in found.items[0].why


def test_several_bodies_make_only_the_metrics_that_need_one_missing() -> None:
    found = score(bind(case(External=BODY), card(COVERAGE, CONFORMITY)), dose_gy())
    assert found.missing == ("PTV ConformationNumber 57Gy",)
    assert "EXTERNAL" in found.items[1].why


def test_percent_of_dose_is_of_the_plans_prescription() -> None:
    relative = item("PTV", "VolumeAtDose", (0, 0), (100, 10), value=95.0, unit="%", output="%")
    found = score(bind(case(), card(relative, COVERAGE)), dose_gy())
    assert found.items[0].value == found.items[1].value


def test_a_prescription_that_disagrees_is_reported_with_the_items_it_concerns() -> None:
    other = replace(card(COVERAGE, CORD_MAX, CONFORMITY), dose_per_fraction_gy=2.3)
    (note,) = score(bind(case(), other), dose_gy()).warnings
    assert "60 Gy in 30" in note and "69 Gy" in note and "PTV V57Gy[%]" in note
    assert score(bind(case(), card(COVERAGE)), dose_gy()).warnings == ()


def test_rescaling_is_off_by_default_and_gives_a_scaled_plan_the_same_total() -> None:
    plan = replace(case(), prescription=Prescription({"PTV": 72.0}, 30))
    of = card(COVERAGE, CORD_MAX, RIND, CONFORMITY, HOMOGENEITY)
    plain = score(bind(case(), of), dose_gy())
    assert score(bind(plan, of), 1.2 * dose_gy()).total != pytest.approx(plain.total)
    assert score(bind(plan, of, rescale=True), 1.2 * dose_gy()).total == pytest.approx(plain.total)


def test_a_map_by_hand_names_the_case_s_structure() -> None:
    by = matching(case(), ["Heart=SpinalCord"])
    assert score(bind(case(), card(HEART), by), dose_gy()).items[0].matched == "SpinalCord"
    with pytest.raises(ValueError, match="SCORECARD=CASE"):
        matching(case(), ["Heart"])


def test_a_dose_in_another_unit_or_shape_is_refused() -> None:
    bound = bind(case(), card(COVERAGE))
    with pytest.raises(ValueError, match="Gy is needed"):
        score(bound, Volume(dose_gy(), GRID, "1"))
    with pytest.raises(ValueError, match="shape"):
        score(bound, dose_gy()[1:])


def test_a_dose_elsewhere_is_refused_and_one_that_misses_a_structure_is_reported() -> None:
    bound = bind(case(), card(COVERAGE, CORD_MAX))
    far = replace(GRID, origin_mm=(5000.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="frame of reference"):
        score(bound, Volume(dose_gy(), far, "Gy"))
    near = Volume(dose_gy()[:, :18], GRID.crop((0, 0, 0), (20, 18, 22)), "Gy")
    found = score(bound, near)
    assert found.items[0].flag != "missing"
    assert "outside the dose grid" in found.items[1].why


def test_normalising_finds_the_factor_with_the_highest_total_within_20_percent() -> None:
    bound = bind(case(), card(COVERAGE, item("SpinalCord", "MaxDose", (20, 8), (45, 0), output="Gy")))
    factor, best = normalised(bound, 0.9 * dose_gy())
    assert 0.8 <= factor <= 1.2
    totals = [float(score(bound, f * 0.9 * dose_gy()).total) for f in np.linspace(0.8, 1.2, 41)]
    assert best.total >= max(totals) - 0.05


def test_normalising_leaves_excluded_items_out_of_the_search() -> None:
    low = item("SpinalCord", "MeanDose", (0, 50), (80, 1), output="Gy")
    bound = bind(case(), card(COVERAGE, low))
    both, _ = normalised(bound, dose_gy())
    without, found = normalised(bound, dose_gy(), without=(1,))
    assert without > both
    assert len(found.items) == 2, "the score itself holds every item"


def test_normalising_does_not_give_an_item_up() -> None:
    """Without the -1000 at the zero-score point, losing the small item would pay."""
    small = item("SpinalCord", "MaxDose", (10, 1), (float(dose_gy()[CORD].max()) * 1.05, 0), output="Gy")
    factor, found = normalised(bind(case(), card(COVERAGE, small)), 0.95 * dose_gy())
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
    found = score(bind(case(), card(COVERAGE, HEART)), dose_gy())
    assert "not scored: Heart MeanDose[Gy]" in found.text()
    raw = found.to_json()
    assert raw["missing"] == ["Heart MeanDose[Gy]"] and raw["items"][1]["value"] is None
    assert (raw["total"], raw["maximum"]) == (found.total, found.maximum)


@pytest.mark.parametrize("name", sorted(templates()))
def test_the_lung_template_builds_its_ring_and_rind(name: str) -> None:
    found = score(bind(case(), read_scorecard(templates()[name])), dose_gy())
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
    found = score(bind(patient, own_template(patient)), patient.dose)
    official = dvh_metrics(patient.dose.array, patient.structures, 1000 * patient.grid.voxel_cc)
    for row in found.items:
        key = {"D99%[Gy]": "D_99 ", "D0.1cc[Gy]": "D_0.1_cc ", "MeanDose[Gy]": "mean "}[row.metric] + str(
            row.matched
        )
        assert row.value == pytest.approx(official[key], abs=0.6), "whole voxels against interpolated ranks"
    assert 0 < found.total < found.maximum


def partly(rows: int) -> Volume:
    """The dose on a grid that ends after so many rows of y."""
    d, _, w = GRID.shape
    return Volume(dose_gy()[:, :rows], GRID.crop((0, 0, 0), (d, rows, w)), "Gy")


def on_grid(dose: Volume) -> Volume:
    return dose.resample(GRID, outside=float("nan"))


@pytest.mark.parametrize("make", [partly, lambda rows: on_grid(partly(rows))])
def test_where_the_dose_is_unknown_nothing_is_scored_and_the_share_is_said(make: Any) -> None:
    bound = bind(case(), card(COVERAGE, CORD_MAX, CONFORMITY))
    found = score(bound, make(19))
    cord = found.items[1]
    assert (cord.value, cord.score, cord.flag) == (None, None, "missing")
    share = 100 * CORD[:, :19].sum() / CORD.sum()
    assert f"covered in part by the dose grid ({share:.1f} %)" in cord.why
    assert found.part_known["SpinalCord"] == pytest.approx(share)
    assert found.items[2].flag == "missing", "the body leaves the dose grid too"
    assert found.maximum == 10 and "SpinalCord: covered in part" in found.text()
    whole = score(bound, Volume(dose_gy(), GRID, "Gy"))
    assert found.items[0].value == pytest.approx(whole.items[0].value)
    assert "outside the dose grid" in score(bound, make(17)).items[1].why


def test_a_target_or_limit_that_the_dose_misses_is_not_known_and_not_kept() -> None:
    of = replace(card(COVERAGE), limits=(HardLimit("SpinalCord", "D0.03cc[Gy]", at_most=45.0),))
    found = score(bind(case(), of), partly(10))
    assert found.limits[0].state == "not checked" and "dose grid" in found.limits[0].why
    assert found.targets[0].v95_percent is None and found.targets[0].d95_gy is None
    assert found.to_json()["total"] is None and "withheld" in found.summary()


def test_a_limit_without_a_structure_is_not_checked_never_kept() -> None:
    limits = (
        HardLimit("Heart", "MeanDose[Gy]", at_most=20.0),
        HardLimit("PTV", "D95%[Gy]", at_least=30.0),
        HardLimit("PTV", "D95%[Gy]", at_least=80.0),
    )
    found = score(bind(case(), replace(card(COVERAGE), limits=limits)), Volume(dose_gy(), GRID, "Gy"))
    assert [row.state for row in found.limits[:3]] == ["not checked", "kept", "broken"]
    assert found.limits[0].why == "no structure Heart in the case" and found.limits[0].value is None
    assert found.limits[2].excess == pytest.approx((80 - found.limits[2].value) / 80)
    assert "hard limits 2 kept, 1 broken, 1 not checked" in found.summary(), "the fourth is dose outside"


def test_a_card_of_which_less_than_half_is_scored_shows_no_total() -> None:
    large = replace(HEART, points=(Point(0.0, 11.0), Point(20.0, 0.0)))
    found = score(bind(case(), card(COVERAGE, large)), Volume(dose_gy(), GRID, "Gy"))
    assert found.scored_share == pytest.approx(10 / 21)
    assert found.summary().startswith("total withheld: only 48 %")
    raw = found.to_json()
    assert (raw["total"], raw["percent"], raw["maximum"]) == (None, None, 10)


def test_a_case_without_limits_of_its_own_has_its_prescriptions() -> None:
    found = score(bind(case(), card(COVERAGE)), Volume(dose_gy(), GRID, "Gy"))
    first = found.limits[0]
    assert (first.structure, first.metric, first.limit) == ("PTV", "D95%[Gy]", "at least 57 Gy")
    covered = dose_gy()[PTV] >= 0.95 * 60
    assert found.targets[0].v95_percent == pytest.approx(100 * covered.mean())


def nonsense(plan: np.ndarray, body: np.ndarray, rx_gy: float) -> dict[str, np.ndarray]:
    return {
        "uniform at prescription": np.where(body, rx_gy, 0.0),
        "no dose": np.zeros_like(plan),
        "shifted": np.roll(plan, 5, axis=2),
        "shifted along the patient": np.roll(plan, 7, axis=0),
    }


def test_nonsense_stands_below_the_plan_whatever_its_points() -> None:
    """Sparing alone gains points: the empty dose has more of them than the plan on this card."""
    sparing = item("SpinalCord", "MeanDose", (0, 90), (10, 0), output="Gy")
    bound = bind(case(), card(COVERAGE, sparing))
    plan = score(bound, Volume(dose_gy(), GRID, "Gy"))
    found = {
        name: score(bound, Volume(dose, GRID, "Gy")) for name, dose in nonsense(dose_gy(), BODY, 60.0).items()
    }
    assert found["no dose"].percent > plan.percent - 1
    for name, other in found.items():
        assert plan.standing < other.standing, name


def test_nonsense_stands_below_the_clinics_plan(openkbp_root: Any) -> None:
    from anydose.io.openkbp import patients, read_case

    folders = [p for split in ("validation", "train") for p in patients(openkbp_root, split)]
    whole = [p for p in folders if (p / "dose.csv").is_file() and (p / "possible_dose_mask.csv").is_file()]
    assert whole
    for patient in map(read_case, whole[:12]):
        assert patient.dose is not None and patient.body is not None
        bound = bind(patient, own_template(patient))
        plan = score(bound, patient.dose).standing
        for name, dose in nonsense(patient.dose.array, patient.body, patient.rx_max_gy).items():
            assert plan < score(bound, Volume(dose, patient.grid, "Gy")).standing, (patient.name, name)


def with_targets(**levels_gy: float) -> Any:
    """A head-and-neck patient as the GDP-HMM challenge names it, with these targets."""
    masks = {name: np.roll(PTV, 3 * k, axis=0) for k, name in enumerate(levels_gy)}
    organs = dict.fromkeys(("BrainStem", "SpinalCord", "Parotids", "Larynx", "Mandible"), CORD)
    return replace(case(), structures={"Body": BODY, **masks, **organs}, prescription=Prescription(levels_gy))


@pytest.mark.parametrize(
    "levels",
    [{"PTVHighOPT": 67.0}, {"PTV_High": 70.0, "PTV_Mid": 63.0, "PTV_Low": 56.0}, {"PTV 5412": 54.12}],
)
def test_a_card_fits_whatever_the_levels_and_names_of_the_targets(levels: dict[str, float]) -> None:
    patient = with_targets(**levels)
    of = own_template(patient)
    assert of.name == "Head and neck, any prescription levels"
    dose = np.full(GRID.shape, 20.0)
    for name, gy in sorted(levels.items(), key=lambda level: level[1]):
        dose[patient.structures[name]] = gy
    found = score(bind(patient, of), Volume(dose, GRID, "Gy"))
    rows = [row for row in found.items if row.structure in levels]
    assert len(rows) == 2 * len(levels) and all(row.flag == "pass" for row in rows)
    assert sum(row.maximum for row in rows) == pytest.approx(50), "points are shared among the targets"
    assert rows[0].value == pytest.approx(max(levels.values())), "in Gy, of the target's own level"
    stated = {row.structure: row.limit for row in found.limits}
    assert all(stated[name] == f"at least {0.95 * gy:g} Gy" for name, gy in levels.items())
    low = score(bind(patient, of), Volume(0.94 * dose, GRID, "Gy"))
    assert sum(row.state == "broken" for row in low.limits) == len(levels)


def test_a_lung_card_fits_with_the_challenges_name_of_the_lungs() -> None:
    organs = dict.fromkeys(("Total Lung-GTV", "Heart", "SpinalCord", "Esophagus"), CORD)
    masks = {"Body": BODY, "PTV_45": PTV, **organs}
    patient = replace(case(), structures=masks, prescription=Prescription({"PTV_45": 45.0}))
    of = own_template(patient)
    assert of.name == "Lung, any prescription"
    found = score(bind(patient, of), Volume(dose_gy(), GRID, "Gy"))
    assert not found.missing and found.items[3].matched == "Total Lung-GTV"


@pytest.mark.slow
def test_the_dose_from_ct_alone_stands_below_the_clinics_plan(openkbp_root: Any) -> None:
    """It has more points than the plan, 20 Gy off as it is."""
    from anydose.io.openkbp import patients, read_case
    from anydose.model.options import Options
    from anydose.predict import predict

    folders = [p for split in ("validation", "train") for p in patients(openkbp_root, split)]
    patient = read_case(next(p for p in folders if p.name in ("pt_201", "pt_1")))
    guess = predict("compact-hn", patient, Options(given=("ct",))).volume()
    bound = bind(patient, own_template(patient))
    assert score(bound, patient.dose).standing < score(bound, guess).standing
