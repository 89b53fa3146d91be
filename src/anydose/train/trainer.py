"""The training loop. One step is one drawn task on one patient; everything random comes from (seed, step), so
a killed run resumes with the losses an uninterrupted one would have had."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from anydose.diffusion import path as vp
from anydose.model import registry
from anydose.model.any2any import Any2Any
from anydose.model.checkpoint import describe, load_model, save_adapted, save_model
from anydose.model.codec.codec import is_voxelwise
from anydose.model.codec.compact import load as load_codec
from anydose.model.lora import adapt, add_lora, merged, save_adapter
from anydose.model.tensors import load_tensors, save_tensors
from anydose.train import log, losses
from anydose.train.config import TrainConfig, train_config_from_dict
from anydose.train.data import Cohort
from anydose.train.distributed import average_gradients, rank_and_world
from anydose.train.ema import Ema
from anydose.train.examples import Example, Examples
from anydose.train.latents import LatentCohort
from anydose.train.optimiser import make_optimisers, restore, stored

LOG = "log.csv"
FREE = ("threads", "workers", "side_by_side", "save_every", "out", "data")  # may change on resume


@dataclass(frozen=True)
class Step:
    """What one step reports."""

    step: int
    metrics: dict[str, float]
    target: str
    seconds: float


class Trainer:
    """Owns the state of one run in `out/name`: weights, optimiser, averaged weights and step."""

    def __init__(self, config: TrainConfig, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.rank, self.world = rank_and_world()
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        start = registry.find(config.init) if config.init else None
        self.model = load_model(start) if start else Any2Any(config.model)
        self.model.adopt(config.model)
        self.before = describe(start)["record"] if start else None
        if config.dvh and config.latents:
            raise ValueError("dvh: a latent cache holds no structures; latents=false is needed")
        if self.model.config.sided and config.latents:
            raise ValueError("sided: a latent cache exchanges organs' names; latents=false is needed")
        if config.codec and not config.init:
            self.model.codec = load_codec(Path(config.codec))
        if config.adapter and not (config.lora and config.init and config.task.targets):
            raise ValueError("adapter: lora, init and task.targets say of what rank, to what and for what")
        if config.organ_weight and not is_voxelwise(self.model.codec):
            raise ValueError(f"organ_weight: codec {self.model.codec.spec} has no voxels; identity:N has")
        if config.adapter:
            adapt(self.model, config.lora, 0.0, config.task.targets)
        elif config.lora:
            add_lora(self.model, config.lora, targets=self.model.backbone.adapted)
        self.model.backbone.checkpointing = config.checkpointing
        self.model.on(self.device).train()
        data = Path(config.data)
        self.cohort = LatentCohort(data, self.model.codec) if config.latents else Cohort(data)
        if config.epochs:
            steps = -(-config.epochs * len(self.cohort) // self.world)
            config = replace(config, steps=steps)
        self.config = config
        self.optimisers = make_optimisers(
            config.optimiser, self.model, config.learning_rate, config.weight_decay, config.full_rate_inputs
        )
        self.ema = Ema(self.model, config.ema)
        self.pool = (
            ThreadPoolExecutor(config.side_by_side, initializer=_alone) if config.side_by_side > 1 else None
        )
        self.folder = Path(config.out) / config.name
        self.step, self.seconds = 0, 0.0

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that learn: all but a frozen codec's."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine to `last_rate` of it at the last step."""
        c = self.config
        if step < c.warmup:
            return c.learning_rate * (step + 1) / c.warmup
        fall = 0.5 * (1 + math.cos(math.pi * (step - c.warmup) / max(1, c.steps - c.warmup)))
        return c.learning_rate * (c.last_rate + (1 - c.last_rate) * fall)

    def run(self) -> Iterator[Step]:
        """Train to the last step, yielding a report a step; saves every `save_every` steps and at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        examples = self._examples()
        while self.step < self.config.steps:
            begin = time.monotonic()
            report, target = self._one_step(examples)
            self.step += 1
            self.seconds += time.monotonic() - begin
            row = Step(self.step, report, target, self.seconds)
            if self.rank == 0:
                values = [f"{v:.6g}" for v in report.values()]
                columns = ("step", "target", *report, "seconds")
                log.append(self.folder / LOG, columns, (row.step, target, *values, f"{row.seconds:.1f}"))
            if self.rank == 0 and (self.step % self.config.save_every == 0 or self.step == self.config.steps):
                self.save()
            yield row

    def _one_step(self, examples: Iterator[Example]) -> tuple[dict[str, float], str]:
        c = self.config
        drawn = [next(examples) for _ in range(c.accumulate)]
        target = drawn[-1][0]["target"]
        drawn.sort(key=_size, reverse=True)  # the largest first, so that threads end together
        reports = []
        for report, gradients in (self.pool.map if self.pool else map)(self._gradients, drawn):
            reports.append(report)
            for p, gradient in zip(self.trained(), gradients, strict=True):
                if gradient is not None:
                    p.grad = gradient if p.grad is None else p.grad.add_(gradient)
        average_gradients(self.trained())
        grad = float(torch.nn.utils.clip_grad_norm_(self.trained(), c.clip))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate(self.step) * group.get("share", 1.0)
            optimiser.step()
        self.model.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.step)
        mean = {key: sum(r[key] for r in reports) / len(reports) for key in reports[0]}
        return {**mean, "grad": grad}, target

    def _gradients(self, example: Example) -> tuple[dict[str, float], tuple[Tensor | None, ...]]:
        """One example's share of the step's gradient, for each of `trained`, and what is reported of it."""
        c = self.config
        inputs, v_true, masks = _to(example, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=c.precision == "bf16"):
            v = self.model.velocity(**inputs)
        counted = self.model.region(inputs["body"], inputs["target"])
        if inputs["target"] == "oar" and c.organ_weight:
            inside = vp.data_from_velocity(inputs["noisy"], v_true, inputs["t"]) > 0
            loss, report = losses.organ_loss(v, v_true, counted, inside, c.organ_weight)
        else:
            loss, report = losses.velocity_loss(v, v_true, counted, c.error)
        if not math.isfinite(report["loss"]):
            raise ValueError(
                f"{c.name}: the loss is {report['loss']} at step {self.step}; lower learning_rate"
            )
        report |= ({"dvh": 0.0} if c.dvh else {}) | ({"points": 0.0} if c.dvh and c.dvh_points else {})
        if c.dvh and masks is not None:
            where = {"x_t": inputs["noisy"], "t": inputs["t"]}
            pair = (vp.data_from_velocity(v=each.float(), **where) for each in (v, v_true))
            dose, reference = (self.model.codec.decode(x0)[0, 0] for x0 in pair)
            between, of_dvh = losses.dvh_loss(dose, reference, masks, c.dvh_points)
            loss, report = loss + c.dvh * between, {**report, **of_dvh}
        gradients = torch.autograd.grad(loss / c.accumulate, self.trained(), allow_unused=True)
        return {**report, "t": float(inputs["t"])}, gradients

    def _examples(self) -> Iterator[Example]:
        """The examples from this step on, in order, prepared ahead by `workers` processes."""
        c = self.config
        ranks = range(c.accumulate * self.rank, c.accumulate * (self.rank + 1))
        numbers = [
            (step, step * self.world * c.accumulate + k) for step in range(self.step, c.steps) for k in ranks
        ]
        examples = Examples(self.model, self.cohort, c.task, c.objective, c.crop, c.seed, c.steps)
        ahead = 2 * c.accumulate if c.workers else None
        return iter(DataLoader(examples, None, sampler=numbers, num_workers=c.workers, prefetch_factor=ahead))

    def record(self) -> dict[str, object]:
        """What the checkpoint says of its training, and of what it started from."""
        return {
            "recipe": asdict(self.config),
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "cases": len(self.cohort),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "before": self.before,
        }

    def save(self) -> None:
        """model.safetensors (averaged weights, what predict reads) and state.safetensors (to resume)."""
        with self.ema.swapped_in(self.model):
            if self.config.adapter:
                base, path = registry.find(self.config.init), self.folder / "adapter.safetensors"
                wanted = tuple(dict.fromkeys(self.config.task.targets))
                save_adapted(self.model, wanted, base, path, self.record())
            elif self.config.lora:
                save_adapter(self.model, self.folder / "adapter")
            with merged(self.model):
                save_model(self.model, self.folder / "model.safetensors", self.record())
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state |= {f"ema.{k}": v for k, v in self.ema.state.items()}
        state |= stored(self.optimisers)
        about = {"step": self.step, "seconds": self.seconds, "config": asdict(self.config)}
        save_tensors(state, self.folder / "state.safetensors", {"state": json.dumps(about)})

    def resume(self) -> None:
        """Continue from state.safetensors; ValueError if the run was made with another configuration."""
        state, meta = load_tensors(self.folder / "state.safetensors")
        about = json.loads(meta["state"])
        theirs = train_config_from_dict(about["config"])
        changed = [
            f.name
            for f in fields(theirs)
            if f.name not in FREE and getattr(theirs, f.name) != getattr(self.config, f.name)
        ]
        if changed:
            raise ValueError(f"{self.folder}: the run was started with other values of {', '.join(changed)}")
        self.model.load_state_dict(_part(state, "model."))
        self.ema.state = {k: v.to(self.device) for k, v in _part(state, "ema.").items()}
        restore(self.optimisers, state)
        self.step, self.seconds = int(about["step"]), float(about["seconds"])
        log.trim(self.folder / LOG, self.step)


def _size(example: Example) -> float:
    return float(example[0]["body"].sum())


def _alone() -> None:
    """A thread that computes an example by itself, beside others."""
    torch.set_num_threads(1)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_to(v, device) for v in value)
    return {k: _to(v, device) for k, v in value.items()} if isinstance(value, dict) else value
