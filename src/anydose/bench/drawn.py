"""Which training patients a row of a table learns from, and what of them it sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def subset(total: int, count: int, seed: int) -> list[int]:
    """`count` of `total` places (all for 0), drawn by the seed; fewer are a part of more. ValueError if there
    are not so many."""
    if not 0 <= count <= total:
        raise ValueError(f"{count} patients: the training cohort has {total}")
    order = np.random.default_rng([seed, total]).permutation(total)
    return sorted(int(k) for k in order[: count or total])


def without(modalities: Sequence[Sequence[str]], withheld: Sequence[str]) -> list[tuple[str, ...]]:
    """The modalities of each case that are not withheld."""
    return [tuple(name for name in of_case if name not in withheld) for of_case in modalities]
