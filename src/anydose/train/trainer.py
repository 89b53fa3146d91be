"""The training loop. One step is a few drawn tasks, each on one patient; everything random comes from (seed,
number of the example), so a killed run resumes with the losses an uninterrupted one would have had."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from anydose.model import registry
from anydose.model.checkpoint import save_adapted, save_model
from anydose.model.former_names import present_tensors
from anydose.model.lora import merged, save_adapter
from anydose.model.tensors import load_tensors, save_tensors
from anydose.train import log
from anydose.train.changes import write_yaml
from anydose.train.config import TrainConfig, train_config_from_dict
from anydose.train.distributed import mean_over_ranks, rank_and_world, wait_for_all
from anydose.train.ema import Ema
from anydose.train.examples import Patients, Prepared, geometry_of
from anydose.train.folder import RunFolder
from anydose.train.followers import Follower, TensorBoard
from anydose.train.gradients import Gradients
from anydose.train.optimiser import make_optimisers, restore, stored
from anydose.train.resumable import Resumable
from anydose.train.start import cohort_of, starting_model
from anydose.train.validation import Validation, quality

FREE = {
    "threads",
    "workers",
    "resident",
    "side_by_side",
    "save_every",
    "out",
    "data",
    "tensorboard",
}  # may change on resume


@dataclass(frozen=True)
class Step:
    """What one step reports."""

    step: int
    """Its number, from 1."""
    metrics: dict[str, float]
    """Means over the step's examples, on all processes."""
    target: str
    """Target of the last example, on this process."""
    seconds: float
    """Computing time of all steps so far."""


class Trainer(Resumable):
    """Owns the state of one run in `out/name`: weights, optimiser, averaged weights and place in the data."""

    def __init__(self, config: TrainConfig, device: str = "cpu", followers: Sequence[Follower] = ()) -> None:
        self.config, self.device = config, torch.device(device)
        self.rank, self.world = rank_and_world()
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.model, self.before = starting_model(config)
        self.model.on(self.device).train()
        self.cohort = cohort_of(config, self.model, self.device)
        self.model.saw(self.cohort.spacings_mm, config.task.zoom)
        self.model.sampled(config.sampling_steps, config.mimic)
        self.gradients = Gradients(self.model, config)
        self.optimisers = make_optimisers(
            config.optimiser, self.model, config.learning_rate, config.weight_decay, config.full_rate_inputs
        )
        self.ema = Ema(self.model, config.ema)
        self.validation = Validation(config) if config.validation else None
        self.place = RunFolder(Path(config.out) / config.name)
        self.followers = list(followers)
        self.step, self.examples, self.seconds = 0, 0, 0.0
        self.best = math.inf
        self._whole: int | None = None

    @property
    def examples_a_step(self) -> int:
        """Examples that all processes together compute in one step."""
        return self.world * self.config.accumulate

    @property
    def whole(self) -> int:
        """Examples of the whole run. It is told by them, so that it may go on with another number of
        processes: what `steps` come to is settled by the number that it was started with."""
        if self._whole is not None:
            return self._whole
        return self.config.epochs * len(self.cohort) or self.config.steps * self.examples_a_step

    @property
    def steps(self) -> int:
        """Steps of the whole run, those done included."""
        return self.step + -(-max(0, self.whole - self.examples) // self.examples_a_step)

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that learn: all but a frozen codec's."""
        return self.gradients.learning

    def learning_rate(self) -> float:
        """The next step's: linear warm-up, then half a cosine to `last_rate` of it at the end."""
        c, warmup = self.config, self.config.warmup * self.examples_a_step
        if self.step < c.warmup:
            return c.learning_rate * (self.step + 1) / c.warmup
        passed = min(1.0, (self.examples - warmup) / max(1, self.whole - warmup))
        fall = 0.5 * (1 + math.cos(math.pi * passed))
        return c.learning_rate * (c.last_rate + (1 - c.last_rate) * fall)

    def run(self) -> Iterator[Step]:
        """Train to the end, yielding a report a step; saves every `save_every` steps and at the end. Without
        `resume` before it, it starts afresh: what an earlier run left in the folder is forgotten."""
        if self.rank > 0:
            yield from self._steps(())
            return
        with self.place.held():
            if self.step == 0:
                self.place.restart()
            write_yaml(self.config, self.folder / "recipe.yaml")
            followers = [*self.followers, *self._tensorboard()]
            try:
                yield from self._steps(followers)
            finally:
                for follower in followers:
                    follower.close()

    def _steps(self, followers: Sequence[Follower]) -> Iterator[Step]:
        patients = self._patients()
        while self.examples < self.whole:
            begin = time.monotonic()
            metrics, target = self._one_step(patients)
            self.step, self.examples = self.step + 1, self.examples + self.examples_a_step
            self.seconds += time.monotonic() - begin
            done = Step(self.step, metrics, target, self.seconds)
            self._log(done, followers)
            self._validate(followers)
            if self.step % self.config.save_every == 0 or self.examples >= self.whole:
                self.save()
            yield done

    def _one_step(self, patients: Iterator[Prepared]) -> tuple[dict[str, float], str]:
        """Change the weights by one step; (metrics, the last target)."""
        drawn = [next(patients) for _ in range(self.config.accumulate)]
        reports = self.gradients.of(drawn)
        norm = torch.nn.utils.clip_grad_norm_(self.trained(), self.config.clip)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate() * group.get("share", 1.0)
            optimiser.step()
        self.model.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.step)
        mean = {key: sum(r[key] for r in reports) / len(reports) for key in reports[0]}
        return mean_over_ranks({**mean, "grad": float(norm)}, self.device), drawn[-1][1].target

    def _patients(self) -> Iterator[Prepared]:
        """The patients from here on, in order, prepared ahead by `workers` processes."""
        c, share = self.config, range(self.config.accumulate)
        firsts = range(self.examples, self.whole, self.examples_a_step)  # of each step
        mine = c.accumulate * self.rank
        keys = [(first / self.whole, first + mine + k) for first in firsts for k in share]
        patients = Patients(geometry_of(self.model), self.cohort, c.task, c.crop, c.seed)
        ahead = 2 * c.accumulate if c.workers else None
        on_gpu = self.device.type == "cuda"
        context = "spawn" if on_gpu and c.workers else None  # a forked process must not touch CUDA
        return iter(
            DataLoader(
                patients,
                batch_size=None,
                sampler=keys,
                num_workers=c.workers,
                prefetch_factor=ahead,
                multiprocessing_context=context,
                pin_memory=on_gpu and not c.resident,
            )
        )

    def _log(self, done: Step, followers: Sequence[Follower]) -> None:
        if self.rank == 0:
            values = {key: f"{value:.6g}" for key, value in done.metrics.items()}
            row = {"step": done.step, "target": done.target, **values, "seconds": f"{done.seconds:.1f}"}
            log.append(self.folder / "log.csv", row)
        for follower in followers:
            follower.on_step(done.step, done.metrics)

    def _validate(self, followers: Sequence[Follower]) -> None:
        """Look at the held patients where it is time to, and keep the model if it was never better."""
        if self.validation is None or not self.validation.is_due(self.step, self.examples >= self.whole):
            return
        with self.ema.swapped_in(self.model):
            found = self.validation.look(self.model)
        is_best, self.best = quality(found) < self.best, min(self.best, quality(found))
        if self.rank == 0:
            row = {"step": self.step} | {key: f"{value:.6g}" for key, value in found.items()}
            log.append(self.folder / "validation.csv", row)
            if is_best:
                self._save_weights("best")
        for follower in followers:
            follower.on_validation(self.step, found)

    def _tensorboard(self) -> list[TensorBoard]:
        return [TensorBoard(self.folder / "tensorboard")] if self.config.tensorboard else []

    def record(self) -> dict[str, object]:
        """What the checkpoint says of its training, and of what it started from."""
        return {
            "recipe": asdict(self.config),
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "cases": len(self.cohort),
            "processes": self.world,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "before": self.before,
        }

    def save(self) -> None:
        """Rank 0 writes model.safetensors (averaged weights, what predict reads), then state.safetensors (to
        resume); the others wait."""
        if self.rank == 0:
            self._save_weights("model")
            state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
            state |= {f"ema.{k}": v for k, v in self.ema.state.items()}
            state |= stored(self.optimisers)
            save_tensors(state, self.place.state, {"state": json.dumps(self._position())})
        wait_for_all()

    def _position(self) -> dict[str, object]:
        return {
            "step": self.step,
            "examples": self.examples,
            "whole": self.whole,
            "seconds": self.seconds,
            "best": self.best if math.isfinite(self.best) else None,
            "config": asdict(self.config),
        }

    def _save_weights(self, name: str) -> None:
        """The averaged weights as NAME.safetensors, and as an adapter where one is trained."""
        with self.ema.swapped_in(self.model):
            adapter = "adapter" if name == "model" else f"{name}-adapter"
            if self.config.adapter:
                base, path = registry.find(self.config.init), self.folder / f"{adapter}.safetensors"
                wanted = tuple(dict.fromkeys(self.config.task.targets))
                save_adapted(self.model, wanted, base, path, self.record())
            elif self.config.lora:
                save_adapter(self.model, self.folder / adapter)
            with merged(self.model):
                save_model(self.model, self.folder / f"{name}.safetensors", self.record())

    def _restore(self) -> None:
        stored_state, meta = load_tensors(self.place.state)
        state = present_tensors(stored_state)
        about = json.loads(meta["state"])
        theirs = train_config_from_dict(about["config"])
        names = [f.name for f in fields(theirs) if f.name not in FREE]
        changed = [name for name in names if getattr(theirs, name) != getattr(self.config, name)]
        self._refuse_changed(changed)
        self.model.load_state_dict(_part(state, "model."))
        self.ema.state = {k: v.to(self.device) for k, v in _part(state, "ema.").items()}
        restore(self.optimisers, state)
        self.step, self.seconds = int(about["step"]), float(about["seconds"])
        self.examples = int(about.get("examples", self.step * self.examples_a_step))
        self._whole = about.get("whole")
        self.best = math.inf if about.get("best") is None else float(about["best"])


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
