"""Beams as geometry: where the source stands, what of the patient a beam covers, how deep the tissue is.

Gantry, couch and patient position follow IEC 61217; millimetres are DICOM LPS. The beam plate is that of the
GDP-HMM challenge (diverging rays through the target, inverse square); the attenuated plate multiplies it by
exp(-mu * radiological depth) along the same rays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from anydose.case.grid import Floats, Grid

Image = NDArray[np.float32]
Box = tuple[slice, slice, slice]

SECTORS = 9  # angular sectors of 40 degrees: nine equispaced fields each get their own
MU_PER_MM = 0.0045  # broad-beam effective attenuation of a 6 MV beam in water (TPR20/10 about 0.67)
BEV_PIXEL_MM = 2.0
RAY_STEP_MM = 4.0
SHADOW_LAYERS = 12  # of the grid, drawn at a time
THREADS = 2  # one view each

# IEC table system (X right facing the gantry, Y to the gantry, Z up) -> LPS: rows are the patient's x, y, z.
PATIENT_FROM_TABLE = {
    "HFS": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "HFP": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "FFS": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "FFP": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "HFDL": ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
    "HFDR": ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    "FFDL": ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
    "FFDR": ((0, 0, 1), (-1, 0, 0), (0, -1, 0)),
}


@dataclass(frozen=True)
class Beam:
    """One beam: a static field has one gantry angle, an arc one per control point.

    gantry_deg, couch_deg (patient support angle): IEC 61217 degrees; isocentre_mm: LPS; sad_mm: source to
    isocentre.
    """

    gantry_deg: tuple[float, ...]
    isocentre_mm: tuple[float, float, float]
    couch_deg: float = 0.0
    collimator_deg: float = 0.0
    sad_mm: float = 1000.0
    name: str = ""

    def __post_init__(self) -> None:
        numbers = (*self.gantry_deg, *self.isocentre_mm, self.couch_deg, self.collimator_deg, self.sad_mm)
        if not self.gantry_deg or not np.isfinite(numbers).all() or self.sad_mm <= 0:
            raise ValueError(f"beam {self.name!r}: {self} needs at least one gantry angle and finite numbers")

    @property
    def is_arc(self) -> bool:
        """True for a rotating beam."""
        return len(self.gantry_deg) > 1

    def drawn_angles(self) -> tuple[float, ...]:
        """Gantry angles that are drawn: the static one, or every second control point of an arc (GDP-HMM)."""
        return self.gantry_deg[::2] if self.is_arc else self.gantry_deg


@dataclass(frozen=True)
class BeamsEyeView:
    """A beam's-eye view: source position and the unit vectors u (along the gantry's rotation), v and w (from
    the source to the isocentre), all LPS millimetres."""

    source_mm: Floats
    u: Floats
    v: Floats
    w: Floats
    sad_mm: float

    @property
    def azimuth_deg(self) -> float:
        """Where the beam comes from in the patient's axial plane: 0 anterior, 90 the patient's left."""
        return float(np.degrees(np.arctan2(-self.w[0], self.w[1])) % 360)


def beams_eye_view(beam: Beam, gantry_deg: float, patient_position: str = "HFS") -> BeamsEyeView:
    """The view of one gantry angle. IEC 61217: source at SAD (sin g, 0, cos g), table turned by the couch
    angle about the vertical axis. ValueError for a patient position that is not one of DICOM's eight."""
    if patient_position not in PATIENT_FROM_TABLE:
        raise ValueError(
            f"patient position {patient_position!r}: one of {', '.join(PATIENT_FROM_TABLE)} is accepted"
        )
    g, c = np.radians(gantry_deg), np.radians(beam.couch_deg)
    table_from_room = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn = np.array(PATIENT_FROM_TABLE[patient_position], dtype=np.float64) @ table_from_room
    towards_source = turn @ np.array([np.sin(g), 0.0, np.cos(g)])
    u = turn @ np.array([np.cos(g), 0.0, -np.sin(g)])
    v = turn @ np.array([0.0, 1.0, 0.0])
    source = np.asarray(beam.isocentre_mm) + beam.sad_mm * towards_source
    return BeamsEyeView(source, u, v, -towards_source, beam.sad_mm)


def beams_eye_views(beams: Sequence[Beam], patient_position: str = "HFS") -> list[BeamsEyeView]:
    """Every view that is drawn, over all beams and control points."""
    return [beams_eye_view(b, g, patient_position) for b in beams for g in b.drawn_angles()]


def equispaced(count: int, isocentre_mm: ArrayLike, first_deg: float = 0.0) -> tuple[Beam, ...]:
    """`count` coplanar static beams at equal angles, the first at `first_deg`."""
    x, y, z = (float(v) for v in np.asarray(isocentre_mm))
    angles = [(first_deg + 360.0 * k / count) % 360.0 for k in range(count)]
    return tuple(Beam((a,), (x, y, z), name=f"G{a:g}") for a in angles)


def project(v: BeamsEyeView, grid: Grid, box: Box | None = None) -> tuple[Image, Image, Image]:
    """(U, V, W) of every voxel centre: coordinates in mm on the isocentre plane after perspective, and the
    depth along the central axis measured from the source. Arrays of the grid's shape, or of its voxels in
    `box` alone, where they are the same to the last bit."""
    ru, rv, rw = (_broadcast(grid.along(axis, v.source_mm), box) for axis in (v.u, v.v, v.w))
    scale = v.sad_mm / rw
    return ru * scale, rv * scale, rw


def _broadcast(parts: tuple[Floats, Floats, Floats], box: Box | None) -> Image:
    d, h, w = (part.astype(np.float32) for part in parts)
    if box is not None:
        d, h, w = d[box[0]], h[:, box[1]], w[:, :, box[2]]
    return (d + h) + w


def _aperture(v: BeamsEyeView, target: NDArray[np.bool_], grid: Grid) -> tuple[Image, Floats]:
    """The target's outline seen from the source: an image (rows V, columns U) in [0, 1] with half-size pixels
    for the look-up, and the (V, U) of its first pixel in mm."""
    index = np.argwhere(target).astype(np.float64)
    quarter = np.array(np.meshgrid(*[(-0.25, 0.25)] * 3)).reshape(3, -1).T
    points = grid.to_mm((index[None] + quarter[:, None]).reshape(-1, 3)) - v.source_mm
    depth = points @ v.w
    uv = np.stack([points @ v.v, points @ v.u], axis=1) * (v.sad_mm / depth)[:, None]
    # pixels are counted from the axis, so that a mirrored target has exactly the mirrored image
    pixel = np.rint(uv / BEV_PIXEL_MM).astype(int)
    corner = pixel.min(axis=0) - 4
    pixel -= corner
    image = np.zeros(pixel.max(axis=0) + 5, dtype=bool)
    image[pixel[:, 0], pixel[:, 1]] = True
    closed = ndimage.binary_closing(image, np.ones((3, 3), dtype=bool)).astype(np.float32)
    fine = ndimage.zoom(closed, 2, order=1, mode="nearest", grid_mode=True)
    return fine, (corner - 0.25) * BEV_PIXEL_MM


def beam_plate(v: BeamsEyeView, target: NDArray[np.bool_], grid: Grid) -> Image:
    """One beam's plate: inside the diverging shadow of `target` (d, h, w), (SAD / distance from the
    source)^2, with an edge softened over one pixel of 2 mm; zero elsewhere."""
    image, first = _aperture(v, target, grid)
    rows, columns = image.shape
    pixel_mm = BEV_PIXEL_MM / 2
    plate = np.zeros(grid.shape, dtype=np.float32)
    for box in _shadow_boxes(v, grid, first, first + np.array(image.shape) * pixel_mm):
        u, vv, w = project(v, grid, box)
        # aperture look-up: nearest pixel of 1 mm, a zero frame catches everything outside
        row = np.clip(np.rint((vv - first[0]) / pixel_mm), 0, rows - 1).astype(np.int32)
        column = np.clip(np.rint((u - first[1]) / pixel_mm), 0, columns - 1).astype(np.int32)
        distance_squared = w * w * (1 + (u * u + vv * vv) / v.sad_mm**2)
        plate[box] = image.ravel()[row * columns + column] * (v.sad_mm**2 / distance_squared)
    return plate


def _shadow_boxes(v: BeamsEyeView, grid: Grid, low_mm: Floats, high_mm: Floats) -> Iterator[Box]:
    """Blocks of voxels that together hold the shadow of a rectangle from `low_mm` to `high_mm`, each (V, U),
    on the isocentre plane: one for every few layers along the axis that the beam follows most, as wide as the
    four edge rays are apart there. The whole grid where the source stands among the layers or a ray runs
    along them."""
    source = grid.to_index(v.source_mm)
    towards = [
        v.w + (row * v.v + column * v.u) / v.sad_mm
        for row in (low_mm[0], high_mm[0])
        for column in (low_mm[1], high_mm[1])
    ]
    edges = grid.to_index(v.source_mm + np.array(towards)) - source
    axis = int(np.argmax(np.abs(edges.mean(axis=0))))
    layers, along = grid.shape[axis], edges[:, axis]
    beyond = source[axis] < -1 if along.min() > 0 else source[axis] > layers
    if not beyond or along.min() * along.max() <= 0:
        yield (slice(None), slice(None), slice(None))
        return
    last = np.array(grid.shape) - 1
    for start in range(0, layers, SHADOW_LAYERS):
        stop = min(start + SHADOW_LAYERS, layers)
        ends = np.array([start - 1, stop])  # a layer more on either side
        crossed = source + ((ends[:, None] - source[axis]) / along)[..., None] * edges
        first = np.clip(np.floor(crossed.min(axis=(0, 1))) - 1, 0, last).astype(int)
        end = np.clip(np.ceil(crossed.max(axis=(0, 1))) + 2, 1, last + 1).astype(int)
        first[axis], end[axis] = start, stop
        d, h, w = (slice(int(a), int(b)) for a, b in zip(first, end, strict=True))
        yield d, h, w


def relative_density(hu: NDArray[np.floating]) -> Image:
    """Electron density relative to water from CT numbers: the usual bilinear curve (air 0, water 1, slope
    halved in bone; Schneider, Phys Med Biol 41, 1996)."""
    hu = np.clip(hu, -1000, 3000).astype(np.float32)
    return np.where(hu < 0, 1 + hu / 1000, 1 + hu / 2000).astype(np.float32)


def radiological_depth(
    v: BeamsEyeView,
    density: Image,
    grid: Grid,
    within: NDArray[np.bool_] | None = None,
    step_mm: float = RAY_STEP_MM,
) -> Image:
    """Water-equivalent depth in mm of every voxel (of those in `within`, zero elsewhere) along its ray:
    `density` (d, h, w) is summed along diverging rays on a fan of `step_mm` and read back at the voxel
    centres (linear interpolation both ways). Steps are counted from source and axis: neither a crop nor a
    mirror image moves them."""
    u, vv, w = project(v, grid)
    chosen = np.ones(grid.shape, dtype=bool) if within is None else within
    out = np.zeros(grid.shape, dtype=np.float32)
    if not chosen.any():
        return out
    points = (w[chosen], vv[chosen], u[chosen])
    # rays begin where the grid does, not where the points do
    lows = (w.min(), points[1].min(), points[2].min())
    axes = [
        step_mm * np.arange(low // step_mm - 1, p.max() // step_mm + 3)
        for low, p in zip(lows, points, strict=True)
    ]
    summed = _summed_along_rays(v, density, grid, axes, step_mm)
    back = [(p - axis[0]) / step_mm for p, axis in zip(points, axes, strict=True)]
    out[chosen] = ndimage.map_coordinates(summed, back, order=1, mode="nearest", output=np.float32)
    return out


def _summed_along_rays(
    v: BeamsEyeView, density: Image, grid: Grid, axes: Sequence[Floats], step_mm: float
) -> Image:
    """`density` times length from the source on, in mm, at the nodes W x V x U of the fan that `axes`
    spans."""
    depth, row, column = np.meshgrid(*axes, indexing="ij", sparse=True)
    matrix = np.linalg.inv(grid.affine[:3, :3])[::-1]
    forward, up, across = matrix @ v.w, matrix @ v.v / v.sad_mm, matrix @ v.u / v.sad_mm
    start = grid.to_index(v.source_mm)
    index = [
        (start[k] + depth * (forward[k] + row * up[k] + column * across[k])).astype(np.float32)
        for k in range(3)
    ]
    sampled = ndimage.map_coordinates(density, index, order=1, mode="grid-constant", output=np.float32)
    per_step = (step_mm * np.sqrt(1 + (row**2 + column**2) / v.sad_mm**2)).astype(np.float32)
    summed: Image = (np.cumsum(sampled, axis=0) - sampled / 2) * per_step
    return summed


def draw_beams(views: Sequence[BeamsEyeView], target: NDArray[np.bool_], grid: Grid, density: Image) -> Image:
    """The beam modality (1 + SECTORS, d, h, w): first the mean beam plate over all views (the paper's), then
    for each angular sector the attenuated plates of its beams, scaled so that equispaced beams, one a sector,
    count once. A beam between two sectors' centres is shared by both in proportion."""
    out = np.zeros((1 + SECTORS, *grid.shape), dtype=np.float32)
    if not target.any():
        raise ValueError("a target with no voxel casts no beam plate")

    def plates(v: BeamsEyeView) -> tuple[Image, Image]:
        plate = beam_plate(v, target, grid)
        depth = radiological_depth(v, density, grid, plate > 0)
        return plate, plate * np.exp(-MU_PER_MM * depth) * (SECTORS / len(views))

    with ThreadPoolExecutor(THREADS) as pool:
        for v, (plate, attenuated) in zip(views, pool.map(plates, views), strict=True):
            out[0] += plate / len(views)
            place = round(v.azimuth_deg * SECTORS / 360, 6)
            for sector in {int(place), int(np.ceil(place))}:
                out[1 + sector % SECTORS] += attenuated * (1 - abs(place - sector))
    return out


def mirrored_sectors() -> tuple[int, ...]:
    """Where each channel of `draw_beams` comes from once left and right are exchanged."""
    return (0, *(1 + (-k) % SECTORS for k in range(SECTORS)))


def rotated_sectors(degrees: float) -> Image:
    """The matrix (1 + SECTORS, 1 + SECTORS) that takes the channels of `draw_beams` to those of beams whose
    azimuth has grown by `degrees`, exact for beams at the centres of their sectors."""
    out = np.zeros((1 + SECTORS, 1 + SECTORS), dtype=np.float32)
    out[0, 0] = 1.0
    place = round(degrees * SECTORS / 360, 6)
    for shift in {int(np.floor(place)), int(np.ceil(place))}:
        for k in range(SECTORS):
            out[1 + (k + shift) % SECTORS, 1 + k] += 1 - abs(place - shift)
    return out


def angle_plate(
    views: Sequence[BeamsEyeView],
    isocentre_mm: ArrayLike,
    grid: Grid,
    slices: int = 10,
    length: int = 50,
    width: int = 4,
) -> Image:
    """The angle plate (d, h, w) in {0, 1}: a slab of `slices` axial slices at the isocentre that holds, for
    each view, a line of `length` by `width` voxels from the isocentre towards the source (GDP-HMM: R. Gao et
    al., arXiv 2501.11803)."""
    centre = grid.to_index(isocentre_mm)
    out = np.zeros(grid.shape, dtype=np.float32)
    first = int(np.clip(np.rint(centre[0]) - slices // 2, 0, max(grid.shape[0] - slices, 0)))
    h, w = np.meshgrid(*(np.arange(n) for n in grid.shape[1:]), indexing="ij")
    offset = np.stack([h - centre[1], w - centre[2]])
    for v in views:
        towards = (grid.to_index(np.asarray(isocentre_mm) - v.w * 100.0) - centre)[1:]
        if np.linalg.norm(towards) < 1e-6:
            continue
        towards = towards / np.linalg.norm(towards)
        along = offset[0] * towards[0] + offset[1] * towards[1]
        across = np.abs(offset[0] * towards[1] - offset[1] * towards[0])
        out[first : first + slices, (along >= 0) & (along <= length) & (across <= width / 2)] = 1.0
    return out
