"""Two gloo processes whose tasks hold different modalities, against one process that has both."""

import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from anydose.model.any2any import ModelConfig
from anydose.model.checkpoint import describe
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.train import distributed
from anydose.train.tasks import ANY2ANY
from anydose.train.config import TrainConfig
from anydose.train.trainer import Trainer

CONFIG = DiTConfig(dim=32, depth=2, heads=2, ffn=64, patch=(("ct", 2), ("ptv", 2), ("dose", 2)))
UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16), "identity:4")
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


def one_rank(rank, port, queue, cohort, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=60), 2, rank)
    model = network()
    loss_of(model, rank).backward()
    alone = {name: p.grad is not None for name, p in model.named_parameters()}
    distributed.average_gradients(list(model.parameters()))
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    trainer = Trainer(TrainConfig(model=UNET, data=cohort, out=out, epochs=2, task=ANY2ANY, precision="fp32"))
    losses = [s.metrics["loss"] for s in trainer.run()]
    weight = next(trainer.model.parameters()).detach().numpy()
    queue.put((rank, distributed.rank_and_world(), alone, gradients, losses, weight))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def truth():
    """The gradients of the mean of both losses, in one process."""
    model = network()
    ((loss_of(model, 0) + loss_of(model, 1)) / 2).backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.fixture(scope="module")
def found(cohort_folder, tmp_path_factory):
    """What both ranks report, and the folder that their training wrote."""
    out = tmp_path_factory.mktemp("runs")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    arguments = (port, queue, str(cohort_folder), str(out))
    ranks = [context.Process(target=one_rank, args=(rank, *arguments)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    reports = [queue.get(timeout=120) for _ in ranks]
    for process in ranks:
        process.join(30)
    return sorted(reports, key=lambda report: report[0]), out / "any2any"


def test_gradients_are_those_of_one_process_on_both_ranks(truth, found):
    for rank, place, alone, gradients, *_ in found[0]:
        assert place == (rank, 2)
        assert alone["embed.ct.weight"] == (rank == 0)  # the ranks really hold different modalities
        assert alone["head.ptv.weight"] == (rank == 1)
        for name, expected in truth.items():
            expected = torch.zeros(()) if expected is None else expected
            error = (torch.from_numpy(gradients[name]) - expected).abs().max()
            assert float(error) <= 1e-6, (rank, name)
    assert truth["embed.ct.weight"].abs().max() > 1e-3
    assert truth["head.ptv.weight"].abs().max() > 1e-3


def test_two_ranks_train_one_model_on_different_tasks(found):
    (*_, losses0, weight0), (*_, losses1, weight1) = found[0]
    assert len(losses0) == len(losses1) == 3  # two epochs of three cases, two cases a step
    assert losses0 != losses1
    assert (weight0 == weight1).all()
    rows = (found[1] / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3"]  # one log, one checkpoint
    assert describe(found[1] / "model.safetensors")["record"]["step"] == 3


def test_one_process_is_left_alone():
    model = network()
    loss_of(model, 0).backward()
    before = model.embed["ct"].weight.grad.clone()
    distributed.average_gradients(list(model.parameters()))
    assert torch.equal(model.embed["ct"].weight.grad, before)
    assert model.embed["ptv"].weight.grad is None
    assert distributed.rank_and_world() == (0, 1)
    assert distributed.start("cpu") is None
