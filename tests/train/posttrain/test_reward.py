"""The reward: made of the score's own total, hinges and the anchor, by hand; and what it refuses."""

import numpy as np
import pytest
import torch

from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.score import binding, scoring
from anydose.score.scorecard import templates
from anydose.score.soft import SoftDVH
from anydose.train.posttrain.reward import bind_reward, own_reward, packaged, read_reward

LIMITS = """
scorecard: head_neck_70_63_56
constraints:
  - {structure: PTV70, metric: "D95%[Gy]", at_least: 66.5, weight: 0.02}
  - {structure: SpinalCord, metric: "Max[Gy]", at_most: 45, weight: 0.1}
  - {structure: Larynx, metric: "Mean[Gy]", at_most: 45, weight: 0.1}
anchor: {tolerance: 0.1, weight: 2}
"""


@pytest.fixture
def case():
    """10 x 10 x 10 voxels of 1 cc: a target of 100 that is given 70 Gy, a cord of 50 that is given 40, 10 Gy
    elsewhere."""
    grid = Grid((10, 10, 10), (10.0, 10.0, 10.0))
    masks = {name: np.zeros(grid.shape, dtype=bool) for name in ("PTV70", "SpinalCord")}
    masks["PTV70"][0], masks["SpinalCord"][1, :5] = True, True
    dose = np.full(grid.shape, 10.0, dtype=np.float32)
    dose[masks["PTV70"]], dose[masks["SpinalCord"]] = 70.0, 40.0
    masks["body"] = np.ones(grid.shape, dtype=bool)
    return Case("box", grid, masks, Prescription({"PTV70": 70.0}, 35), dose=Volume(dose, grid, "Gy"))


@pytest.fixture
def config(tmp_path):
    (tmp_path / "mine.yaml").write_text(LIMITS)
    return read_reward(tmp_path / "mine.yaml")


def test_within_every_limit_it_is_the_scores_own_fraction(case, config):
    held = bind_reward(case, config)
    found = held.reward(case.dose.array, base_mae_gy=1.0)
    score = scoring.score(binding.bind(case, config.card), case.dose.array)
    assert found.total == found.scored == score.total / score.maximum
    assert (found.hinge, found.anchor, found.mae_gy, found.growth) == (0.0, 0.0, 0.0, -1.0)


def test_beyond_the_limits_it_falls_by_weight_times_units(case, config):
    dose = case.dose.array.copy()
    dose[case.structures["PTV70"]] = 61.5  # 5 Gy below: 0.1
    dose[case.structures["SpinalCord"]] = 48.0  # 3 Gy above: 0.3
    found = bind_reward(case, config).reward(dose, base_mae_gy=1.0)
    assert found.hinge == pytest.approx(-0.4, abs=1e-6)
    mae = (8.5 * 100 + 8 * 50) / 1000
    assert found.mae_gy == pytest.approx(mae)
    assert found.anchor == pytest.approx(-2 * (mae - 1 - 0.1), abs=1e-6)
    assert found.total == pytest.approx(found.scored + found.hinge + found.anchor)
    rows = found.to_json()["constraints"]
    assert [r["reward"] for r in rows] == pytest.approx([-0.1, -0.3, None])  # no larynx, nothing lost
    assert "reward" in found.text()


def test_without_guards_and_without_a_base_error_only_the_score_counts(case, config):
    dose = case.dose.array * 0.9
    free = bind_reward(case, config.bare()).reward(dose, base_mae_gy=0.1)
    assert free.total == free.scored
    assert bind_reward(case, config).reward(dose).anchor == 0.0


def test_a_tensor_gets_the_same_reward_and_gradients_that_raise_it(case, config):
    dose = case.dose.array * 0.9
    held = bind_reward(case, config)
    x = torch.tensor(dose, requires_grad=True)
    found = held.moved(torch.from_numpy).reward(x, 1.0, SoftDVH)
    assert float(found.total) == pytest.approx(held.reward(dose, 1.0).total, abs=1e-5)
    found.total.backward()
    assert x.grad[torch.from_numpy(case.structures["PTV70"])].sum() > 0  # more dose in the target


@pytest.mark.parametrize("name", list(packaged()))
def test_every_packaged_reward_reads_and_names_structures_of_its_card(name):
    config = read_reward(name)
    assert config.name in templates()
    known = {item.structure.label for item in config.card.items}
    assert {c.structure for c in config.constraints} <= known
    assert config.anchor is not None


def test_the_packaged_reward_of_a_head_and_neck_case_is_its_own():
    from patients import phantom_of

    assert own_reward(phantom_of(0)).name == "head_neck_70_63_56"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("scorecard: head_neck_70_63_56\nanker: 1", "'anker' is not"),
        ("constraints: []", "scorecard"),
        ("scorecard: [", "not a YAML"),
        ("scorecard: nothing.json", "nothing.json"),
        ("scorecard: lung_60\nanchor: {tolerance: often}", "a number is needed"),
        ("scorecard: lung_60\nconstraints: [{structure: PTV, metric: D95, weight: 1}]", "metric 'D95'"),
        ("scorecard: lung_60\nconstraints: [{structure: PTV, metric: 'D95%[Gy]', weight: 1}]", "one of at_"),
        ("scorecard: lung_60\nconstraints: [{structure: PTV, metric: 'D95%[Gy]'}]", "weight"),
    ],
)
def test_a_reward_file_that_is_none_is_refused_with_what_is_wrong(tmp_path, text, why):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises((ValueError, OSError), match=why):
        read_reward(tmp_path / "r.yaml")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match="prostate_78_39"):
        read_reward("nowhere")
