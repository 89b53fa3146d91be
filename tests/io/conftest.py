"""The DICOM study of the linear patient on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from linear_patient import patient


@pytest.fixture(scope="session")
def written_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DICOM study of `patient()`; do not change it."""
    from anydose.io.dicom.write import write_study

    folder = tmp_path_factory.mktemp("study") / "patient"
    write_study(patient(), folder)
    return folder


@pytest.fixture
def study(written_study: Path, tmp_path: Path) -> Path:
    """A copy of that study to spoil."""
    return Path(shutil.copytree(written_study, tmp_path / "patient"))
