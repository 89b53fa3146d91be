"""Where the tests find real patients, and the phantom they use where none are needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from anydose.case.case import Case

settings.register_profile("anydose", deadline=None, derandomize=True)  # no clock, the same cases everywhere
settings.load_profile("anydose")

REPOSITORY = Path(__file__).parents[1]
PATIENTS = ("pt_201", "pt_210", "pt_1", "pt_8", "pt_153", "pt_38")  # 8: no CT; 153: nor dose; 38: no mask


THREADS = int(os.environ.get("OMP_NUM_THREADS", "0"))  # `make test` says one


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A run's own number of threads ends with its test: two threads on a busy core wait for each other."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and THREADS:
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def openkbp_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds provided-data: ANYDOSE_OPENKBP (unpacked, or packed with its unpack.py) or
    ../shared/openkbp (packed: a few patients are unpacked); without either the test is skipped."""
    for source in (os.environ.get("ANYDOSE_OPENKBP"), REPOSITORY.parent / "shared" / "openkbp"):
        root = source and Path(source)
        if root and (root / "provided-data").is_dir():
            return root
        if root and (root / "unpack.py").is_file():
            unpacked = tmp_path_factory.mktemp("openkbp")
            command = [sys.executable, str(root / "unpack.py"), str(unpacked), "--patients", *PATIENTS]
            subprocess.run(command, check=True, timeout=300)
            return unpacked
    pytest.skip(
        "no real patients: set ANYDOSE_OPENKBP to an OpenKBP folder, or unpack it as ../shared/openkbp"
    )


@pytest.fixture(scope="session")
def phantom() -> Case:
    """The procedural patient of seed 0; frozen, do not write into its arrays."""
    from patients import phantom_of

    return phantom_of(0)


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory):
    from tiny_cohort import read_small_case

    from anydose.train.data import render

    folder = tmp_path_factory.mktemp("drawn")
    render(read_small_case, [Path("0"), Path("1"), Path("2")], folder)
    return folder
