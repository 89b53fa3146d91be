"""Losses worked out by hand: signs, weights, what counts and what does not."""

import pytest
import torch

from anydose.model.any2any import ModelConfig
from anydose.model.network.unet import UNetConfig
from anydose.train.config import TrainConfig
from anydose.train.gradients import ExampleLoss
from anydose.train.losses import advantage, organ_loss, velocity_gap, velocity_loss
from anydose.train.trainer import Trainer


def row(*values):
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


def test_the_error_of_v_is_a_mean_over_what_counts():
    v, true, weight = row(1.0, 5.0, -2.0), row(0.0, 2.0, 100.0), row(1.0, 1.0, 0.0)
    assert float(velocity_loss(v, true, weight)[0]) == pytest.approx((1 + 3) / 2)
    assert float(velocity_loss(v, true, weight, "squared")[0]) == pytest.approx((1 + 9) / 2)
    with pytest.raises(ValueError, match="error=cubic: absolute or squared"):
        velocity_loss(v, true, weight, "cubic")


def test_two_channels_share_one_weight():
    v, true = torch.tensor([3.0, 7.0, 5.0, 9.0]).reshape(1, 2, 1, 1, 2), torch.zeros(1, 2, 1, 1, 2)
    loss, report = velocity_loss(v, true, row(1.0, 0.0))
    assert float(loss) == pytest.approx((3 + 5) / 2) == report["loss"]


def test_the_squared_error_leads_to_the_mean_and_the_absolute_one_to_the_median():
    truth, weight = row(0.0, 0.0, 0.0, 4.0, 6.0), torch.ones(1, 1, 1, 1, 5)
    guesses = torch.linspace(-1, 7, 81)

    def best(error):
        found = [velocity_loss(torch.full_like(truth, float(g)), truth, weight, error)[0] for g in guesses]
        return float(guesses[int(torch.stack(found).argmin())])

    assert best("squared") == pytest.approx(2.0, abs=0.051)
    assert best("absolute") == pytest.approx(0.0, abs=0.051)


def test_an_organs_voxels_count_as_often_as_was_said():
    v, true = row(1.0, 2.0), row(0.0, 0.0)
    loss, _ = organ_loss(v, true, row(1.0, 1.0), row(0.0, 1.0) > 0, 3.0)
    assert float(loss) == pytest.approx((1 * 1 + 3 * 4) / (1 + 3))


def test_the_gap_is_a_mean_square_and_pulls_towards_the_base():
    v = row(2.0, 0.0).requires_grad_()
    gap, report = velocity_gap(v, row(0.0, 0.0), row(1.0, 1.0))
    gap.backward()
    assert float(gap.detach()) == pytest.approx(2.0) == report["kl"]
    assert v.grad.flatten().tolist() == pytest.approx([2.0, 0.0])


def test_advantage_divides_by_so_many_standard_deviations_and_is_clipped():
    rewards = torch.tensor([0.0, 1.0, 2.0, 9.0])  # mean 3, standard deviation sqrt(12.5)
    found = advantage(rewards, spread=2.0)
    assert found.tolist() == pytest.approx([0.5 + 0.5 * (r - 3) / (2 * 12.5**0.5) for r in (0, 1, 2, 9)])
    assert advantage(rewards, spread=0.5).tolist()[::3] == [0.0, 1.0]


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_dvh_loss_is_added_by_its_weight(cohort_folder, tmp_path, weight):
    """Loss = error of v + weight x DVH, on the same example; and its share of the gradient."""
    tiny = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
    config = TrainConfig(model=tiny, data=str(cohort_folder), out=str(tmp_path), dvh=weight, precision="fp32")
    trainer = Trainer(config)
    loss, report = ExampleLoss(trainer.model, trainer.config)(next(trainer._patients()))
    assert report["dvh"] > 0
    assert float(loss) == pytest.approx(report["loss"] + weight * report["dvh"], rel=1e-5)
