"""The validation patient that benchmarks train and are scored on."""

from dataclasses import replace

import numpy as np
import pytest
from patients import slice_of

from anydose.case.volume import Volume
from anydose.io import openkbp


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """One validation patient, some slices of a phantom with a dose, in OpenKBP's form."""
    root = tmp_path_factory.mktemp("kbp")
    case = slice_of(0)
    level = np.zeros(case.grid.shape, dtype=np.float32)
    for name, gy in sorted(case.prescription.levels_gy.items(), key=lambda item: item[1]):
        level[case.structures[name]] = gy
    case = replace(case, dose=Volume(level, case.grid, "Gy"))
    openkbp.write_case(case, root / "provided-data" / "validation-pats" / "pt_201")
    return root
