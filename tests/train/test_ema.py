"""The averaged weights: their closed form, with and without warm-up, and what they leave alone."""

import pytest
import torch
from torch import nn

from anydose.train.ema import Ema


def values(ema):
    return float(ema.state["weight"].mean())


def layer(value):
    one = nn.Linear(2, 2, bias=False)
    nn.init.constant_(one.weight, value)
    return one


def decay(final, step):
    """What a step keeps of the average before it."""
    return min(final, (1 + step) / (10 + step))


@pytest.mark.parametrize("final", [0.5, 0.9, 0.998])
def test_it_is_the_sum_of_all_weights_by_what_was_kept_of_each(final):
    """After steps 0 to n - 1 with weights w_k: product of all d times w_start + sum over k of (1 - d_k) w_k
    times the product of the later d."""
    model = layer(1.0)
    ema, steps = Ema(model, final), 30
    for step in range(steps):
        nn.init.constant_(model.weight, float(step))
        ema.update(model, step)
    expected, kept = 0.0, 1.0
    for step in reversed(range(steps)):
        expected += kept * (1 - decay(final, step)) * step
        kept *= decay(final, step)
    assert values(ema) == pytest.approx(expected + kept * 1.0, rel=1e-5)


def test_it_warms_up_as_a_tenth_a_sixth_a_quarter():
    """decay 1/10, 2/11, 3/12 of the first three steps, however large the final one."""
    model = layer(0.0)
    ema, expected = Ema(model, 0.999), 0.0
    nn.init.constant_(model.weight, 1.0)
    for step, kept in enumerate((1 / 10, 2 / 11, 3 / 12)):
        ema.update(model, step)
        expected = kept * expected + (1 - kept)
        assert values(ema) == pytest.approx(expected, rel=1e-5)


def test_late_it_moves_by_one_minus_the_final_decay():
    model = layer(0.0)
    ema = Ema(model, 0.75)
    nn.init.constant_(model.weight, 8.0)
    ema.update(model, 100)  # 101 / 110 is beyond the final decay
    assert values(ema) == pytest.approx(2.0)


def test_frozen_weights_are_not_averaged_and_live_ones_come_back():
    model = nn.Sequential(layer(1.0), layer(2.0))
    model[0].requires_grad_(False)
    ema = Ema(model, 0.5)
    assert list(ema.state) == ["1.weight"]
    nn.init.constant_(model[1].weight, 4.0)
    with ema.swapped_in(model):
        assert float(model[1].weight.mean()) == 2.0
        assert float(model[0].weight.mean()) == 1.0
    assert float(model[1].weight.detach().mean()) == 4.0
    with pytest.raises(RuntimeError), ema.swapped_in(model):
        raise RuntimeError
    assert float(model[1].weight.detach().mean()) == 4.0


def test_the_policys_average_is_the_same_and_the_old_policy_lags(tmp_path):
    """follow: eta = min(0.1 step, 0.5) of the old policy is kept; the average as above, counted from 1."""
    from anydose.model.any2any import Any2Any, ModelConfig
    from anydose.model.checkpoint import save_model
    from anydose.model.network.unet import UNetConfig
    from anydose.train.posttrain.policy import Policy

    torch.manual_seed(0)
    tiny = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
    save_model(Any2Any(tiny), tmp_path / "base.safetensors", {})
    policy = Policy(tmp_path / "base.safetensors", 2, 0.0, torch.device("cpu"))
    name = next(iter(policy.live))
    start = policy.base[name].clone()
    old, average = start.clone(), start.clone()
    for step in range(1, 9):
        with torch.no_grad():
            policy.live[name].add_(1.0)
        policy.follow(step, old_rate=0.1, old_most=0.5, ema=0.9)
        eta, kept = min(0.1 * step, 0.5), min(0.9, (1 + step) / (10 + step))
        old = eta * old + (1 - eta) * policy.live[name]
        average = kept * average + (1 - kept) * policy.live[name]
    assert torch.allclose(policy.old[name], old, atol=1e-5)
    assert torch.allclose(policy.ema[name], average, atol=1e-5)
    assert torch.equal(policy.base[name], start)
