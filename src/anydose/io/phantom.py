"""A procedural head-and-neck patient: CT, organs, three target levels, nine beams; each seed another one.

Drawn from simple solids in the patient's own frame: x to the left, y to the back, z to the head, millimetres,
z = 0 between jaw and larynx. Sizes, places, body outline and CT numbers follow the median OpenKBP patient. It
has no dose: nobody planned it, and one is not invented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from anydose.case.beams import equispaced
from anydose.case.case import Case, Prescription, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io import openkbp
from anydose.io.convert import write_new
from anydose.io.formats import named
from anydose.io.solids import Floats, Mask, Space, patient_frame

SHAPE = (128, 128, 128)
MIDDLE = (70, 60, 64)  # index (z, y, x) of the patient frame's origin
FRACTIONS = 35
FORMATS = ("openkbp", "nifti", "dicom")
DOSE_MARGIN_MM = 25.0  # dose is possible this far above and below the targets
AIR_HU, FAT_HU, MUSCLE_HU = -1024.0, -95.0, 50.0

# Outline and axes along z: rows of (z, value) in mm, from the chest to the top of the head.
HALF_WIDTH = (
    (-180, 215),
    (-135, 208),
    (-105, 165),
    (-80, 92),
    (-55, 66),
    (-20, 60),
    (15, 66),
    (60, 74),
    (150, 76),
)
FRONT = (
    (-180, -40),
    (-120, -32),
    (-60, -38),
    (-30, -44),
    (-12, -60),
    (6, -90),
    (35, -97),
    (60, -104),
    (150, -88),
)
BACK = ((-180, 152), (-110, 134), (-60, 108), (-15, 90), (25, 90), (60, 98), (110, 106), (150, 102))
TAPER = ((-180, 0.0), (-70, 0.05), (-20, 0.12), (20, 0.18), (70, 0.16), (150, 0.1))  # narrower in front
SPINE = ((-180, 118), (-120, 90), (-80, 68), (-40, 50), (0, 42), (40, 35), (60, 30), (150, 20))
AIRWAY = ((-180, 62), (-120, 37), (-80, 16), (-50, -4), (-30, -8), (0, 0), (30, 0), (60, -4), (150, -10))


@dataclass(frozen=True)
class Traits:
    """What differs between patients."""

    size: float
    """Of the whole patient, relative to the median."""
    neck: float
    """Width of the neck, relative to the median."""
    fat_mm: float
    """Thickness of the fat under the skin."""
    shift_mm: tuple[float, float]
    """Where the patient lies, (x, y)."""
    pixel_mm: float
    """Width of a voxel in the plane."""
    site_mm: tuple[float, float, float]
    """Middle of the tumour, (x, y, z)."""
    radii_mm: tuple[float, float, float]
    """Its radii."""
    side: int
    """Its side: +1 left, -1 right."""

    @classmethod
    def draw(cls, random: np.random.Generator) -> Traits:
        """Traits of one patient."""
        side = int(random.choice((-1, 1)))
        sites = ((side * 16, -18, 18), (side * 8, -12, -30), (side * 14, -40, 22), (side * 8, -2, 48))
        return cls(
            size=random.uniform(0.94, 1.06),
            neck=random.uniform(0.92, 1.12),
            fat_mm=random.uniform(4, 10),
            shift_mm=(random.uniform(-8, 8), random.uniform(-8, 8)),
            pixel_mm=float(np.round(random.uniform(3.7, 4.2), 3)),
            site_mm=sites[random.integers(len(sites))],
            radii_mm=tuple(random.uniform((28, 26, 30), (40, 36, 42))),
            side=side,
        )


def make_phantom(seed: int = 0) -> Case:
    """The patient of `seed`, 128^3 voxels of about 4 x 4 x 2.5 mm: ct in HU, OpenKBP's structure names, 70 /
    63 / 56 Gy in 35 fractions, nine equispaced beams at the targets' centroid, no dose."""
    random = np.random.default_rng(seed)
    traits = Traits.draw(random)
    grid = Grid(SHAPE, (traits.pixel_mm, traits.pixel_mm, 2.5))
    space = patient_frame(grid, MIDDLE, traits.size, traits.shift_mm)
    depth = depth_in_body(space, traits)
    organs = draw_organs(space, depth)
    bones, airway = draw_bones(space, depth), draw_airway(space, depth)
    organs["Mandible"] = draw_mandible(space) & (depth > 3)
    ct = draw_ct(space, traits, depth, organs, bones, airway, random)
    targets = draw_targets(space, traits, depth, organs, random)
    target = np.logical_or.reduce(list(targets.values()))
    high = np.flatnonzero(target.any(axis=(1, 2)))
    margin = round(DOSE_MARGIN_MM / grid.spacing_mm[2])
    possible = depth > 0
    possible[: max(high[0] - margin, 0)] = possible[high[-1] + margin + 1 :] = False
    return Case(
        name=f"phantom_{seed}",
        grid=grid,
        structures={"possible_dose_mask": possible, **organs, **targets},
        prescription=Prescription(openkbp.LEVELS_GY, FRACTIONS),
        beams=equispaced(openkbp.BEAMS, grid.centroid_mm(target)),
        ct=Volume(ct, grid, "HU"),
        source=Source("openkbp"),
    )


def write_phantom(seed: int, folder: Path, format: str = "openkbp") -> Case:
    """Draw the patient of `seed` and write it as `folder`; see `write_patient`."""
    return write_patient(lambda: make_phantom(seed), folder, format)


def write_patient(make: Callable[[], Case], folder: Path, format: str) -> Case:
    """Make a patient and write it as `folder`, which appears whole or not at all. ValueError for a folder
    that holds something and for a format that is not in FORMATS, before it is made."""
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: one of {', '.join(FORMATS)} is accepted")
    return write_new(make, folder, named(format))


def depth_in_body(space: Space, traits: Traits) -> Floats:
    """About how deep under the skin each voxel lies, in mm; negative outside the body."""
    thin = np.exp(-(((space.z + 25) / 45) ** 2))  # neck size acts on the neck alone
    front, back = space.along(FRONT), space.along(BACK)
    wide = space.along(HALF_WIDTH) * (1 + (traits.neck - 1) * thin)
    middle, half = (front + back) / 2, (back - front) / 2 * (1 + (traits.neck - 1) * thin)
    v = (space.y - middle) / half
    u = space.x / (wide * (1 + space.along(TAPER) * np.clip(v, -1, 1)))
    radius = (np.abs(u) ** 2.3 + np.abs(v) ** 2.3) ** (1 / 2.3)
    return (1 - radius) * np.minimum(wide, half)


def draw_organs(space: Space, depth: Floats) -> dict[str, Mask]:
    """The soft organs by OpenKBP's names; the mandible is a bone."""
    spine, airway = space.along(SPINE), space.along(AIRWAY)
    stem_y = np.interp(space.z, (52, 105), (31, 12))
    organs = {
        "Brainstem": space.tube(0, stem_y, np.interp(space.z, (52, 85), (8, 14)), 11)
        & space.between(52, 103),
        "SpinalCord": space.tube(0, spine, 6.5, 6.0) & space.between(-150, 52),
        "RightParotid": space.ellipsoid((-57, 6, 44), (15, 22, 28)),
        "LeftParotid": space.ellipsoid((57, 6, 44), (15, 22, 28)),
        "Esophagus": space.tube(3, spine - 36, 9, 6) & space.between(-140, -62),
        "Larynx": space.tube(0, airway - 1, 15, 14) & space.between(-58, -18),
    }
    jaw = ndimage.binary_dilation(draw_mandible(space))
    organs["RightParotid"] &= ~jaw
    organs["LeftParotid"] &= ~jaw
    return {name: mask & (depth > 4) for name, mask in organs.items()}


def draw_mandible(space: Space) -> Mask:
    """The lower jaw: a horseshoe and its two ascending rami."""
    body = space.arch((51, 61), 11, 0.12, -2, 26)
    for side in (-1, 1):
        body = body | space.rod((side * 50, -12, 12), (side * 51, -2, 62), 7)
        body = body | space.rod((side * 50, -22, 12), (side * 50, -18, 58), 5)
    return body


def draw_airway(space: Space, depth: Floats) -> Mask:
    """Trachea, larynx and pharynx, nasal cavity and lung tops."""
    width = np.interp(space.z, (-70, -48, -38, -25, 10, 60), (9, 8, 3.5, 8, 14, 11))
    tall = np.interp(space.z, (-70, -48, -38, -25, 60), (8, 8, 8, 7, 7))
    air = space.tube(0, space.along(AIRWAY), width, tall) & space.between(-200, 62)
    for side in (-1, 1):
        air |= space.tube(side * 8, -48, 5, 32) & space.between(52, 80)
        air |= space.ellipsoid((side * 30, -62, 66), (12, 14, 13))
        air |= space.ellipsoid((side * 62, 62, -185), (42, 50, 52))
    return air & (depth > 8)


def draw_bones(space: Space, depth: Floats) -> Floats:
    """The skeleton without the mandible as CT numbers (d, h, w), zero where there is no bone."""
    hu = np.zeros(depth.shape, dtype=np.float32)
    floor = space.z - 68 + 0.3 * space.y  # the skull base rises to the front
    skull = space.ellipsoid((0, 15, 95), (72, 88, 80)) & (floor > -5)
    brain = space.ellipsoid((0, 15, 95), (65, 81, 73)) & (floor > 0)
    foramen = space.tube(0, space.along(SPINE), 13, 13)
    hu[skull & ~brain & ~foramen] = 950
    hu[space.arch((40, 50), 12, 0.1, 38, 60)] = 450
    hu[space.arch((38, 49), 9, 0.1, 28, 38)] = 1500
    _paint_vertebrae(hu, space)
    for side in (-1, 1):
        hu[space.rod((side * 18, -4, -128), (side * 90, 20, -112), 6.5)] = 600
        hu[space.rod((side * 90, 20, -112), (side * 170, 52, -118), 6.5)] = 600
        hu[space.ellipsoid((side * 176, 62, -148), (25, 25, 27))] = 350
        hu[space.rod((side * 60, 122, -160), (side * 150, 96, -130), 6)] = 400
        hu[space.rod((side * 16, -36, -16), (side * 24, -18, -14), 3)] = 350
    hu[depth <= 3] = 0
    return hu


def _paint_vertebrae(hu: Floats, space: Space) -> None:
    """Vertebral bodies with discs, arches and spinous processes below the skull, 18 mm apart."""
    spine, below = space.along(SPINE), space.between(-200, 48)
    phase = (space.z + 200) % 18
    body = space.tube(0, spine - 21, 13, 10) & below
    hu[body & (phase < 5)] = 90
    hu[body & (phase >= 5)] = 550
    hu[space.tube(0, spine - 21, 10, 7) & below & (phase >= 7) & (phase < 16)] = 260
    arch = space.tube(0, spine, 18, 14) & ~space.tube(0, spine, 10, 9) & (space.y > spine - 10) & below
    hu[arch & (phase >= 5)] = 450
    process = (np.abs(space.x) < 4) & (space.y > spine + 10) & (space.y < spine + 34 - phase) & below
    hu[process & (phase >= 5)] = 420
    for side in (-1, 1):
        hu[space.tube(side * 20, spine - 8, 7, 5) & below & (phase >= 7) & (phase < 15)] = 380


def draw_ct(
    space: Space,
    traits: Traits,
    depth: Floats,
    organs: dict[str, Mask],
    bones: Floats,
    airway: Mask,
    random: np.random.Generator,
) -> Floats:
    """CT numbers in whole HU: skin fat, muscle with fat planes, organs, bones and air, with texture and
    noise."""
    ct = np.where(depth > traits.fat_mm, MUSCLE_HU, FAT_HU).astype(np.float32)
    planes = ndimage.gaussian_filter(random.standard_normal(depth.shape, dtype=np.float32), (3, 1.5, 1.5))
    head = space.ellipsoid((0, 15, 95), (70, 86, 78))
    ct[(planes > 1.1 * planes.std()) & ~head & (depth <= 45)] = FAT_HU
    ct[head] = 32
    for side in (-1, 1):
        ct[space.rod((side * 52, 30, 35), (side * 22, -14, -110), 11) & (depth > 3)] = 60
    for name, hu in {"Brainstem": 25, "SpinalCord": 30, "Esophagus": 20, "Larynx": 70}.items():
        ct[organs[name]] = hu
    ct = np.where(bones > 0, bones, ct)
    ct[organs["LeftParotid"] | organs["RightParotid"]] = -20
    ct[organs["Mandible"]] = 1250
    ct[ndimage.binary_erosion(organs["Mandible"])] = 500
    ct[airway] = -1000
    ct += 30 * planes / planes.std() * (ct > -900) + 12 * random.standard_normal(ct.shape, dtype=np.float32)
    ct = ndimage.gaussian_filter(np.where(depth > 0, ct, AIR_HU), (0.3, 0.4, 0.4))
    ct[depth <= -2] = AIR_HU
    return np.asarray(np.clip(np.rint(ct), AIR_HU, 3071).astype(np.float32))


def draw_targets(
    space: Space, traits: Traits, depth: Floats, organs: dict[str, Mask], random: np.random.Generator
) -> dict[str, Mask]:
    """PTV70 (tumour and involved nodes), PTV63 (the neck on its side) and PTV56 (the other side), as in
    OpenKBP without a voxel in common; 4 mm below the skin and clear of cord and brainstem."""
    side, spine = traits.side, space.along(SPINE)
    rough = ndimage.gaussian_filter(random.standard_normal(depth.shape, dtype=np.float32), (4, 3, 3))
    bulge = 1 + 0.12 * rough / rough.std()
    radii = [r * bulge for r in traits.radii_mm]
    tumour = space.ellipsoid(traits.site_mm, radii)
    nodes = space.ellipsoid((side * 44, spine - 32, 4), (15 * bulge, 17 * bulge, 30))

    def neck(on: int, low: float, high: float) -> Mask:
        return space.tube(on * 43, spine - 30, 17 * bulge, 24 * bulge) & space.between(low, high)

    margin = space.tube(0, spine, 13, 13) | ndimage.binary_dilation(organs["Brainstem"], iterations=2)
    allowed = (depth > 4) & ~margin
    ptv70 = (tumour | nodes) & allowed
    rim = space.ellipsoid(traits.site_mm, [r + 5 for r in radii])
    behind = space.tube(0, space.along(AIRWAY) + 10, 34, 8 * bulge) & space.between(0, 58)
    ptv63 = (rim | neck(side, -40, 48)) & allowed & ~ptv70
    ptv56 = (neck(-side, -95, 52) | neck(side, -95, 52) | behind) & allowed & ~ptv70 & ~ptv63
    return {"PTV56": ptv56, "PTV63": ptv63, "PTV70": ptv70}
