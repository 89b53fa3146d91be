"""Two gloo processes whose tasks hold different modalities, against one process that has both."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from anydose.model.dit import DiT, DiTConfig
from anydose.train import distributed

CONFIG = DiTConfig(dim=32, depth=2, heads=2, ffn=64, patch=(("ct", 2), ("ptv", 2), ("dose", 2)))
TASKS = (("dose", ("ct",)), ("ptv", ("dose",)))  # rank 0 never embeds ptv, rank 1 never ct


def network():
    torch.manual_seed(0)
    model = DiT(CONFIG, {"ct": 2, "ptv": 2, "dose": 2}, 4)
    for p in model.parameters():
        if not p.abs().sum():
            torch.nn.init.normal_(p, std=0.1)
    return model


def loss_of(model, number):
    target, given = TASKS[number]
    generator = torch.Generator().manual_seed(number)
    latents = {m: torch.randn(1, 2, 4, 4, 4, generator=generator) for m in (target, *given)}
    times = {m: torch.zeros(1) for m in given} | {target: torch.tensor([0.5])}
    v = model(latents, times, target, torch.ones(1, 3), torch.ones(1, 1, 4, 4, 4))
    return v.square().mean()


def one_rank(rank, port, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=60), 2, rank)
    model = network()
    loss_of(model, rank).backward()
    alone = {name: p.grad is not None for name, p in model.named_parameters()}
    distributed.average_gradients(list(model.parameters()))
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    queue.put((rank, distributed.rank_and_world(), alone, gradients))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def truth():
    """The gradients of the mean of both losses, in one process."""
    model = network()
    ((loss_of(model, 0) + loss_of(model, 1)) / 2).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_gradients_are_those_of_one_process_on_both_ranks(truth, unused_port):
    context = mp.get_context("spawn")
    queue = context.Queue()
    ranks = [context.Process(target=one_rank, args=(rank, unused_port, queue)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    found = [queue.get(timeout=90) for _ in ranks]
    for process in ranks:
        process.join(30)
    for rank, place, alone, gradients in found:
        assert place == (rank, 2)
        assert alone["embed.ct.weight"] == (rank == 0)  # the ranks really hold different modalities
        assert alone["head.ptv.weight"] == (rank == 1)
        for name, expected in truth.items():
            expected = torch.zeros(()) if expected is None else expected
            error = (torch.from_numpy(gradients[name]) - expected).abs().max()
            assert float(error) <= 1e-6, (rank, name)
    assert truth["embed.ct.weight"].abs().max() > 1e-3
    assert truth["head.ptv.weight"].abs().max() > 1e-3


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_one_process_is_left_alone():
    model = network()
    loss_of(model, 0).backward()
    before = model.embed["ct"].weight.grad.clone()
    distributed.average_gradients(list(model.parameters()))
    assert torch.equal(model.embed["ct"].weight.grad, before)
    assert model.embed["ptv"].weight.grad is None
    assert distributed.rank_and_world() == (0, 1)
    assert distributed.start("cpu") is None
