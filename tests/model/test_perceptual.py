"""ST-LPIPS: what a perceptual distance must do, with the wheel's own weights."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from anydose.model.perceptual import KEYS, PACKAGE, st_lpips

try:
    version(PACKAGE)
except PackageNotFoundError:
    pytest.skip(f"the extra 'perceptual' ({PACKAGE}) is not installed", allow_module_level=True)

RNG = np.random.default_rng(0)
DOSE = ndimage.gaussian_filter(RNG.random((2, 64, 64)), (0, 6, 6))
DOSE = (DOSE - DOSE.min()) / np.ptp(DOSE)


def noisy(sigma: float) -> np.ndarray:
    return np.clip(DOSE + np.random.default_rng(1).normal(0, sigma, DOSE.shape), 0, 1)


def test_equal_doses_have_no_distance() -> None:
    assert st_lpips()(DOSE, DOSE) == 0.0


def test_the_distance_is_symmetric_and_grows_with_noise() -> None:
    distance = st_lpips()
    found = [distance(DOSE, noisy(sigma)) for sigma in (0.02, 0.1, 0.3)]
    assert 0 < found[0] < found[1] < found[2]
    assert distance(noisy(0.1), DOSE) == pytest.approx(found[1], rel=1e-5)


def test_a_shift_by_a_pixel_counts_far_less_than_noise_of_the_same_error() -> None:
    shifted = np.roll(DOSE, 1, axis=2)
    same_error = noisy(float(np.sqrt(np.mean((shifted - DOSE) ** 2))))
    distance = st_lpips()
    assert distance(DOSE, shifted) < 0.2 * distance(DOSE, same_error)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({KEYS[0]: torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no ST-LPIPS"):
        st_lpips(tmp_path / "other.pth")
