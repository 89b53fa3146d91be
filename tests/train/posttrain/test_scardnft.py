"""The ScardNFT loss: numbers worked out by hand, and a toy policy whose reward rises."""

import torch

from anydose.diffusion.path import noised
from anydose.diffusion.sampler import ddim
from anydose.train.losses import advantage, nft_loss, velocity_gap

ONE = torch.ones(1, 1, 1, 1, 1)


def one(value):
    return torch.full((1, 1, 1, 1, 1), float(value))


def test_advantage_by_hand():
    r = advantage(torch.tensor([1.0, 2.0, 3.0, 6.0]), spread=1.0)  # mean 3, standard deviation sqrt(3.5)
    assert torch.allclose(r, torch.tensor([0.0, 0.5 - 0.5 / 3.5**0.5, 0.5, 1.0]))
    assert torch.equal(advantage(torch.tensor([0.1, 0.1])), torch.tensor([0.5, 0.5]))
    small = advantage(torch.tensor([1.0, 2.0, 3.0, 6.0]) * 1e-4)
    assert torch.allclose(small, advantage(torch.tensor([1.0, 2.0, 3.0, 6.0])))


def test_the_dual_loss_by_hand():
    """At t = 1, x_0 = -v. v_old = -1 (it says 1), v = -2, the candidate is 4, beta 1/2: v+ = -1.5, v- = -0.5;
    errors -2.5 and -3.5, each square over its size 2.5 and 3.5; r = 3/4 gives 2.75."""
    found, report = nft_loss(one(-2), one(-1), one(0), one(4), torch.ones(1), torch.tensor([0.75]), ONE, 0.5)
    assert abs(float(found) - (0.75 * 2.5 + 0.25 * 3.5)) < 1e-6
    assert report["nft"] == float(found)
    outside = torch.zeros(1, 1, 1, 1, 1)
    assert float(nft_loss(one(-2), one(-1), one(0), one(4), torch.ones(1), torch.ones(1), outside)[0]) == 0


def test_a_better_candidate_pulls_and_a_worse_one_pushes():
    """From v = v_old, the gradient is -s beta (2 r - 1) 2 e / |e|, e the error of x_0 (-3)."""
    for r, gradient in ((1.0, 2.0), (0.5, 0.0), (0.0, -2.0)):
        v = one(-1).requires_grad_()
        nft_loss(v, one(-1), one(0), one(4), torch.ones(1), torch.tensor([r]), ONE)[0].backward()
        assert abs(float(v.grad) - gradient) < 1e-5  # descending lowers v, so raises x_0, where r = 1


def test_velocity_gap_counts_only_where_it_should():
    weight = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 1, 2)
    v = torch.tensor([3.0, 100.0]).reshape(1, 1, 1, 1, 2)
    assert abs(float(velocity_gap(v, torch.zeros_like(v), weight)[0]) - 9) < 1e-4


class Mixture(torch.nn.Module):
    """The exact v of data that is +-1 with standard deviation 0.2, the +1 with a learned probability."""

    def __init__(self):
        super().__init__()
        self.logit = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        a, s = (
            c.reshape(-1, *[1] * (x.ndim - 1))
            for c in (torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2))
        )
        variance = a**2 * 0.04 + s**2
        right = torch.sigmoid(self.logit + 2 * a * x / variance)
        mean = 2 * right - 1
        x0 = mean + 0.04 * a / variance * (x - a * mean)
        return (a * x - x0) / s.clamp(min=1e-4)


def test_the_reward_of_a_mixture_rises():
    """Reward 1 at the right mode, 0 at the left: half the samples at the start, and nearly all in the end.
    Only the rewards say which; there is no gradient of the reward."""
    torch.manual_seed(0)
    policy, old = Mixture(), Mixture()
    optimiser = torch.optim.Adam(policy.parameters(), 0.05)

    def reward_of_samples(k=256):
        with torch.no_grad():
            samples = ddim(old, torch.randn(k, 1, 1, 1, 1), 10)
        return samples, (samples.flatten() > 0).float()

    start = float(reward_of_samples(2048)[1].mean())
    for _ in range(150):
        x0, rewards = reward_of_samples()
        t, r = torch.rand(len(x0)) * 0.9 + 0.05, advantage(rewards)
        x_t = noised(x0, torch.randn_like(x0), t)
        with torch.no_grad():
            v_old = old(x_t, t)
        loss, _ = nft_loss(policy(x_t, t), v_old, x_t, x0, t, r, ONE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            old.logit.lerp_(policy.logit, 0.5)
    end = float(reward_of_samples(2048)[1].mean())
    assert 0.45 < start < 0.55
    assert end > 0.95


def test_the_gap_of_two_velocities_is_the_mean_square_of_their_difference_where_it_counts():
    v, base = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 9.0]]])
    counted = torch.tensor([[[1.0, 0.0]]])
    assert abs(velocity_gap(v, base, counted)[0].item() - 4.0) < 1e-4
