"""Sparse (submanifold) convolution over the voxels that hold body: background is neither computed nor counted
by a norm. Features are a matrix with one row for each of those voxels.

Axes: n batch, l body voxels (of all samples, one after the other), c channels, d h w grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """The body voxels of one grid."""

    mask: Tensor
    """Which voxels they are: (n, d, h, w) bool."""
    counts: tuple[int, ...]
    """Their number in each sample."""
    neighbours: Tensor
    """(l, 27): the row of every neighbour along (z, y, x), l for one that is no body."""
    child: Tensor
    """(l): the place of every row among the 8 children of each row of the next level, half as fine; empty for
    the last level."""


def pyramid(mask: Tensor, levels: int) -> list[Level]:
    """The levels over a mask (n, d, h, w), finest first; a coarse voxel is kept if any of its eight is. A
    sample of which nothing is kept is kept whole."""
    kept = mask | ~mask.flatten(1).any(dim=1)[:, None, None, None]
    masks = [kept]
    for _ in range(levels - 1):
        masks.append(F.max_pool3d(masks[-1].float()[:, None], 2)[:, 0] > 0)
    out: list[Level] = []
    coarser: Tensor | None = None
    for each in reversed(masks):
        number = _numbered(each)
        child = each.new_empty(0, dtype=torch.long) if coarser is None else _children(each, coarser)
        counts = tuple(each.flatten(1).sum(dim=1).tolist())
        out.append(Level(mask=each, counts=counts, neighbours=_neighbours(each, number), child=child))
        coarser = number
    return out[::-1]


def _numbered(mask: Tensor) -> Tensor:
    """The row of every voxel of a mask (n, d, h, w) with one voxel more on each side; the number of rows
    where there is none."""
    count = int(mask.sum())
    number = torch.full([mask.shape[0], *(s + 2 for s in mask.shape[1:])], count, device=mask.device)
    number[:, 1:-1, 1:-1, 1:-1][mask] = torch.arange(count, device=mask.device)
    return number


def _neighbours(mask: Tensor, number: Tensor) -> Tensor:
    """The rows (l, 27) around each voxel of a mask, itself in the middle."""
    n, z, y, x = mask.nonzero().unbind(dim=1)
    _, d, h, w = number.shape
    step = torch.arange(-1, 2, device=mask.device)
    around = ((step[:, None] * h + step)[..., None] * w + step).flatten()
    centre = ((n * d + z + 1) * h + y + 1) * w + x + 1
    return number.flatten()[centre[:, None] + around]


def _children(mask: Tensor, coarser: Tensor) -> Tensor:
    """`Level.child` of a mask's voxels, from the rows of the next level as `_numbered` gives them."""
    n, z, y, x = mask.nonzero().unbind(dim=1)
    parent = coarser[n, z // 2 + 1, y // 2 + 1, x // 2 + 1]
    return 8 * parent + 4 * (z % 2) + 2 * (y % 2) + x % 2


def gather(volume: Tensor, level: Level) -> Tensor:
    """The body voxels (l, c) of a volume (n, c, d, h, w)."""
    return volume.movedim(1, -1)[level.mask]


def scatter(x: Tensor, level: Level) -> Tensor:
    """The volume (n, c, d, h, w) of body voxels x (l, c); zero elsewhere."""
    out = x.new_zeros(*level.mask.shape, x.shape[1])
    return out.masked_scatter(level.mask[..., None], x).movedim(-1, 1)


def convolve(x: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3 x 3 x 3 convolution: x (l, c), weight (o, c, 3, 3, 3) -> (l, o). What is no body counts as zero."""
    kind = torch.get_autocast_dtype(x.device.type)
    x = x.to(kind) if torch.is_autocast_enabled(x.device.type) else x
    matrix = weight.movedim(1, -1).flatten(1)
    y: Tensor = _Convolution.apply(x, neighbours, matrix)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias.to(y.dtype)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1 x 1 x 1 convolution: x (l, c), weight (o, c, 1, 1, 1) -> (l, o)."""
    return F.linear(x, weight.flatten(1), bias)


def down(x: Tensor, fine: Level, coarse: Level, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of kernel and stride 2: x (l, c), weight (o, c, 2, 2, 2) -> (l of `coarse`, o)."""
    count = len(coarse.neighbours)
    children = x.new_zeros(8 * count, x.shape[1]).index_copy(0, fine.child, x)
    return F.linear(children.view(count, -1), weight.movedim(1, -1).flatten(1), bias)


def up(x: Tensor, fine: Level, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A transposed convolution of kernel and stride 2: x (l of the coarser level, c), weight (c, o, 2, 2, 2)
    -> (l of `fine`, o)."""
    children = x @ weight.movedim(1, -1).flatten(1).to(x.dtype)
    y = children.view(-1, weight.shape[1]).index_select(0, fine.child)
    return y if bias is None else y + bias.to(y.dtype)


def group_norm(x: Tensor, counts: Sequence[int], groups: int) -> Tensor:
    """Group norm of x (l, c) over each sample's own voxels."""
    parts = [part[None, :, None].permute(0, 3, 1, 2) for part in x.split(list(counts))]
    return torch.cat([F.group_norm(part, groups)[0, :, :, 0].T for part in parts])


class _Convolution(torch.autograd.Function):
    """x (l, c) times a matrix (o, 27 c) over its neighbourhoods. Those are gathered piece by piece, and again
    for the gradients: a piece stays in the cache where the whole, 27 times x, would not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, neighbours: Tensor, matrix: Tensor) -> Tensor:
        ctx.kind, matrix = matrix.dtype, matrix.to(x.dtype)
        ctx.save_for_backward(x, neighbours, matrix)
        return _gathered_times(x, neighbours, matrix.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (of_y,), (x, neighbours, matrix) = gradients, ctx.saved_tensors
        of_x = of_matrix = None
        if ctx.needs_input_grad[0]:  # who is my neighbour at an offset has me at the opposite one
            back = matrix.view(len(matrix), 27, -1).transpose(0, 1).flatten(0, 1)
            of_x = _gathered_times(of_y, neighbours.flip(1), back)
        if ctx.needs_input_grad[2]:
            for piece, around in zip(of_y.split(_piece(x)), _gathered(x, neighbours), strict=True):
                part = (piece.T @ around).to(ctx.kind)
                of_matrix = part if of_matrix is None else of_matrix.add_(part)
        return of_x, None, of_matrix


PIECE = 1024  # body voxels: 1024 x 27 x 48 bfloat16 are 2.6 MB


def _piece(x: Tensor) -> int:
    return PIECE if x.device.type == "cpu" else len(x)


def _gathered_times(x: Tensor, neighbours: Tensor, matrix: Tensor) -> Tensor:
    y = x.new_empty(len(neighbours), matrix.shape[1])
    for out, around in zip(y.split(_piece(x)), _gathered(x, neighbours), strict=True):
        torch.mm(around, matrix, out=out)
    return y


def _gathered(x: Tensor, neighbours: Tensor) -> Iterator[Tensor]:
    """The neighbourhoods (at most PIECE, 27 c) of x (l, c), in memory that the next one takes again."""
    beside, most = F.pad(x, (0, 0, 0, 1)), _piece(x)
    memory = x.new_empty(27 * min(most, len(neighbours)), x.shape[1])
    for piece in neighbours.split(most):
        out = memory[: piece.numel()]
        torch.index_select(beside, 0, piece.flatten(), out=out)
        yield out.view(len(piece), -1)
