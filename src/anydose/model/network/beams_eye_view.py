"""What lies on the rays of each beam: features of the body's rows (rows.py) are gathered along the rays of
every angular sector, worked on in the beam's-eye view and given back along the same rays, with the same
weights for every beam. A convolution would have to learn nine directions from a few hundred patients."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.case.beams import SECTORS
from anydose.model.network.body_voxels import Level, take

SAD_MM = 1000.0


def open_beams(beam: Tensor, level: Level) -> Tensor:
    """The plates of a beam latent (n, (1 + SECTORS) * p, d, h, w) of voxel patches in the rows, (l, 1 +
    SECTORS): the mean over each patch, as a share of the open beam; the mean over all beams first."""
    return (take(beam, level).float().unflatten(1, (1 + SECTORS, -1)).mean(dim=2) + 1) / 2


def ray_numbers(level: Level, spacing_mm: Tensor, plain: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """For every sector and row (SECTORS, l) the place of its ray in beam's-eye views of shape (SECTORS * n,
    v, u), and that shape. Rays come from SAD_MM before the isocentre, at the azimuth of the sector's centre
    (BeamsEyeView: 0 anterior, 90 the patient's left), and are one voxel apart there. The isocentre is
    taken for the middle of what all beams cover, by the mean plate `plain` (l,): a centimetre
    off it moves no ray by more than two millimetres.
    spacing_mm: (n, 3) of the level's voxels along x, y, z."""
    n, z, y, x = level.mask.nonzero().unbind(dim=1)
    at_mm = torch.stack([x, y, z], dim=1) * spacing_mm[n]
    weight = (plain[:, None] + 1e-3) ** 8
    sums = at_mm.new_zeros(len(spacing_mm), 4).index_add(0, n, torch.cat([weight * at_mm, weight], dim=1))
    across, along, up = (at_mm - (sums[:, :3] / sums[:, 3:])[n]).unbind(dim=1)
    azimuth = torch.arange(SECTORS, device=n.device)[:, None] * (2 * math.pi / SECTORS)
    scale = SAD_MM / (SAD_MM + along * azimuth.cos() - across * azimuth.sin())
    u = scale * (across * azimuth.cos() + along * azimuth.sin()) / spacing_mm[n, 0]
    # rounded from the isocentre, and with a margin for the second convolution: neither where the body ends
    # nor who else is in the batch makes a difference
    column, row = (
        k - k.amin() + 1 for k in (u.round().long(), (scale * up / spacing_mm[n, 2]).round().long())
    )
    views, high, wide = SECTORS * len(spacing_mm), int(row.max()) + 2, int(column.max()) + 2
    view = torch.arange(SECTORS, device=n.device)[:, None] * len(spacing_mm) + n
    return (view * high + row) * wide + column, (views, high, wide)


class Rays(nn.Module):
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

    def forward(self, x: Tensor, plates: Tensor, rays: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """x: rows (l, c); plates (l, SECTORS); rays (SECTORS, l), shape: `ray_numbers`. A ray's features are
        the mean over its rows, weighted by the plate; rows get back what their rays hold, weighted alike."""
        h = F.silu(self.inwards(x)).float()
        weight = plates.T[..., None]  # (sectors, l, 1)
        held = torch.cat([weight * h, weight.expand(-1, len(x), 1)], dim=2).flatten(0, 1)
        summed = held.new_zeros(math.prod(shape), held.shape[1]).index_add(0, rays.flatten(), held)
        length = summed[:, -1:]
        mean = torch.cat([summed[:, :-1] / (length + 0.1), length / 16], dim=1)
        image = self.view(mean.view(*shape, -1).movedim(-1, 1))
        back = image.movedim(1, -1).flatten(0, 2).index_select(0, rays.flatten())
        return x + self.outwards((weight * back.view(*rays.shape, -1)).sum(dim=0).to(h.dtype)).to(x.dtype)
