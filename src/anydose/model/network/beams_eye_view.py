"""Beam's-eye-view feature exchange: features of the body voxels are gathered along the rays of every angular
sector, convolved in the beam's-eye view and given back along the same rays, with the same weights for every
beam. A convolution in the patient would have to learn nine directions from a few hundred patients.

Axes: n batch, l body voxels (body_voxels.py), s sectors, c channels, v u rows and columns of a view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.case.beams import SECTORS
from anydose.model.network.body_voxels import Level, gather

SAD_MM = 1000.0
COVERED = 8
"""Power of the mean plate by which a voxel weighs in the isocentre: what all of nine beams cover weighs 1,
what eight of them cover 0.4, and what three cover 0.0002."""


@dataclass(frozen=True)
class Rays:
    """The rays of every sector through the body voxels."""

    plates: Tensor
    """(l, s): how open the beam of each sector is there, from 0 to 1."""
    place: Tensor
    """(s, l): the ray of each voxel, as a pixel of views of `shape`, counted through."""
    shape: tuple[int, int, int]
    """(s * n, v, u): a view for each sector and sample."""


def rays_of(beam: Tensor, level: Level, spacing_mm: Tensor) -> Rays:
    """The rays of a beam latent (n, (1 + SECTORS) * p, d, h, w) of voxel patches. spacing_mm: (n, 3) of the
    level's voxels along x, y, z."""
    plates = open_beams(beam, level)
    place, shape = ray_places(level, spacing_mm, plates[:, 0])
    return Rays(plates=plates[:, 1:], place=place, shape=shape)


def open_beams(beam: Tensor, level: Level) -> Tensor:
    """The plates (l, 1 + SECTORS) of a beam latent in the body voxels: the mean over each patch, as a share
    of the open beam; the mean over all beams first."""
    patches: Tensor = gather(beam, level).float().unflatten(1, (1 + SECTORS, -1))
    return (patches.mean(dim=2) + 1) / 2


def ray_places(level: Level, spacing_mm: Tensor, mean_plate: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """`Rays.place` and `Rays.shape`. Rays are one voxel apart at the isocentre. mean_plate: (l,)."""
    n, z, y, x = level.mask.nonzero().unbind(dim=1)
    at_mm = torch.stack([x, y, z], dim=1) * spacing_mm[n]
    isocentres_mm = _isocentres(at_mm, n, mean_plate, samples=len(spacing_mm))
    u_mm, v_mm = _project(at_mm - isocentres_mm[n])
    # rounded from the isocentre: neither where the body ends nor who else is in the batch makes a difference
    column = _from_margin((u_mm / spacing_mm[n, 0]).round().long())
    row = _from_margin((v_mm / spacing_mm[n, 2]).round().long())
    views, high, wide = SECTORS * len(spacing_mm), int(row.max()) + 2, int(column.max()) + 2
    view = torch.arange(SECTORS, device=n.device)[:, None] * len(spacing_mm) + n
    return (view * high + row) * wide + column, (views, high, wide)


def _isocentres(at_mm: Tensor, sample: Tensor, mean_plate: Tensor, samples: int) -> Tensor:
    """The isocentre (n, 3) of each sample, taken for the middle of what all its beams cover: a centimetre off
    it moves no ray by more than two millimetres. at_mm: (l, 3); sample: (l,), whose voxel each is."""
    weight = (mean_plate[:, None] + 1e-3) ** COVERED  # of a sample without a beam, the middle of the body
    weighted = torch.cat([weight * at_mm, weight], dim=1)
    sums = at_mm.new_zeros(samples, 4).index_add(0, sample, weighted)
    return sums[:, :3] / sums[:, 3:]


def _project(from_isocentre_mm: Tensor) -> tuple[Tensor, Tensor]:
    """(u, v), each (s, l) in mm, where the rays through points (l, 3) meet the plane of the isocentre.
    Sources lie SAD_MM before it, at the azimuth of each sector's centre (BeamsEyeView: 0 anterior, 90 the
    patient's left)."""
    across, along, up = from_isocentre_mm.unbind(dim=1)
    azimuth = torch.arange(SECTORS, device=across.device)[:, None] * (2 * math.pi / SECTORS)
    magnification = SAD_MM / (SAD_MM + along * azimuth.cos() - across * azimuth.sin())
    return magnification * (across * azimuth.cos() + along * azimuth.sin()), magnification * up


def _from_margin(pixel: Tensor) -> Tensor:
    """Pixels counted from 1: the convolutions see one empty pixel around what the rays fill."""
    return pixel - pixel.amin() + 1


class Exchange(nn.Module):
    """One exchange along the rays, added to the input; starts as nothing."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.inwards = nn.Linear(channels, size)
        self.view = nn.Sequential(
            nn.Conv2d(size + 1, size, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(size, size, 3, padding=1),
        )
        self.outwards = nn.Linear(size, channels)
        nn.init.zeros_(self.outwards.weight)
        nn.init.zeros_(self.outwards.bias)

    def forward(self, x: Tensor, rays: Rays) -> Tensor:
        """x: body voxels (l, c). A ray's features are the mean over its voxels, weighted by the plate; voxels
        get back what their rays hold, weighted alike."""
        h = F.silu(self.inwards(x)).float()
        weight = rays.plates.T[..., None]  # (s, l, 1)
        sent = torch.cat([weight * h, weight.expand(-1, len(x), 1)], dim=2).flatten(0, 1)
        summed = sent.new_zeros(math.prod(rays.shape), sent.shape[1])
        summed = summed.index_add(0, rays.place.flatten(), sent)
        length = summed[:, -1:]  # of the ray in open beam, in voxels
        on_rays = torch.cat([summed[:, :-1] / (length + 0.1), length / 16], dim=1)
        views = self.view(on_rays.view(*rays.shape, -1).movedim(-1, 1))
        received = views.movedim(1, -1).flatten(0, 2).index_select(0, rays.place.flatten())
        back = (weight * received.view(*rays.place.shape, -1)).sum(dim=0)
        change: Tensor = self.outwards(back.to(h.dtype))
        return x + change.to(x.dtype)
