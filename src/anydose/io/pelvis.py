"""A procedural male pelvis: CT and organs, each seed another patient; bladder and rectum differ most, as they
do in the clinic from day to day.

Drawn from simple solids in the patient's own frame: x to the left, y to the back, z to the head, millimetres,
the origin in the middle of the prostate. It has neither target nor dose: which margins a clinic adds is that
clinic's habit (simulate/habit.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.solids import Floats, Mask, Space, patient_frame

SHAPE = (72, 128, 128)
MIDDLE = (28, 66, 64)  # index (z, y, x) of the patient frame's origin
SLICE_MM = 3.0
AIR_HU, GAS_HU, FAT_HU, MUSCLE_HU = -1024.0, -800.0, -100.0, 55.0
ORGAN_HU = {"Bladder": 8, "Rectum": 35, "Prostate": 45, "SeminalVes": 30, "PenileBulb": 50, "Bag_Bowel": 20}

# Outline along z: rows of (z, value) in mm, from the thighs to the waist.
HALF_WIDTH = ((-100, 178), (-40, 184), (0, 183), (50, 172), (90, 164), (140, 160))
FRONT = ((-100, -88), (-40, -92), (0, -98), (50, -104), (90, -106), (140, -108))
BACK = ((-100, 98), (-40, 108), (0, 112), (50, 110), (90, 104), (140, 98))
SACRUM = ((-15, 58), (10, 72), (45, 84), (90, 72), (140, 52))


@dataclass(frozen=True)
class Traits:
    """What differs between patients."""

    size: float
    """Of the whole patient, relative to the median."""
    width: float
    """Of the trunk, relative to the median."""
    fat_mm: float
    """Thickness of the fat under the skin."""
    shift_mm: tuple[float, float]
    """Where the patient lies, (x, y)."""
    pixel_mm: float
    """Width of a voxel in the plane."""
    prostate_mm: tuple[float, float, float]
    """Radii of the prostate."""
    bladder_cc: float
    """Volume of the bladder."""
    rectum_mm: tuple[float, float]
    """Radius of the rectum: narrow, and in the ampulla."""
    gas: float
    """The part of the rectum that is gas."""
    sacral_bend_mm: float
    """How far back the sacrum lies from where it lies in the median patient."""
    vesicles_mm: tuple[float, float]
    """Length and thickness of the seminal vesicles."""
    femur_mm: float
    """Radius of the femoral heads."""

    @classmethod
    def draw(cls, random: np.random.Generator) -> Traits:
        """Traits of one patient: prostates of about 25 to 110 cc, bladders of 70 to 450 cc, rectums of 24 to
        48 mm across."""
        return cls(
            size=random.uniform(0.94, 1.07),
            width=random.uniform(0.92, 1.06),
            fat_mm=random.uniform(10, 32),
            shift_mm=(random.uniform(-6, 6), random.uniform(-6, 6)),
            pixel_mm=float(np.round(random.uniform(3.7, 4.2), 3)),
            prostate_mm=tuple(random.uniform((22, 15, 18), (30, 23, 30))),
            bladder_cc=float(np.exp(random.uniform(np.log(70), np.log(450)))),
            rectum_mm=tuple(random.uniform((12, 13), (21, 26))),
            gas=random.uniform(0, 0.7),
            sacral_bend_mm=random.uniform(-6, 8),
            vesicles_mm=(random.uniform(16, 30), random.uniform(5.0, 8.0)),
            femur_mm=random.uniform(22, 26),
        )


def make_pelvis(seed: int = 0) -> Case:
    """The patient of `seed`, 72 x 128 x 128 voxels of about 3 x 4 x 4 mm: ct in HU, organs and BODY by their
    TG-263 names, no target, no beams, no dose."""
    random = np.random.default_rng([seed, 263])
    traits = Traits.draw(random)
    grid = Grid(SHAPE, (traits.pixel_mm, traits.pixel_mm, SLICE_MM))
    space = patient_frame(grid, MIDDLE, traits.size, traits.shift_mm)
    depth = depth_in_body(space, traits)
    bones = draw_bones(space, traits, depth)
    organs = draw_organs(space, traits, random)
    organs = {name: mask & (depth > 5) for name, mask in organs.items()}
    soft = np.logical_or.reduce([mask for name, mask in organs.items() if "Femur" not in name])
    bones[soft] = 0  # no organ lies in bone
    ct = draw_ct(space, traits, depth, organs, bones, random)
    return Case(
        name=f"pelvis_{seed}",
        grid=grid,
        structures={"BODY": depth > 0, **organs},
        ct=Volume(ct, grid, "HU"),
    )


def depth_in_body(space: Space, traits: Traits) -> Floats:
    """About how deep under the skin each voxel lies, in mm; negative outside. Below the perineum lie two
    thighs."""
    front, back = space.along(FRONT), space.along(BACK)
    grown = traits.fat_mm - 20.0
    wide = space.along(HALF_WIDTH) * traits.width + grown
    middle, half = (front + back) / 2, (back - front) / 2 + 0.6 * grown
    trunk = _superellipse(space.x / wide, (space.y - middle) / half, np.minimum(wide, half))
    trunk = trunk - np.clip(-55 - space.z, 0, None) * 8.0  # ends at the perineum
    leg = 0.515 * wide
    legs = [
        _superellipse((space.x - side * 0.485 * wide) / leg, (space.y - middle) / (0.96 * half), leg)
        for side in (-1, 1)
    ]
    thighs = np.where(space.z < -40, np.maximum(*legs), -100.0)
    depth: Floats = np.maximum(trunk, thighs).astype(np.float32)
    return depth


def _superellipse(u: Floats, v: Floats, radius: Floats) -> Floats:
    depth: Floats = (1 - (np.abs(u) ** 2.4 + np.abs(v) ** 2.4) ** (1 / 2.4)) * radius
    return depth


def draw_organs(space: Space, traits: Traits, random: np.random.Generator) -> dict[str, Mask]:
    """The organs by TG-263 name, without a voxel in common."""
    rx, ry, rz = traits.prostate_mm
    shape = (space.z.shape[0], space.y.shape[1], space.x.shape[2])
    rough = ndimage.gaussian_filter(random.standard_normal(shape, dtype=np.float32), (4, 3, 3))
    bulge = 1 + 0.05 * rough / rough.std()
    prostate = space.ellipsoid((0, 0, 0), (rx * bulge, ry * bulge, rz * bulge))
    long, thick = traits.vesicles_mm
    vesicles = np.zeros(shape, dtype=bool)
    for side in (-1, 1):
        root, tip = (side * 4, ry * 0.55, rz * 0.8), (side * (5 + long), ry * 0.6 + 6, rz * 0.8 + 12)
        vesicles |= space.rod(root, tip, thick)
    bladder = _bladder(space, traits, bulge)
    rectum = _rectum(space, traits, bulge)
    bulb = space.ellipsoid((0, 2, -rz - 15), (9 * bulge, 8 * bulge, 8 * bulge))
    bowel = space.ellipsoid((0, -35, 118), (92 * bulge, 52 * bulge, 42)) & (space.z > 70)
    organs = {
        "Prostate": prostate,
        "Rectum": rectum,
        "SeminalVes": vesicles,
        "PenileBulb": bulb,
        "Bladder": bladder,
        "Bag_Bowel": bowel & ~ndimage.binary_dilation(bladder | rectum),
    }
    taken = np.zeros(shape, dtype=bool)
    for name, mask in organs.items():  # the one named first keeps a voxel that two would hold
        organs[name] = _largest_piece(mask & ~taken, pieces=2 if name == "SeminalVes" else 1)
        taken |= mask
    for side, letter in ((1, "L"), (-1, "R")):
        organs[f"Femur_Head_{letter}"] = space.ellipsoid(_head_mm(side), (traits.femur_mm,) * 3)
    return organs


def _head_mm(side: int) -> tuple[float, float, float]:
    return (side * 92.0, -4.0, 18.0)


def _bladder(space: Space, traits: Traits, bulge: Floats) -> Mask:
    """A bladder on the prostate's base; the fuller, the higher and rounder."""
    _, ry, rz = traits.prostate_mm
    radius = (traits.bladder_cc * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    full = np.clip((radius - 25) / 22, 0, 1)
    wide, deep = radius * (1.18 - 0.1 * full), radius * (1.0 - 0.06 * full)
    high = radius**3 / (wide * deep)
    centre = (0, -ry - 2 - 0.1 * deep, rz + 0.72 * high)
    return space.ellipsoid(centre, (wide * bulge, deep * bulge, high * bulge))


def _rectum(space: Space, traits: Traits, bulge: Floats) -> Mask:
    """From the anal canal behind the prostate along the sacrum; wide in the ampulla."""
    _, ry, rz = traits.prostate_mm
    narrow, ampulla = traits.rectum_mm
    radius = space.along(((-100, 11), (-rz - 12, 11), (-4, narrow), (32, ampulla), (75, narrow), (140, 12)))
    behind = ry + 0.5  # the wall of the one lies on the other
    middle = space.along(
        (
            (-100, 34),
            (-rz - 12, 30),
            (-4, behind + narrow),
            (32, behind + ampulla + 3 + 0.5 * traits.sacral_bend_mm),
            (75, 42 + traits.sacral_bend_mm),
            (140, 10),
        )
    )
    aside = space.along(((-100, 0), (20, 0), (80, 8), (140, 26)))
    return space.tube(aside, middle, radius * bulge, 0.9 * radius * bulge) & space.between(-rz - 32, 92)


def _largest_piece(mask: Mask, pieces: int) -> Mask:
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= pieces:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.isin(labels, np.argsort(sizes)[-pieces:])


def draw_bones(space: Space, traits: Traits, depth: Floats) -> Floats:
    """Femurs, hip bones and sacrum as CT numbers (d, h, w), zero where there is no bone."""
    hu = np.zeros(depth.shape, dtype=np.float32)
    head = traits.femur_mm

    def put(mask: Mask, cortical: float, spongy: float) -> None:
        hu[mask] = np.maximum(hu[mask], spongy)
        hu[mask & ~ndimage.binary_erosion(mask)] = cortical

    sacrum = space.along(SACRUM) + traits.sacral_bend_mm
    put(space.tube(0, sacrum, space.along(((-15, 5), (10, 12), (45, 34), (140, 52))), 13) & (space.z > -10),
        480, 220)  # fmt: skip
    put(space.ellipsoid((0, -58, 2), (9, 11, 19)), 420, 250)
    for side in (-1, 1):
        centre = _head_mm(side)
        cup = space.ellipsoid(centre, (head + 15,) * 3) & ~space.ellipsoid(centre, (head + 3,) * 3)
        put(cup & ((space.x - centre[0]) * side < 10) & (space.z > centre[2] - 16), 650, 300)
        put(space.rod((side * 78, 2, 48), (side * 104, 22, 125), 15), 620, 260)
        put(space.rod((side * 66, -28, 16), (side * 8, -60, 6), 9), 600, 280)
        put(space.rod((side * 70, 26, -2), (side * 52, 34, -48), 13), 620, 260)
        put(space.rod((side * 52, 30, -46), (side * 9, -50, -12), 7), 560, 260)
        put(space.rod((side * 92, -4, 18), (side * 132, 12, -8), 15), 700, 280)
        put(space.rod((side * 136, 12, 6), (side * 118, 10, -110), 16), 1150, 500)
        put(space.ellipsoid(centre, (head,) * 3), 750, 340)
    hu[depth <= 6] = 0
    return hu


def draw_ct(
    space: Space,
    traits: Traits,
    depth: Floats,
    organs: Mapping[str, Mask],
    bones: Floats,
    random: np.random.Generator,
) -> Floats:
    """CT numbers in whole HU: skin, fat, muscle with fat planes, pelvic fat, organs, gas in the rectum and in
    the bowel, bones, texture and noise; no table."""
    planes = ndimage.gaussian_filter(random.standard_normal(depth.shape, dtype=np.float32), (3, 1.5, 1.5))
    planes /= planes.std()
    fat = traits.fat_mm * (1 + 0.25 * np.clip(space.y / 100, -1, 1))  # more of it at the back
    ct = np.where(depth > fat, MUSCLE_HU, FAT_HU).astype(np.float32)
    ct[(planes > 1.3) & (depth > fat)] = -60
    ct[depth < 3] = 0
    cavity = space.ellipsoid((0, 2, 55), (62, 66, 78)) | space.ellipsoid((0, -30, 120), (105, 70, 60))
    ct[cavity & (depth > fat + 8)] = FAT_HU
    for name, hu in ORGAN_HU.items():
        ct[organs[name]] = hu
    inner = ndimage.binary_erosion(organs["Rectum"])
    ct[inner & (planes > np.quantile(planes, 1 - traits.gas))] = GAS_HU
    ct[organs["Bag_Bowel"] & (planes > 0.4)] = FAT_HU
    ct[organs["Bag_Bowel"] & (planes > 2.0)] = GAS_HU
    ct = np.where(bones > 0, bones, ct)
    ct += 12 * planes * (ct > -500) + 14 * random.standard_normal(ct.shape, dtype=np.float32)
    ct = ndimage.gaussian_filter(np.where(depth > 0, ct, AIR_HU), (0.3, 0.4, 0.4))
    ct[depth <= -2] = AIR_HU
    return np.asarray(np.clip(np.rint(ct), AIR_HU, 3071).astype(np.float32))
