"""Scorecards of other systems (5.7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anydose.score.importers import PROKNOW, from_epeerreview, from_proknow, read_any
from anydose.score.metrics import Definition
from anydose.score.scorecard import templates

LOWER = [
    {"label": "IDEAL [10]", "color": [0, 128, 0], "max": 20},
    {"label": "ACCEPTABLE [6]", "color": [255, 165, 0], "min": 20, "max": 26},
    {"label": "UNACCEPTABLE [0]", "color": [200, 0, 0], "min": 26},
]
HIGHER = [
    {"label": "IDEAL [10]", "min": 95},
    {"label": "ACCEPTABLE [6]", "min": 90, "max": 95},
    {"label": "UNACCEPTABLE [0]", "max": 90},
]


def proknow(kind: str, argument: float | None = None, objectives: Any = LOWER) -> Any:
    raw = {"type": kind, "roi_name": "PAROTID", "arg_1": argument, "arg_2": None, "objectives": objectives}
    return from_proknow({"name": "P", "computed": [raw]}).items[0]


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("DOSE_VOLUME_PERCENT_ROI", Definition("DoseAtVolume", 5.0, "%", "Gy")),
        ("DOSE_VOLUME_CC_ROI", Definition("DoseAtVolume", 5.0, "cc", "Gy")),
        ("VOLUME_PERCENT_DOSE_ROI", Definition("VolumeAtDose", 5.0, "Gy", "%")),
        ("VOLUME_CC_DOSE_ROI", Definition("VolumeAtDose", 5.0, "Gy", "cc")),
        ("MEAN_DOSE_ROI", Definition("MeanDose", output="Gy")),
        ("MAX_DOSE_ROI", Definition("MaxDose", output="Gy")),
        ("MIN_DOSE_ROI", Definition("MinDose", output="Gy")),
        ("VOLUME_OF_REGRET", Definition("VolumeOfRegret", 5.0, "Gy", "cc")),
        ("CONFORMATION_NUMBER", Definition("ConformationNumber", 5.0, "Gy")),
        ("CONFORMALITY_INDEX", Definition("ConformityIndex", 5.0, "Gy")),
        (
            "HOMOGENEITY_INDEX",
            Definition("HomogeneityIndex", high=1.0, low=99.0, target=5.0, target_unit="Gy"),
        ),
    ],
)
def test_proknow_types_and_their_metrics(kind: str, of: Definition) -> None:
    assert proknow(kind, 5.0).of == of
    assert kind in PROKNOW


def test_proknow_scores_stand_in_brackets_and_acceptable_is_the_variation() -> None:
    item = proknow("MEAN_DOSE_ROI")
    assert [(p.x, p.score, p.variation) for p in item.points] == [
        (20, 10, False),
        (26, 6, True),
        (26, 0, False),
    ]
    assert [item.score(v) for v in (10, 20, 23, 26.1)] == [10, 10, 8, 0]


def test_proknow_higher_is_better() -> None:
    item = proknow("VOLUME_PERCENT_DOSE_ROI", 60.0, HIGHER)
    assert [item.score(v) for v in (80, 92.5, 95, 99)] == [0, 8, 10, 10]


def test_a_proknow_metric_without_a_counterpart_is_kept_by_name() -> None:
    assert proknow("CUMULATIVE_METERSET").of.metric == "CUMULATIVE_METERSET"


def test_a_proknow_bound_below_zero_is_refused() -> None:
    """No dose, volume or index is: a sign that got in would have moved the score without a word."""
    negative = [{**LOWER[0], "max": -5}, *LOWER[1:]]
    with pytest.raises(ValueError, match="-5; 0 or more is accepted"):
        proknow("MEAN_DOSE_ROI", objectives=negative)


def test_a_proknow_objective_without_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="computed metric 1"):
        proknow("MEAN_DOSE_ROI", None, [{"label": "IDEAL [3]"}])


def test_epeerreview_metrics_points_and_variation() -> None:
    text = (
        "Structure,Metric,Points\n"
        "Cord,D0.03cc[Gy],(45;10)(50;5)(52;0)\n"
        'Lung,V20Gy[%],"(20;8)(37;0)"\n'
        "Heart,Mean[Gy],(5;3)(20;0)\n"
    )
    card = from_epeerreview(text, "peer.csv")
    assert [i.of for i in card.items] == [
        Definition("DoseAtVolume", 0.03, "cc", "Gy"),
        Definition("VolumeAtDose", 20.0, "Gy", "%"),
        Definition("MeanDose", output="Gy"),
    ]
    assert [(p.x, p.score, p.variation) for p in card.items[0].points] == [
        (45, 10, False),
        (50, 5, True),
        (52, 0, False),
    ]
    assert card.items[0].structure.label == "Cord"


def test_epeerreview_errors_name_the_line_and_the_column() -> None:
    with pytest.raises(ValueError, match="line 2"):
        from_epeerreview("Structure,Metric,Points\nCord,D0.03,(1;2)\n")
    with pytest.raises(ValueError, match="no column Points"):
        from_epeerreview("Structure,Metric\nCord,D0.03cc[Gy]\n")


def test_one_reader_knows_every_kind(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"name": "P", "computed": [], "custom": []}))
    (tmp_path / "e.csv").write_text("Structure,Metric,Points\nCord,Max[Gy],(1;2)(3;0)\n")
    (tmp_path / "x.json").write_text("nothing")
    assert read_any(tmp_path / "p.json").creator == "ProKnow"
    assert read_any(tmp_path / "e.csv").creator == "ePeerReview"
    assert read_any(next(iter(templates().values()))).creator == "anydose"
    with pytest.raises(ValueError, match="neither JSON"):
        read_any(tmp_path / "x.json")
