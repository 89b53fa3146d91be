"""Losses: pure functions of tensors, each returning (loss, metrics)."""

from __future__ import annotations

import torch
from torch import Tensor

from anydose.diffusion.path import data_from_velocity

ERRORS = ("absolute", "squared")


def velocity_loss(
    v: Tensor, v_true: Tensor, weight: Tensor, error: str = "absolute"
) -> tuple[Tensor, dict[str, float]]:
    """Mean error of v over the voxels that count. An absolute error makes the one-step prediction (t = 1, v =
    -x_0) the conditional median, and the scores are absolute errors; a 'squared' one makes it the mean. v,
    v_true: (n, c, d, h, w); weight: (n, 1 or c, d, h, w). ValueError for another `error`."""
    if error not in ERRORS:
        raise ValueError(f"error={error}: {' or '.join(ERRORS)} is accepted")
    difference = v.float() - v_true
    size = difference.abs() if error == "absolute" else difference.square()
    loss = (size * weight).sum() / (weight.expand_as(size).sum() + 1e-6)
    return loss, {"loss": float(loss.detach())}


def organ_loss(
    v: Tensor, v_true: Tensor, weight: Tensor, inside: Tensor, times: float
) -> tuple[Tensor, dict[str, float]]:
    """Mean squared error of v, as of `velocity_loss`, with what lies in an organ (`inside`, alike) counted
    `times` as often. A square leads to the mean, a probability of the organ that grows from the first step;
    an absolute error leads to the median, and that is no organ anywhere until one is more likely than not."""
    counted = weight * (1 + (times - 1) * inside)
    loss = ((v.float() - v_true).square() * counted).sum() / (counted.sum() + 1e-6)
    return loss, {"loss": float(loss.detach())}


# Shares of a structure's voxels, from its coldest, whose mean dose stands for D99, D95, D1 and D_0.1cc.
DVH_POINTS = ((0.0, 0.02), (0.04, 0.06), (0.98, 1.0))


def dvh_loss(
    dose: Tensor, reference: Tensor, structures: Tensor, points: float = 0.0
) -> tuple[Tensor, dict[str, float]]:
    """How far DVH curves are apart, a mean over structures: the area between the two, which is the mean
    absolute difference of the sorted doses and their Wasserstein-1 distance (a value-based DVH loss), and,
    with weight `points`, the mean absolute difference of their mean doses and of the mean doses in
    `DVH_POINTS` (a criteria-based one: smoother than single percentiles).
    dose, reference: (d, h, w); structures: (s, d, h, w) masks, empty ones are left out."""
    gaps = [dose[mask].sort().values - reference[mask].sort().values for mask in structures if mask.any()]
    nothing = dose.sum() * 0.0  # keeps the graph of a patient without a structure
    area = torch.stack([nothing, *(gap.abs().mean() for gap in gaps)]).sum() / max(1, len(gaps))
    at_points = torch.stack([nothing, *map(_gap_of_points, gaps)]).sum() / max(1, len(gaps))
    report = {"dvh": float(area.detach())}
    if points:
        report["points"] = float(at_points.detach())
    return area + points * at_points, report


def _gap_of_points(gap: Tensor) -> Tensor:
    """The mean absolute difference of a structure's mean dose and of those in `DVH_POINTS`. gap: (n,),
    between its doses sorted from the coldest."""
    n = len(gap)
    parts = [gap]
    for low, high in DVH_POINTS:
        first = int(low * n)
        parts.append(gap[first : max(int(high * n), first + 1)])
    return torch.stack([part.mean().abs() for part in parts]).mean()


def advantage(rewards: Tensor, spread: float = 2.0) -> Tensor:
    """Optimality r in [0, 1] of the rewards (k,) of one patient's candidates: 1/2 + 1/2 clip((R - mean) / Z,
    -1, 1), with Z `spread` standard deviations of R, so that small differences count as much as large ones;
    1/2 for all if they are equal."""
    centred = rewards - rewards.mean()
    z = spread * centred.square().mean().sqrt()
    return 0.5 + 0.5 * (centred / z.clamp(min=1e-8)).clamp(-1, 1)


def nft_loss(
    v: Tensor, v_old: Tensor, x_t: Tensor, x0: Tensor, t: Tensor, r: Tensor, weight: Tensor, beta: float = 1.0
) -> tuple[Tensor, dict[str, float]]:
    """ScardNFT's dual loss (DiffusionNFT: arXiv 2509.16117, equation 5 and its released weighting).

    The policy v and the one that sampled, v_old, imply a positive policy v+ = (1 - b) v_old + b v and a
    negative one v- = (1 + b) v_old - b v; candidates x0 (k, c, d, h, w) of optimality r (k,) pull v+ towards
    themselves by r and v- by 1 - r. Errors are taken in x_0 and each branch's square is divided by its own
    detached mean absolute error, so that no time and no candidate dominates. x_t: noised x0 at times t (k,);
    weight (1 or k, 1 or c, d, h, w): the voxels that count. At v = v_old the step is along (2 r - 1) (x0 -
    x0_old): towards what was better than average."""
    positive = (1 - beta) * v_old + beta * v
    negative = (1 + beta) * v_old - beta * v
    branches = []
    for implied in (positive, negative):
        error = data_from_velocity(x_t, implied, t) - x0
        counted = weight.expand_as(error).float()
        voxels = counted.flatten(1).sum(dim=1) + 1e-6
        size = (error.detach().abs() * counted).flatten(1).sum(dim=1) / voxels
        square = (error.square() * counted).flatten(1).sum(dim=1) / voxels
        branches.append(square / size.clamp(min=1e-5))
    loss = (r * branches[0] + (1 - r) * branches[1]).mean()
    return loss, {"nft": float(loss.detach())}


def velocity_gap(v: Tensor, v_base: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Mean square of v - v_base over the voxels that count: the divergence between the two denoisers up to
    the noise level's factor, which keeps a post-trained model near its base."""
    square = (v - v_base).square() * weight
    gap = square.sum() / (weight.expand_as(square).sum() + 1e-6)
    return gap, {"kl": float(gap.detach())}
