"""Training on several processes: each draws its own task, gradients are averaged.

Any2Any ranks see different modalities, so a parameter may have a gradient on one rank alone. Collectives
pair gradients in the order in which they appear: FSDP2 then adds one modality's gradient to another's without
an error (pytorch/pytorch#158719). So weights are whole on every rank (the 1.3B takes 18 GB to train), and
every rank contributes every parameter, zeros where it has none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import nn

BUCKET = 2**25  # numbers in one all-reduce: 128 MB of float32


def start(device: str) -> torch.device | None:
    """Join the processes that torchrun started, once, and take this one's GPU ('auto': if there is one). None
    where there is one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    cuda = device != "cpu" and torch.cuda.is_available()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    return place


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) where training is not distributed."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Make every parameter's gradient the mean over all processes; one without a gradient counts as zero, so
    the result is what one process has for the mean of all losses. Does nothing for one process."""
    _, world = rank_and_world()
    if world == 1:
        return
    for group in _buckets(parameters):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for p, gradient, part in zip(
            group, gradients, (flat / world).split([p.numel() for p in group]), strict=True
        ):
            p.grad = gradient.copy_(part.view_as(p))  # in the memory order of the weight


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    group: list[nn.Parameter] = []
    for p in parameters:
        if group and sum(q.numel() for q in group) + p.numel() > BUCKET:
            yield group
            group = []
        group.append(p)
    if group:
        yield group
