"""A drawn cohort of phantoms, small enough to train on in a test."""

from dataclasses import replace
from functools import cache

import numpy as np
from patients import frozen, phantom_of

from anydose.case.volume import Volume


@cache
def small_case(seed: int):
    """A phantom cut to a block round its targets, with a dose that a network can learn: a blur of the
    prescription."""
    from scipy import ndimage

    whole = phantom_of(seed)
    target = np.logical_or.reduce(list(whole.targets.values()))
    centre = np.argwhere(target).mean(axis=0).astype(int)
    start = tuple(int(c) - 12 for c in centre)
    case = whole.block(start, (24, 24, 24))
    level = np.zeros(case.grid.shape, dtype=np.float32)
    for name, dose in sorted(case.prescription.levels_gy.items(), key=lambda item: item[1]):
        level[case.structures[name]] = dose
    dose = ndimage.gaussian_filter(level, 1.5) * case.body
    return frozen(replace(case, name=f"phantom_{seed}", dose=Volume(dose, case.grid, "Gy")))


def read_small_case(path):
    """As the readers do: a path in, a case out."""
    return small_case(int(path.name))
