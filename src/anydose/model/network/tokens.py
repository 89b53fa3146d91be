"""Body-sparse tokens: each says what (modality), where (slot and millimetres) and how noisy it is. Blocks
that hold no body voxel are never tokens. Axes: n batch, l tokens, f features, c channels, d h w latent grid,
i j k patch edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from anydose.model.network.backbone import Edges


@dataclass(frozen=True)
class Patches:
    """The kept patches of one modality. features (n, l, f); position_mm (n, l, 3) of patch centres along (z,
    y, x); valid (n, l): False where a row of a ragged batch is only padding; index (n, l) among all blocks;
    grid: blocks."""

    features: Tensor
    position_mm: Tensor
    valid: Tensor
    index: Tensor
    grid: tuple[int, int, int]


def edges(p: Edges) -> tuple[int, int, int]:
    """A patch's edges along (z, y, x) in latent voxels; one number stands for a cube."""
    return (p, p, p) if isinstance(p, int) else p


def kept_blocks(body: Tensor, p: Edges) -> Tensor:
    """Which patches of the latent grid hold body: (n, 1, d, h, w) -> (n, 1, d/i, h/j, w/k) bool."""
    return F.max_pool3d(body.float(), p) > 0


def pack(latent: Tensor, body: Tensor, p: Edges, voxel_mm: Tensor, dense: bool = False) -> Patches:
    """Cut a latent (n, c, d, h, w) into patches and keep those that touch the body (n, 1, d, h, w).
    voxel_mm: (n, 3) size of a latent voxel along (z, y, x). Rows are padded to the longest; `dense` keeps
    every block."""
    i, j, k = edges(p)
    features = rearrange(latent, "n c (d i) (h j) (w k) -> n (d h w) (c i j k)", i=i, j=j, k=k)
    keep = kept_blocks(body, p)
    grid = (keep.shape[2], keep.shape[3], keep.shape[4])
    keep = torch.ones_like(keep).flatten(1) if dense else keep.flatten(1)
    longest = int(keep.sum(dim=1).max())
    index = torch.argsort((~keep).to(torch.uint8), dim=1, stable=True)[:, :longest]
    centres = torch.stack(
        torch.meshgrid(*(torch.arange(s, device=latent.device) + 0.5 for s in grid), indexing="ij"), dim=-1
    ).reshape(-1, 3)
    return Patches(
        features=torch.gather(features, 1, index[..., None].expand(-1, -1, features.shape[-1])),
        position_mm=centres[index] * (torch.tensor((i, j, k), device=latent.device) * voxel_mm)[:, None],
        valid=torch.gather(keep, 1, index),
        index=index,
        grid=grid,
    )


def unpack(features: Tensor, patches: Patches, p: Edges) -> Tensor:
    """The inverse of `pack` (n, c, d, h, w); zero where there is no token."""
    n, _, f = features.shape
    rows = torch.zeros(n, patches.grid[0] * patches.grid[1] * patches.grid[2], f, dtype=features.dtype)
    rows = rows.to(features.device)
    index = patches.index[..., None].expand(-1, -1, f)
    rows = rows.scatter(1, index, features * patches.valid[..., None])
    (d, h, w), (i, j, k) = patches.grid, edges(p)
    return rearrange(rows, "n (d h w) (c i j k) -> n c (d i) (h j) (w k)", d=d, h=h, w=w, i=i, j=j, k=k)


def interpolate(features: Tensor, patches: Patches, p: Edges) -> Tensor:
    """Features (n, l, f) of the tokens at every latent voxel (n, f, d, h, w), linear between the centres of
    the kept patches; zero away from them."""
    i, j, k = edges(p)
    rows = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
    coarse = unpack(rows, patches, 1)
    scale = (float(i), float(j), float(k))
    fine = F.interpolate(coarse, scale_factor=scale, mode="trilinear", align_corners=False)
    return fine[:, :-1] / fine[:, -1:].clamp(min=1e-3)


def rope_frequencies(
    head_dim: int, slot_pairs: int, theta: float = 1e4, theta_slot: float = 10.0, compose: bool = False
) -> Tensor:
    """Rotation per unit of (slot, z, y, x) for each of head_dim / 2 pairs: (4, head_dim / 2). The three
    spatial axes have Wan 2.1's frequencies; the slot axis takes over the slowest temporal pairs, which hardly
    rotate over a volume, so that a pretrained 3-axis network keeps its behaviour; with `compose` those pairs
    turn with both axes, which is exact for one slot. On the CPU, also under torch.device("meta")."""
    in_plane = 2 * (head_dim // 6)
    table, at = torch.zeros(4, head_dim // 2, dtype=torch.float64, device="cpu"), 0
    for axis, size in enumerate((head_dim - 2 * in_plane, in_plane, in_plane), start=1):
        pairs = size // 2
        table[axis, at : at + pairs] = theta ** (-2 * _count(pairs) / size)
        at += pairs
    if slot_pairs:
        temporal = (head_dim - 2 * in_plane) // 2
        taken = slice(temporal - slot_pairs, temporal)
        table[1, taken] = table[1, taken] if compose else 0
        table[0, taken] = theta_slot ** (-_count(slot_pairs) / slot_pairs)
    return table


def _count(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64, device="cpu")


def rope_phases(
    patches: Sequence[Patches], slots: Sequence[int], frequencies: Tensor, unit_mm: float
) -> Tensor:
    """cos + i sin of every token's rotation, (n, 1, l, head_dim / 2) complex: slot of its modality and its
    place in units of `unit_mm`, fractional."""
    parts = []
    for patch, slot in zip(patches, slots, strict=True):
        place = patch.position_mm.double() / unit_mm
        where = torch.cat([torch.full_like(place[..., :1], slot), place], dim=-1)
        parts.append(where @ frequencies.to(place))
    angle = torch.cat(parts, dim=1)[:, None]
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """Rotate the interleaved pairs of x (n, heads, l, head_dim) by `phases`."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases).flatten(-2).to(x.dtype)
