"""The path's algebra, and samplers on velocities that are known in closed form."""

import math

import pytest
import torch

from anydose.diffusion import path as vp
from anydose.diffusion.sampler import SAMPLERS, ancestral_mean, ddim, dpm_solver_2m, times

torch.set_default_dtype(torch.float32)


def test_ends_are_data_and_noise():
    x0, eps = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(vp.noised(x0, eps, torch.ones(2)), eps)
    assert torch.equal(vp.noised(x0, eps, torch.zeros(2)), x0)
    assert torch.equal(vp.velocity(x0, eps, torch.ones(2)), -x0)
    assert torch.equal(vp.velocity(x0, eps, torch.zeros(2)), eps)


def test_variance_is_preserved_and_inversion_is_exact():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    a, s = vp.alpha_sigma(t)
    assert torch.allclose(a**2 + s**2, torch.ones_like(t), atol=1e-15)
    x0, eps = torch.randn(2, 11, 4, dtype=torch.float64)
    x_t, v = vp.noised(x0, eps, t), vp.velocity(x0, eps, t)
    assert torch.allclose(vp.data_from_velocity(x_t, v, t), x0, atol=1e-14)
    assert torch.allclose(vp.noise_from_velocity(x_t, v, t), eps, atol=1e-14)


def test_velocity_is_the_time_derivative_of_the_path():
    x0, eps, t, h = torch.randn(4).double(), torch.randn(4).double(), torch.full((4,), 0.37).double(), 1e-6
    slope = (vp.noised(x0, eps, t + h) - vp.noised(x0, eps, t - h)) / (2 * h)
    assert torch.allclose(slope, vp.velocity(x0, eps, t) * (math.pi / 2), atol=1e-8)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_a_true_velocity_of_one_datum_returns_it(name, steps):
    x0 = torch.randn(3, 2, 4, 4, 4)
    noise = torch.randn_like(x0)

    def velocity(x, t):
        assert t.shape == (3,)
        a, s = vp.alpha_sigma(t)
        wide = (slice(None), None, None, None, None)
        return (a[wide] * x - x0) / s[wide]  # the v whose data prediction is x0, whatever x is

    assert torch.allclose(SAMPLERS[name](velocity, noise, steps), x0, atol=1e-5)


def gaussian_velocity(mean, std):
    """The exact v of data N(mean, std^2): the posterior mean of x0 given x_t, in closed form."""

    def velocity(x, t):
        a, s = vp.alpha_sigma(t)
        total = a**2 * std**2 + s**2
        x0 = mean + a * std**2 * (x - a * mean) / total
        eps = s * (x - a * mean) / total
        return a * eps - s * x0

    return velocity


def test_samplers_carry_a_gaussian_to_its_quantiles_and_the_second_order_one_is_closer():
    mean, std = torch.tensor(0.7), torch.tensor(0.3)
    noise = torch.linspace(-2, 2, 9)
    exact = mean + std * noise  # the probability flow of a Gaussian keeps quantiles
    errors = {
        n: float((f(gaussian_velocity(mean, std), noise, 20) - exact).abs().max())
        for n, f in SAMPLERS.items()
    }
    fine = float((ddim(gaussian_velocity(mean, std), noise, 50) - exact).abs().max())
    assert errors["ddim"] < 0.1
    assert fine < 0.6 * errors["ddim"]  # first order: the error falls with the number of steps
    assert errors["dpm2m"] < errors["ddim"]


def test_one_step_of_either_sampler_is_the_network_s_regression():
    noise = torch.randn(1, 4)
    for sampler in (ddim, dpm_solver_2m):
        assert torch.allclose(
            sampler(lambda x, t: torch.full_like(x, -2.5), noise, 1), torch.full((1, 4), 2.5)
        )


@pytest.mark.parametrize("steps", [0, 51, -1])
def test_step_counts_outside_1_to_50_are_refused(steps):
    with pytest.raises(ValueError, match="1 to 50"):
        times(steps)


def test_both_ends_of_the_path_are_exact_to_the_last_bit():
    a, s = vp.alpha_sigma(torch.tensor([0.0, 1.0]))
    assert a.tolist() == [1.0, 0.0]
    assert s.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_an_estimate_with_its_noise_weighed_in_is_the_posterior_mean_of_a_gaussian(t):
    """x_0 ~ N(m, c^2): by Bayes E[x_0 | x_t] = m + c^2 a (x_t - a m) / (c^2 a^2 + s^2)."""
    mean, width, x_t = torch.tensor([[0.3]]), 0.4, torch.tensor([[1.1]])
    a, s = math.cos(math.pi * t / 2), math.sin(math.pi * t / 2)
    posterior = mean + width**2 * a * (x_t - a * mean) / (width**2 * a**2 + s**2)
    times = torch.tensor([t])
    v = vp.velocity_of_estimate(-mean, x_t, times, width)
    assert vp.data_from_velocity(x_t, v, times).item() == pytest.approx(posterior.item(), abs=1e-5)


def test_the_noise_of_an_ancestral_step_is_that_of_the_posterior():
    """x_t given x' is N(r x', s^2 - r^2 s'^2) with r = a / a'; Bayes gives the variance."""
    t, then = torch.tensor([0.8]), torch.tensor(0.5)
    (a_now, s_now), (a, s) = vp.alpha_sigma(t[0]), vp.alpha_sigma(then)
    r = a_now / a
    variance = 1 / (1 / s**2 + r**2 / (s_now**2 - r**2 * s**2))
    _, sigma = ancestral_mean(torch.zeros(1, 1), torch.zeros(1, 1), t, then)
    assert sigma.item() == pytest.approx(variance.sqrt().item(), rel=1e-5)
