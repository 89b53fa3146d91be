"""Training on several processes: each draws its own task, gradients are averaged by torch's DDP.

Weights are whole on every rank (the 1.3B takes 18 GB to train), as Any2Any ranks see different modalities and
a parameter may have a gradient on one rank alone. FSDP2 pairs collectives in the order in which gradients
appear, and then adds one modality's gradient to another's without an error (pytorch/pytorch#158719)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def start(device: str) -> torch.device | None:
    """Join the processes that torchrun started, once, and take this one's GPU ('auto': if there is one). None
    where there is one process. Processes that have to share a GPU exchange by gloo, as NCCL refuses them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    own_gpu_each = gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpus and own_gpu_each else "gloo")
    if not gpus:
        return torch.device("cpu")
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % gpus)
    torch.cuda.set_device(place)
    return place


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) where training is not distributed."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def data_parallel(module: nn.Module) -> nn.Module:
    """The module with its gradients averaged over all processes in the backward pass; itself where there is
    one process.

    find_unused_parameters: the embeddings and read-outs of modalities that a rank did not draw have no
    gradient there, and DDP would wait for them. It counts them as zeros, so the result is the gradient of the
    mean of all ranks' losses. static_graph would be faster and wrong: what is unused changes every step."""
    if rank_and_world()[1] == 1:
        return module
    return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)


def wait_for_all() -> None:
    """Return once every process is here: rank 0 has written what the others may read."""
    if dist.is_initialized():
        dist.barrier()


@torch.no_grad()
def mean_over_ranks(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The mean of each value over all processes, which report the same keys in the same order."""
    _, world = rank_and_world()
    if world == 1:
        return dict(values)
    together = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(together)
    return dict(zip(values, (together / world).tolist(), strict=True))


@torch.no_grad()
def sum_over_ranks(tensors: list[torch.Tensor]) -> None:
    """Make every tensor its sum over all processes, in place. Does nothing for one process."""
    if rank_and_world()[1] > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
