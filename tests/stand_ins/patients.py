"""Procedural patients that many tests use, made once a session and frozen."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from anydose.case.case import Case
from anydose.io import openkbp
from anydose.io.phantom import make_phantom


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


def write_openkbp(seed: int, folder: Path) -> None:
    """The same patient as an OpenKBP folder, which may be changed."""
    shutil.copytree(_written(seed), folder)


@cache
def _written(seed: int) -> Path:
    root = Path(tempfile.mkdtemp(prefix="anydose-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    openkbp.write_case(phantom_of(seed), root / "pt")
    return root / "pt"
