"""The metric table: one test per row of the written specification (5.2), and the formulas beyond it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anydose.score.dvh import DVH
from anydose.score.metrics import TABLE, Definition, evaluate, ntcp, parse, text

TARGET = DVH(np.array([56.0, 58.0, 60.0, 62.0]), 1.0)  # 4 cc
BODY = DVH(np.array([56.0, 58.0, 60.0, 62.0, 61.0, 30.0, 29.0, 5.0, 4.0, 3.0]), 1.0)  # 10 cc
TOTAL_GY = 60.0


def value(metric: str, *args: object, **kwargs: object) -> float:
    return float(evaluate(Definition(metric, *args, **kwargs), TARGET, BODY, TOTAL_GY))  # type: ignore[arg-type]


@pytest.mark.parametrize(("metric", "dose"), [("MinDose", 56.0), ("MaxDose", 62.0), ("MeanDose", 59.0)])
def test_min_max_mean_dose_in_every_output_unit(metric: str, dose: float) -> None:
    assert value(metric, output="Gy") == pytest.approx(dose)
    assert value(metric, output="cGy") == pytest.approx(100 * dose)
    assert value(metric, output="%") == pytest.approx(100 * dose / TOTAL_GY)


def test_dose_at_volume_in_percent_and_cc() -> None:
    assert value("DoseAtVolume", 50.0, "%", "Gy") == 58.0
    assert value("DoseAtVolume", 2.0, "cc", "Gy") == value("DoseAtVolume", 2.0, "CC", "Gy") == 58.0


def test_dose_at_volume_takes_the_first_point_within_the_slack_of_a_thousandth() -> None:
    assert value("DoseAtVolume", 0.9995, "cc", "Gy") == 60.0
    assert value("DoseAtVolume", 0.998, "cc", "Gy") == 62.0


@pytest.mark.parametrize("unit", ["%", "cc"])
def test_dose_at_volume_near_100_is_the_minimum_and_near_0_the_maximum_whatever_the_unit(unit: str) -> None:
    assert value("DoseAtVolume", 99.9995, unit, "Gy") == 56.0
    assert value("DoseAtVolume", 0.0005, unit, "Gy") == 62.0
    large = DVH(np.arange(1.0, 301.0), 1.0)
    assert evaluate(Definition("DoseAtVolume", 100.0, "cc", "Gy"), large) == 1.0  # the quirk: not 200 Gy


def test_dose_at_volume_below_the_first_point_is_the_maximum() -> None:
    assert value("DoseAtVolume", 0.03, "cc", "Gy") == 62.0


def test_volume_at_dose_counts_the_dose_itself() -> None:
    assert value("VolumeAtDose", 60.0, "Gy", "%") == 50.0
    assert value("VolumeAtDose", 6000.0, "cGy", "cc") == 2.0
    assert value("VolumeAtDose", 100.0, "%", "CC") == 2.0


def test_volume_is_declared_and_never_computed() -> None:
    assert value("Volume", output="cc") == 0.0


def test_volume_of_regret_is_the_body_without_the_structure() -> None:
    assert value("VolumeOfRegret", 60.0, "Gy", "cc") == 1.0


def test_conformation_number_is_the_product_of_two_ratios() -> None:
    assert value("ConformationNumber", 60.0, "Gy") == pytest.approx(2.0**2 / (3.0 * 4.0))
    assert value("PaddickConformity", 60.0, "Gy") == value("ConformationNumber", 60.0, "Gy")


def test_conformation_number_with_a_zero_factor_is_missing() -> None:
    with pytest.raises(ValueError, match="zero"):
        value("ConformationNumber", 70.0, "Gy")


def test_conformity_index_is_the_treated_volume_over_the_structure() -> None:
    assert value("ConformityIndex", 60.0, "Gy") == 3.0 / 4.0
    assert value("RtogConformity", 60.0, "Gy") == 3.0 / 4.0


def test_homogeneity_index_defaults_to_1_and_99_percent() -> None:
    assert value("HomogeneityIndex", target=60.0, target_unit="Gy") == pytest.approx((62 - 56) / 60)
    assert value("HomogeneityIndex", target=6000.0, target_unit="cGy") == pytest.approx((62 - 56) / 60)
    assert value("HomogeneityIndex", high=30.0, low=60.0, target=60.0, target_unit="Gy") == pytest.approx(
        (60 - 58) / 60
    )


def test_homogeneity_index_in_percent_is_not_supported() -> None:
    with pytest.raises(ValueError, match="not supported"):
        value("HomogeneityIndex", output="%", target=60.0, target_unit="Gy")


def test_inhomogeneity_index() -> None:
    assert value("InhomogeneityIndex") == pytest.approx((62 - 56) / 59)


def test_modified_gradient_index_is_low_over_high_volume_of_the_named_structure() -> None:
    assert value("ModifiedGradientIndex", high=62.0, low=58.0) == 3.0 / 1.0


def test_dose_at_sub_volume_is_the_dose_at_the_rest() -> None:
    assert value("DoseAtSubVolume", 1.0, "cc", "Gy") == 56.0
    assert value("DoseAtSubVolume", 3.0, "cc", "Gy") == 60.0


def test_undefined_is_ignored() -> None:
    with pytest.raises(ValueError, match="ignored"):
        value("Undefined")


@pytest.mark.parametrize(
    "metric", ["VolumeOfRegret", "ConformationNumber", "ConformityIndex", "GradientIndex"]
)
def test_without_exactly_one_body_the_metric_is_missing(metric: str) -> None:
    with pytest.raises(ValueError, match="EXTERNAL"):
        evaluate(Definition(metric, 60.0, "Gy", "cc"), TARGET)


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (Definition("DoseAtVolume", 5.0, "Gy", "Gy"), "no volume"),
        (Definition("VolumeAtDose", 5.0, "cc", "%"), "no dose"),
        (Definition("VolumeAtDose", 5.0, None, "%"), "no dose"),
        (Definition("MeanDose", None, None, None), "no dose"),
        (Definition("VolumeAtDose", None, "Gy", "%"), "InputValue"),
        (Definition("MedianDose", None, None, "Gy"), "not known"),
        (Definition("DoseAtSubVolume", 9.0, "cc", "Gy"), "9 cc asked"),
    ],
)
def test_units_and_values_that_do_not_fit_are_refused_by_name(of: Definition, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluate(of, TARGET, BODY, TOTAL_GY)


def test_percent_of_dose_without_a_prescription_is_refused() -> None:
    with pytest.raises(ValueError, match="prescription"):
        evaluate(Definition("MeanDose", output="%"), TARGET, BODY, None)


def test_icru_homogeneity_and_gradient_index() -> None:
    assert value("IcruHomogeneity") == pytest.approx((62 - 56) / 58)
    assert value("GradientIndex", 60.0, "Gy") == 6.0 / 3.0


def test_equivalent_uniform_dose_of_a_uniform_dose_is_that_dose_and_a_1_is_the_mean() -> None:
    uniform = DVH(np.full(7, 42.0), 0.1)
    for a in (-10.0, 1.0, 8.0):
        assert evaluate(Definition("EquivalentUniformDose", a, None, "Gy"), uniform) == pytest.approx(42.0)
    assert value("EquivalentUniformDose", 1.0, None, "Gy") == pytest.approx(59.0)


def test_ntcp_is_a_half_at_td50_and_follows_the_normal_curve() -> None:
    uniform = DVH(np.full(5, 50.0), 1.0)
    assert ntcp(uniform, td50_gy=50.0, m=0.2, n=0.3) == pytest.approx(0.5)
    one_sigma = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert ntcp(uniform.scaled(1.2), td50_gy=50.0, m=0.2, n=0.3) == pytest.approx(one_sigma)


def test_every_row_states_its_source() -> None:
    assert all(row.source and row.name == name for name, row in TABLE.items())


@pytest.mark.parametrize(
    ("words", "of"),
    [
        ("D0.03cc[Gy]", Definition("DoseAtVolume", 0.03, "cc", "Gy")),
        ("V20Gy[%]", Definition("VolumeAtDose", 20.0, "Gy", "%")),
        ("Mean[Gy]", Definition("MeanDose", output="Gy")),
        ("D95%[cGy]", Definition("DoseAtVolume", 95.0, "%", "cGy")),
        ("max [Gy]", Definition("MaxDose", output="Gy")),
    ],
)
def test_metrics_as_clinics_write_them(words: str, of: Definition) -> None:
    assert parse(words) == of
    assert parse(text(of)) == of


@pytest.mark.parametrize("words", ["", "D95", "V20Gy", "Median[Gy]", "D95%[mm]"])
def test_a_metric_text_that_is_not_understood_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="accepted"):
        parse(words)


def test_icru_homogeneity_is_d2_minus_d98_over_d50_of_a_known_ramp():
    ramp = DVH(np.arange(100.0), 1.0)  # D2 = 97, D98 = 1, D50 = 49 Gy
    assert evaluate(Definition("IcruHomogeneity"), ramp) == pytest.approx((97 - 1) / 49)


@pytest.mark.parametrize("text", ["D101%[Gy]", "D2000000cc[Gy]", "V1001Gy[%]", "V100001cGy[cc]"])
def test_an_abscissa_that_no_patient_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is accepted"):
        parse(text)
