"""Means over a cohort with their intervals, and paired tests of two models on the same patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap confidence interval."""

    mean: float
    """The mean."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    n: int
    """Over how many cases."""


def bootstrap(values: ArrayLike, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of `values` (n,) and its percentile bootstrap interval: cases drawn with replacement, 2000
    times (Efron and Tibshirani, 1993). Values that are not a number are left out; ValueError if none
    remains."""
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if not kept.size:
        raise ValueError("no number to average")
    drawn = np.random.default_rng(seed).integers(0, kept.size, (RESAMPLES, kept.size))
    low, high = np.quantile(kept[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(kept.mean()), float(low), float(high), int(kept.size))


def bootstrap_seeds(values: NDArray[np.float64]) -> Interval:
    """Of `values` (seeds, cases): the mean and its 95 % percentile bootstrap interval, where seeds and cases
    are both drawn with replacement."""
    seeds, cases = values.shape
    chance = np.random.default_rng(0)
    which_seeds = chance.integers(0, seeds, (RESAMPLES, seeds))
    which_cases = chance.integers(0, cases, (RESAMPLES, cases))
    drawn = values[which_seeds[:, :, None], which_cases[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), cases)


@dataclass(frozen=True)
class Paired:
    """Second minus first over the same cases: interval of the mean difference, Wilcoxon signed-rank p."""

    difference: Interval
    """The mean difference."""
    p: float
    """Two-sided; 1 if all are equal."""


def paired(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Paired:
    """Paired comparison of two models on the same cases (n,), (n,): bootstrap of the mean difference and the
    two-sided Wilcoxon signed-rank test (1945; p = 1 if all are equal). ValueError for other shapes."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"paired values of shape {a.shape} and {b.shape}: one of each for every case is needed"
        )
    known = np.isfinite(a) & np.isfinite(b)
    difference = b[known] - a[known]
    p = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
    return Paired(bootstrap(difference, seed=seed), p)
