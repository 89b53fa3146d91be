"""Contours on the page: the curve of the RTSTRUCT, not the stairs of a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import seen_in_browser

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.dicom.edges import edges
from anydose.io.dicom.struct import Roi
from anydose.score.report.html import Report, write_report

pytest.importorskip("plotly")

GRID = Grid((12, 40, 40), (4.0, 4.0, 3.0))
CENTRE_MM, RADIUS_MM = (77.3, 79.1), 21.7
HANDS = """
  const index = vol.structures.findIndex((structure) => structure.name === "Disc"), plane = PLANES.axial;
  const part = arrays["part-" + index], field = new Float32Array(W * H);
  for (let r = 0; r < H; r++) for (let c = 0; c < W; c++) {
    const k = flat(plane.voxel(r, c));
    field[r * W + c] = part ? part[k] / 255 : (arrays.masks[k] >>> index) & 1;
  }
  const drawn = lines(field, W, H, 0.5).flat().map(([c, r]) => [OX + c * SX, OY + r * SY]);
  return { drawn, edge: Boolean(part), error: document.body.dataset.error || "" };
"""


def disc(with_contours: bool) -> Case:
    """A cylinder along z in a box, as contours of a planning system would give it."""
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    x, y = CENTRE_MM[0] + RADIUS_MM * np.cos(turn), CENTRE_MM[1] + RADIUS_MM * np.sin(turn)
    heights = 3.0 * np.arange(2, 10)
    contours = tuple(np.stack([x, y, np.full_like(x, z)], axis=1) for z in heights)
    z, row, column = np.indices(GRID.shape)
    inside = (4.0 * column - CENTRE_MM[0]) ** 2 + (4.0 * row - CENTRE_MM[1]) ** 2 <= RADIUS_MM**2
    masks = {"Body": np.ones(GRID.shape, dtype=bool), "Disc": inside & (z >= 2) & (z < 10)}
    found = edges([Roi(1, "Disc", "", "", contours)], masks, GRID) if with_contours else ()
    return Case("disc", GRID, masks, edges=found)


@pytest.mark.parametrize(
    ("with_contours", "within_mm"), [(True, 0.4), (False, 2.0)], ids=["RTSTRUCT", "mask"]
)
def test_a_circle_is_drawn_where_its_contour_lies(
    tmp_path: Path, with_contours: bool, within_mm: float
) -> None:
    case = disc(with_contours)
    dose = Volume(np.full(GRID.shape, 10.0, np.float32), GRID, "Gy")
    write_report(tmp_path / "r.html", Report(case, dose))
    seen = seen_in_browser(tmp_path / "r.html", tmp_path, HANDS)
    assert (seen["error"], seen["edge"]) == ("", with_contours)
    radii = np.linalg.norm(np.array(seen["drawn"]) - CENTRE_MM, axis=1)
    assert len(radii) > 30
    worst = np.abs(radii - RADIUS_MM).max()
    assert worst <= within_mm and (with_contours or worst > 1), "a mask alone is half a voxel off"
