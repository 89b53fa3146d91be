"""A drawn case as tensors: what goes into a model, cropped to the body, padded, mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary
from anydose.case.volume import bounding_box


@dataclass(frozen=True)
class Sample:
    """One rendered case: volumes {modality: (c, d, h, w) in the model's range}, body mask (d, h, w), spacing
    in mm (x, y, z), reference dose in Gy and the organs that the channels of oar stand for."""

    name: str
    volumes: dict[str, Tensor]
    body: Tensor
    spacing_mm: tuple[float, float, float]
    rx_max_gy: float
    organs: tuple[str, ...] = HEAD_NECK.organs

    def pin_memory(self) -> Sample:
        """The same in page-locked memory, from where a GPU fetches it while it computes."""
        volumes = {name: volume.pin_memory() for name, volume in self.volumes.items()}
        return replace(self, volumes=volumes, body=self.body.pin_memory())


def body_block(case: Case) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(start, shape) of the block that is drawn: the bounding box of body and targets; ValueError without a
    body."""
    if case.body is None:
        raise ValueError(f"{case.name}: no body structure; a model needs the external contour")
    return bounding_box(np.logical_or.reduce([case.body, *case.targets.values()]))


def structures(sample: Sample) -> Tensor:
    """Masks (s, d, h, w) of what a drawn patient shows: each organ channel, and the voxels of each
    prescription."""
    d, h, w = sample.body.shape
    organs = sample.volumes.get("oar", torch.zeros(0, d, h, w)) > 0
    levels = sample.volumes.get("ptv", torch.zeros(0, d, h, w))
    background = modality.TABLE["ptv"].background(sample.rx_max_gy)
    targets = [(levels == level).any(dim=0) for level in levels.unique() if level > background]
    return torch.cat([organs, *(target[None] for target in targets)])


def working_case(
    case: Case, trained_mm: Sequence[tuple[float, float]], working_mm: tuple[float, float, float]
) -> Case:
    """The case as a model has seen cases: axes towards left, posterior and superior, spacing (x, y, z) within
    `trained_mm`. A case that is so already is returned as it is; any other on a grid of `working_mm` over its
    body block, and `inferred` says so."""
    grid = case.grid
    usual = all(low <= s <= high for s, (low, high) in zip(grid.spacing_mm, trained_mm, strict=True))
    if usual and np.allclose(grid.direction, np.eye(3), atol=1e-3):
        return case
    start, shape = body_block(case)
    corners = np.array(np.meshgrid(*((s - 0.5, s + n - 0.5) for s, n in zip(start, shape, strict=True))))
    points_mm = grid.to_mm(corners.reshape(3, -1).T)
    low, spacing = points_mm.min(axis=0), np.asarray(working_mm)
    count = np.ceil((points_mm.max(axis=0) - low) / spacing - 1e-6).astype(int)
    x, y, z = low + spacing / 2
    said = f"worked on a grid of {working_mm} mm along the patient's axes (the case has {grid.spacing_mm} mm)"
    moved = case.on(Grid((count[2], count[1], count[0]), working_mm, (x, y, z)))
    return replace(moved, inferred=(*moved.inferred, said))


def draw_sample(
    case: Case, wanted: Sequence[str] = modality.NAMES, organs: tuple[str, ...] = HEAD_NECK.organs
) -> tuple[Sample, tuple[int, int, int]]:
    """Draw the wanted modalities of a case on its body block, with a channel for each of `organs`; the sample
    and the block's first index (z, y, x)."""
    start, shape = body_block(case)
    part = case.block(start, shape)
    assert part.body is not None
    drawn = modality.render(part, wanted, Vocabulary(organs))
    volumes = {name: torch.from_numpy(array) for name, array in drawn.items()}
    rx_max_gy = case.rx_max_gy if case.prescription.levels_gy else 1.0
    body = torch.from_numpy(part.body)
    return Sample(case.name, volumes, body, case.grid.spacing_mm, rx_max_gy, organs), start


def padding(
    have: Sequence[int],
    multiple: int | tuple[int, int, int],
    offset: tuple[float, float, float] = (0.5, 0.5, 0.5),
    move: int = 0,
) -> tuple[list[int], list[int]]:
    """What `padded` makes of the shape `have`: the shape, and where the old one begins in it."""
    multiples = (multiple,) * 3 if isinstance(multiple, int) else multiple
    need = [-(-(n + 2 * move) // k) * k for n, k in zip(have, multiples, strict=True)]
    return need, [int((n - m) * o) + move for n, m, o in zip(need, have, offset, strict=True)]


def padded(
    sample: Sample,
    multiple: int | tuple[int, int, int],
    offset: tuple[float, float, float] = (0.5, 0.5, 0.5),
    move: int = 0,
) -> Sample:
    """The sample padded with background to multiples of `multiple` (one, or along z, y, x); offset in [0, 1]:
    the share of the padding that comes before, along (z, y, x); move: voxels further on than that."""
    have = sample.body.shape
    need, before = padding(have, multiple, offset, move)
    where = tuple(slice(b, b + m) for b, m in zip(before, have, strict=True))
    volumes = {}
    for name, volume in sample.volumes.items():
        background = modality.TABLE[name].background(sample.rx_max_gy)
        out = volume.new_full((len(volume), *need), background)
        out[(slice(None), *where)] = volume
        volumes[name] = out
    body = sample.body.new_zeros(need)
    body[where] = sample.body
    return replace(sample, volumes=volumes, body=body)
