"""The loop that beam plates are compared with draws the same shadow."""

import numpy as np

from anydose.bench.beams import dice, plate_by_loop
from anydose.case import beams
from anydose.case.grid import Grid

GRID = Grid((36, 36, 36), (4.0, 4.0, 4.0), (-70.0, -70.0, -70.0))


def test_the_challenges_loop_covers_what_a_plate_covers():
    z, y, x = np.indices(GRID.shape)
    target = (z - 18) ** 2 + (y - 18) ** 2 + (x - 16) ** 2 < 36
    view = beams.beams_eye_views(beams.equispaced(9, (0.0, 0.0, 0.0), first_deg=40.0))[0]
    looped = plate_by_loop(view, target, GRID)
    ours = beams.beam_plate(view, target, GRID)
    assert dice(looped, ours) > 0.85
    assert dice(looped, np.roll(ours, 2, axis=2)) < dice(looped, ours) - 0.05
    both = (looped > 0) & (ours > 0.25)
    assert np.median(np.abs(looped[both] / ours[both] - 1)) < 1e-4, "the inverse square of the distance"
