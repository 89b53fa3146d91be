"""Two gloo processes that train together. Functions of a module that a spawned process can import."""

import socket
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from anydose.model.any2any import ModelConfig
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.train import distributed
from anydose.train.config import TrainConfig
from anydose.train.tasks import ANY2ANY
from anydose.train.trainer import Trainer

CONFIG = DiTConfig(dim=32, depth=2, heads=2, ffn=64, patch=(("ct", 2), ("ptv", 2), ("dose", 2)))
UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16), "identity:4")
TASKS = (("dose", ("ct",)), ("ptv", ("dose",)))  # rank 0 never embeds ptv, rank 1 never ct
RUN = TrainConfig(model=UNET, epochs=2, task=ANY2ANY, precision="fp32", warmup=1, accumulate=2, name="t")


class Loss(torch.nn.Module):
    """The mean square of v of one of TASKS, as a module that DDP wraps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = DiT(CONFIG, {"ct": 2, "ptv": 2, "dose": 2}, 4)
        for p in self.model.parameters():
            if not p.abs().sum():
                torch.nn.init.normal_(p, std=0.1)

    def forward(self, number):
        target, given = TASKS[number]
        generator = torch.Generator().manual_seed(number)
        latents = {m: torch.randn(1, 2, 4, 4, 4, generator=generator) for m in (target, *given)}
        times = {m: torch.zeros(1) for m in given} | {target: torch.tensor([0.5])}
        v = self.model(latents, times, target, torch.ones(1, 3), torch.ones(1, 1, 4, 4, 4))
        return v.square().mean()


def joined(rank, port):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=60), 2, rank)


def gradients_and_a_run(rank, port, queue, cohort, out):
    """Gradients alone and averaged, in two ways of accumulating; then a training that is cut after a step."""
    joined(rank, port)
    loss = Loss()
    loss(rank).backward()
    alone = {name: p.grad is not None for name, p in loss.model.named_parameters()}
    loss.zero_grad(set_to_none=True)
    module = distributed.data_parallel(loss)
    with module.no_sync():
        (module(rank) / 2).backward()
    (module(1 - rank) / 2).backward()  # what was used before counts, though now it is not
    gradients = {n: None if p.grad is None else p.grad.numpy() for n, p in loss.model.named_parameters()}
    trainer = Trainer(replace(RUN, data=cohort, out=out, save_every=1))
    steps = trainer.run()
    metrics = [next(steps).metrics for _ in range(1)]
    steps.close()
    weight = next(trainer.model.parameters()).detach().numpy()
    queue.put((rank, distributed.rank_and_world(), alone, gradients, metrics, weight))
    dist.barrier()
    dist.destroy_process_group()


def a_posttraining(rank, port, queue, config):
    """A post-training to its end: its rows, and the adapter."""
    from anydose.train.posttrain.trainer import PostTrainer

    joined(rank, port)
    trainer = PostTrainer(config)
    rows = list(trainer.run())
    queue.put((rank, rows, {name: tensor.numpy() for name, tensor in trainer.policy.ema.items()}))
    dist.barrier()
    dist.destroy_process_group()


def run_two(target, *arguments, timeout=180):
    """What `target(rank, port, queue, *arguments)` puts into the queue in two processes, by rank."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    ranks = [context.Process(target=target, args=(rank, port, queue, *arguments)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    reports = [queue.get(timeout=timeout) for _ in ranks]
    for process in ranks:
        process.join(30)
    return sorted(reports, key=lambda report: report[0])
