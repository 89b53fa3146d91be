"""A rendered patient changed as a whole: cropped, mirrored, rotated, deformed. Random numbers are drawn
before (train/tasks.py), so that every change can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from anydose.case import beams, modality
from anydose.case.naming.vocabulary import Vocabulary
from anydose.model.sample import Sample


def cropped(
    sample: Sample, size: tuple[int, int, int], offset: tuple[float, float, float] = (0.5, 0.5, 0.5)
) -> Sample:
    """The sample cut to at most `size` voxels along (z, y, x), then to the box of the body in them (all of
    them where they hold none); offset in [0, 1]: the share of what is cut away that lies before."""
    have = sample.body.shape
    before = [int(max(0, n - m) * o) for n, m, o in zip(have, size, offset, strict=True)]
    where = tuple(slice(b, min(b + m, n)) for b, m, n in zip(before, size, have, strict=True))
    inside = sample.body[where].nonzero()
    if len(inside):
        low, high = inside.min(dim=0).values.tolist(), inside.max(dim=0).values.tolist()
        where = tuple(slice(w.start + a, w.start + b + 1) for w, a, b in zip(where, low, high, strict=True))
    volumes = {name: volume[(slice(None), *where)] for name, volume in sample.volumes.items()}
    return replace(sample, volumes=volumes, body=sample.body[where])


def flipped(sample: Sample, left_right: bool, cranio_caudal: bool, unswapped: Sequence[str] = ()) -> Sample:
    """The patient mirrored, with organs and beams exchanged along: left-right swaps paired organs and the
    angular sectors of the beams; cranio-caudal reverses the slices (coplanar beams map onto themselves).
    Modalities in `unswapped` keep their channels: the left organ stays the left one, though it lies right."""
    volumes, axes = dict(sample.volumes), []
    if left_right:
        axes.append(-1)
        rows = modality.table(Vocabulary(sample.organs))
        to_swap = [name for name in volumes if name not in unswapped]
        volumes |= {name: volumes[name][list(rows[name].mirror)] for name in to_swap}
    if cranio_caudal:
        axes.append(-3)
    if not axes:
        return sample
    mirrored = {name: torch.flip(v, axes) for name, v in volumes.items()}
    return replace(sample, volumes=mirrored, body=torch.flip(sample.body, axes))


def rotated(
    sample: Sample, degrees: float, zoom: float = 1.0, deformation_mm: float = 0.0, seed: int = 0
) -> Sample:
    """The patient, with dose and beams, rotated about the cranio-caudal axis by `degrees` (towards higher
    azimuth: anterior goes to the patient's left) and drawn on voxels `zoom` times finer in the plane, so that
    nothing changes its size in mm, then deformed (`displacement`). Beams at the centres of their sectors come
    out as if drawn anew; how a deformation turns them is left out."""
    if degrees == 0 and zoom == 1 and deformation_mm == 0:
        return sample
    places = _places_before(sample, degrees, zoom=zoom, deformation_mm=deformation_mm, seed=seed)
    grid = torch.from_numpy(places)[None].to(sample.body.device)
    volumes = {}
    for name, volume in sample.volumes.items():
        row = modality.TABLE[name]
        background = row.background(sample.rx_max_gy)
        moved = _sampled(volume - background, grid, row.interpolation).add_(background)
        volumes[name] = moved.clamp_(volume.min(), volume.max())
    if "beam" in volumes:
        sectors = torch.tensor(beams.rotated_sectors(degrees)).to(grid)
        volumes["beam"] = sectors @ volumes["beam"].flatten(1)
        volumes["beam"] = volumes["beam"].unflatten(1, (-1, *grid.shape[1:3]))
    body = _sampled(sample.body[None].float(), grid, "nearest")[0] > 0.5
    sx, sy, sz = sample.spacing_mm
    return replace(sample, volumes=volumes, body=body, spacing_mm=(sx / zoom, sy / zoom, sz))


def _places_before(
    sample: Sample, degrees: float, *, zoom: float, deformation_mm: float, seed: int
) -> NDArray[np.float32]:
    """Where each voxel of the rotated plane was, (h', w', 2) as (x, y) from -1 to 1 over the voxel centres of
    the plane as it is: what `grid_sample` takes. The new plane holds the whole rotated body."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    mm = np.array(sample.spacing_mm[1::-1])  # (y, x)
    centre = (np.array(sample.body.shape[1:]) - 1) / 2
    inside = np.argwhere(sample.body.any(dim=0).cpu().numpy()) if sample.body.any() else centre[None]
    after = ((inside - centre) * mm) @ np.array([[c, -s], [s, c]]) * (zoom / mm)  # in new voxels
    margin = np.ceil(2 * deformation_mm / mm)
    low = after.min(axis=0) - margin
    size = np.ceil(np.ptp(after, axis=0) + 2 * margin - 1e-6).astype(int) + 1
    y, x = ((np.indices(size) + low[:, None, None]).T * (mm / zoom)).T  # in mm from the centre
    if deformation_mm:
        y, x = np.stack([y, x]) + deformation_mm * displacement((size[0], size[1]), mm, seed)
    before = np.stack([(x * c + y * s) / mm[1], (y * c - x * s) / mm[0]], axis=-1)  # in voxels as they are
    return np.asarray(before / np.maximum(centre[::-1], 0.5), dtype=np.float32)


def displacement(size: tuple[int, int], mm: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Where each voxel of a plane is taken from, as a displacement (2, h, w) along y and x of root mean
    square 1: normal numbers about every 60 mm, and between them a smooth surface."""
    nodes = [int(n * m / 60.0) + 3 for n, m in zip(size, mm, strict=True)]
    coarse = torch.randn(1, 2, *nodes, generator=torch.Generator().manual_seed(seed))
    fine: NDArray[np.float32] = F.interpolate(coarse, size, mode="bicubic", align_corners=True)[0].numpy()
    return np.asarray(fine / np.sqrt(np.square(fine).mean()), dtype=np.float32)


def _sampled(volume: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Every slice of (c, d, h, w) at the places of `grid` (1, h', w', 2)."""
    flat = F.grid_sample(volume.flatten(0, 1)[None], grid, mode, "zeros", align_corners=True)
    moved: Tensor = flat[0].unflatten(0, volume.shape[:2])
    return moved
