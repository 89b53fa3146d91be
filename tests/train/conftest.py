"""A tiny drawn cohort, made once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory):
    from tiny_cohort import read_small_case

    from anydose.train.data import render

    folder = tmp_path_factory.mktemp("drawn")
    render(read_small_case, [Path("0"), Path("1"), Path("2")], folder)
    return folder
