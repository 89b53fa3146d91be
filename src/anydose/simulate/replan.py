"""The clinic's own plans on other anatomy and in other beams: the patient is deformed with the dose, the
beams are drawn anew, straight, and turned, and the dose is the nearest one that they can give
(case/dose_mimicking.py). What no rays give of the clinic's dose, scatter above all, is deformed along and
added again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.case import Case
from anydose.case.dose_mimicking import MimicConfig, is_defined, mimic
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.plan_options import isocentre
from anydose.io.store import cropped
from anydose.simulate.planning import AIR_HU, coplanar, plain, refuse_unplannable, with_plan

NODE_MM = 60.0  # between two random displacements
MARGIN_MM = 20.0  # around the body, so that it has room to move
DEFORMATION_MM = (2.0, 8.0)  # root mean square of the displacement, from and to
TURNED_SHARE = 0.5  # of the plans; the beams of the others stay where the clinic had them
WHOLE = MimicConfig(share=1.0, inner_share=1.0, most_views=24)


@dataclass(frozen=True)
class Replanning:
    """What one plan is made from."""

    seed: int
    """Whose draws these are."""
    number: int
    """Which of them, from 0."""
    patient: str
    """The patient's name."""
    turned_deg: float
    """How far all beams are turned about the isocentre, in degrees of the gantry."""
    deformation_mm: float
    """Root mean square of the displacement."""
    deformation_seed: int
    """Seed of the displacement."""

    @property
    def name(self) -> str:
        """The stored case's name."""
        return f"{self.patient}_r{self.seed}_{self.number:05d}"

    @property
    def says(self) -> str:
        """The plan in a few words."""
        return f"beams turned by {self.turned_deg:g} degrees, deformed by {self.deformation_mm:g} mm"


@dataclass(frozen=True)
class Replan:
    """Each patient with its own plan, deformed, turned and planned again: two to four seconds."""

    def draw(self, seed: int, number: int, patients: Sequence[str]) -> Replanning:
        """What a plan is made from: every patient comes once, in random order, before any comes again."""
        turn, place = divmod(number, len(patients))
        order = np.random.default_rng([seed, 0, turn]).permutation(len(patients))
        chance = np.random.default_rng([seed, 1, number])
        is_turned = chance.random() < TURNED_SHARE
        turned_deg, deformation_mm = chance.uniform(0, 360), chance.uniform(*DEFORMATION_MM)
        return Replanning(
            seed=seed,
            number=number,
            patient=patients[int(order[place])],
            turned_deg=round(turned_deg, 1) % 360 if is_turned else 0.0,
            deformation_mm=round(deformation_mm, 2),
            deformation_seed=int(chance.integers(1 << 31)),
        )

    def about(self, chosen: Replanning) -> dict[str, Any]:
        """What a stored plan says of its making."""
        return {"planner": "replan", "draw": plain(chosen)}

    def plan(self, case: Case, chosen: Replanning, scratch: Path) -> tuple[Case, dict[str, Any]]:
        """The deformed case with the turned beams and their dose. ValueError for a case without a whole dose
        or with beams that are not mimicked."""
        begin = time.monotonic()
        refuse_unplannable(case)
        if case.dose is None or np.isnan(case.dose.array).any():
            raise ValueError(f"{case.name}: the dose of a plan, everywhere in the body, is needed")
        if not is_defined(case, WHOLE) or any(len(beam.gantry_deg) > 1 for beam in case.beams):
            raise ValueError(f"{case.name}: 1 to {WHOLE.most_views} fields are needed, no arc")
        given = cropped(case)
        moved, unmodelled_gy = deformed(given, chosen)
        angles = [(beam.gantry_deg[0] + chosen.turned_deg) % 360 for beam in case.beams]
        beams = coplanar(angles, isocentre(replace(moved, beams=()))[0])
        placed = replace(moved, beams=beams)
        assert placed.dose is not None
        dose = np.maximum(mimic(placed.dose.array, placed, WHOLE) + unmodelled_gy, 0)
        said = "dose and beams: the clinic's plan on a deformed patient, planned again by our own rays"
        made = with_plan(placed, chosen.name, beams, dose, said)
        return made, {"seconds": round(time.monotonic() - begin, 2)}


def deformed(case: Case, chosen: Replanning) -> tuple[Case, NDArray[np.float32]]:
    """The case with CT, structures and dose deformed, and what its own beams could not give of its dose
    (d, h, w) in Gy, deformed likewise. The grid is the case's with MARGIN_MM around it."""
    assert case.dose is not None and case.body is not None
    dose = case.dose.in_unit("Gy").astype(np.float32)
    unmodelled = dose - mimic(dose, case, WHOLE)
    pad = np.ceil(MARGIN_MM / np.array(case.grid.spacing_zyx_mm)).astype(int)
    size = np.array(case.grid.shape) + 2 * pad
    grid = case.grid.crop(tuple(int(-p) for p in pad), tuple(int(n) for n in size))
    places = np.indices(grid.shape, dtype=np.float32) - pad.reshape(3, 1, 1, 1)
    places += displacement(grid, chosen)

    def moved(array: NDArray[Any], order: int, outside: float = 0.0) -> NDArray[Any]:
        there: NDArray[Any] = ndimage.map_coordinates(
            array, places, order=order, mode="constant", cval=outside
        )
        return there

    def mask(array: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """By the nearest voxel, so that structures that do not overlap still do not."""
        return moved(array.astype(np.uint8), order=0) > 0

    structures = {name: mask(array) for name, array in case.structures.items()}
    ct = None
    if case.ct is not None:
        ct = Volume(moved(case.ct.in_unit("HU").astype(np.float32), 1, outside=AIR_HU), grid, "HU")
    whole = replace(case, grid=grid, structures=structures, ct=ct, dose=None, beams=(), edges=())
    moved_dose = Volume(moved(dose, 1) * whole.body, grid, "Gy")
    return replace(whole, dose=moved_dose), moved(unmodelled, 1) * whole.body


def displacement(grid: Grid, chosen: Replanning) -> NDArray[np.float32]:
    """Where each voxel is taken from, as a displacement (3, d, h, w) in voxels: normal numbers about every
    NODE_MM and a smooth curve between them, of the draw's root mean square in mm."""
    chance = np.random.default_rng(chosen.deformation_seed)
    spacing = np.array(grid.spacing_zyx_mm)
    nodes = np.ceil(np.array(grid.shape) * spacing / NODE_MM).astype(int) + 3
    places = np.indices(grid.shape, dtype=np.float32) * (spacing / NODE_MM).reshape(3, 1, 1, 1) + 1
    fields = []
    for mm in spacing:
        coarse = chance.standard_normal(tuple(nodes)).astype(np.float32)
        fine = ndimage.map_coordinates(coarse, places, order=3, mode="nearest")
        fields.append(fine * (chosen.deformation_mm / np.sqrt(3 * np.square(fine).mean()) / mm))
    return np.asarray(fields, dtype=np.float32)
