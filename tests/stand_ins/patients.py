"""Procedural patients that many tests use, made once a session and frozen."""

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from anydose.case.case import Case
from anydose.io import openkbp
from anydose.io.phantom import make_phantom

SLICES = 14


@cache
def phantom_of(seed: int) -> Case:
    """The procedural patient of a seed. Its arrays refuse to be written to: other tests use them too."""
    return frozen(make_phantom(seed))


def frozen(case: Case) -> Case:
    """The case, whose arrays refuse to be written to from here on."""
    for volume in (case.ct, case.dose):
        if volume is not None:
            volume.array.setflags(write=False)
    for mask in case.structures.values():
        mask.setflags(write=False)
    return case


@cache
def small_phantom_of(seed: int) -> Case:
    """A block of that patient about the targets, 32 x 40 x 40 voxels: for tests of what is done with a
    patient, where his size is not the point."""
    case = phantom_of(seed).block((45, 40, 40), (32, 40, 40))
    return frozen(replace(case, structures={name: m for name, m in case.structures.items() if m.any()}))


@cache
def slice_of(seed: int) -> Case:
    """That patient on the same grid, with what lies more than SLICES slices from the middle of its targets
    gone: what is read, drawn, predicted and written of it costs a fraction."""
    case = phantom_of(seed)
    middle = int(np.argwhere(np.logical_or.reduce(list(case.targets.values())))[:, 0].mean())
    near = (np.abs(np.arange(case.grid.shape[0]) - middle) <= SLICES)[:, None, None]
    masks = {name: mask & near for name, mask in case.structures.items()}
    ct = np.where(near, case.ct.array, np.float32(-openkbp.HU_SHIFT))
    return frozen(
        replace(
            case,
            structures={name: mask for name, mask in masks.items() if mask.any()},
            ct=replace(case.ct, array=ct),
        )
    )


def write_openkbp(seed: int, folder: Path) -> None:
    """The patient of `slice_of` as an OpenKBP folder, which may be changed."""
    shutil.copytree(_written(seed), folder)


@cache
def _written(seed: int) -> Path:
    root = Path(tempfile.mkdtemp(prefix="anydose-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    openkbp.write_case(slice_of(seed), root / "pt")
    return root / "pt"
