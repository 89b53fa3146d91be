"""Colours that readers without red-green vision tell apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scored_phantom import BODY, CORD, PTV, case

from anydose.case.case import Case
from anydose.score.report.palette import OTHERS, TARGETS, shades

LEAST = 15.0
# Machado et al. 2009, severity 1, on linear RGB
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def lab(colour: str, vision: np.ndarray) -> np.ndarray:
    color = pytest.importorskip("skimage.color")
    rgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(vision @ linear, 0, 1)
    back = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    found: np.ndarray = color.rgb2lab(back[None, None])[0, 0]
    return found


def difference(a: str, b: str, vision: np.ndarray) -> float:
    color = pytest.importorskip("skimage.color")
    return float(color.deltaE_ciede2000(lab(a, vision), lab(b, vision)))


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA], ids=["all colours", "deuteranopia"])
def test_any_two_colours_differ(vision: np.ndarray) -> None:
    for a, b in combinations((*TARGETS, *OTHERS), 2):
        assert difference(a, b, vision) >= LEAST, (a, b)


def crowded() -> Case:
    return case(**{f"Organ{k}": CORD for k in range(14)}, PTV2=PTV, External2=BODY)


def test_no_two_structures_have_the_same_colour_and_dash() -> None:
    signs = [sign for name, sign in shades(crowded()).items() if name.startswith(("PTV", "Organ"))]
    assert len(set(signs)) == len(signs)


def test_neighbours_differ_in_colour() -> None:
    colours = [colour for colour, _ in shades(crowded()).values()][:-1]
    for a, b in zip(colours[:-1], colours[1:], strict=True):
        assert difference(a, b, DEUTERANOPIA) >= LEAST
