"""ScardNFT post-training: candidates from the old policy, their rewards, and a step towards the better ones.

One step is a few patients. All are sampled from the old policy one after another while worker threads score
those before; then each is learnt from. Everything random comes from (seed, step, patient), so a killed run
resumes with the numbers an uninterrupted one would have had."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from anydose.diffusion.sampler import SAMPLERS
from anydose.model import registry
from anydose.model.tensors import load_tensors, save_tensors
from anydose.model.weights import file_hash
from anydose.score.metrics import as_float
from anydose.train import log
from anydose.train.changes import write_yaml
from anydose.train.data import Cohort
from anydose.train.distributed import mean_over_ranks, rank_and_world, sum_over_ranks, wait_for_all
from anydose.train.folder import RunFolder
from anydose.train.optimiser import restore, stored
from anydose.train.posttrain.candidates import Patient, load_patient, one_step
from anydose.train.posttrain.config import PostConfig, post_config_from_dict
from anydose.train.posttrain.methods import METHODS, Group, rewarded
from anydose.train.posttrain.policy import Policy
from anydose.train.posttrain.reward import MEANS, Anchor, Reward, StopRule, read_reward
from anydose.train.resumable import Resumable
from anydose.train.tasks import EPOCH_STREAM

FREE = (
    "threads",
    "workers",
    "out",
    "data",
    "cases",
    "steps",
    "minutes",
    "save_every",
)  # may change on resume
LOSSES = ("nft", "kl", "diffusion")
WATCHED = ("watch_gain", "watch_growth", "watch_limits")
COLUMNS = ("step", *MEANS, "deviation", *LOSSES, "grad", *WATCHED, "waited", "seconds")


class PostTrainer(Resumable):
    """Owns the state of one run in `out/name`. `stopped`: the sentence that it stopped itself with."""

    def __init__(self, config: PostConfig, device: str = "cpu") -> None:
        if config.method not in METHODS or config.sampler not in SAMPLERS:
            known = f"method one of {', '.join(METHODS)} and sampler one of {', '.join(SAMPLERS)}"
            raise ValueError(f"method={config.method} sampler={config.sampler}: {known} are accepted")
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.stopped = config, ""
        self.rank, self.world = rank_and_world()
        if self.world > 1 and config.method != "nft":
            raise ValueError(f"method={config.method}: several processes share candidates of nft alone")
        self.full = read_reward(config.reward)
        self.reward = self.full if config.anchor else self.full.bare()
        self.policy = Policy(registry.find(config.base), config.rank, config.alpha, torch.device(device))
        self.policy.model.backbone.checkpointing = config.checkpointing
        self.cohort = Cohort(Path(config.data))
        planned = [k for k, names in enumerate(self.cohort.modalities) if "dose" in names]
        small = [k for k in planned if _fits(self.cohort.paths[k], config.most_voxels)]
        if len(small) <= config.watch:
            raise ValueError(f"{config.data}: {len(small)} usable cases, watch={config.watch} leaves none")
        self.learnt, self.watched = small[: len(small) - config.watch], small[len(small) - config.watch :]
        self.optimiser = torch.optim.AdamW(
            self.policy.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.place = RunFolder(Path(config.out) / config.name)
        self.step, self.seconds = 0, 0.0
        self.checks: list[Check] = []
        self.best = -math.inf
        self._watched: list[tuple[Patient, Reward]] = []

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the last step, yielding a row of COLUMNS a step; saves every `save_every` steps and at the
        end. Where the stop rule is met it ends, with the best adapter before."""
        c = self.config
        with self._folder_held(), ThreadPoolExecutor(c.workers) as pool:
            while self.step < c.steps and not (c.minutes and self.seconds >= 60 * c.minutes):
                begin = time.monotonic()
                row = self._one_step(pool)
                self.step += 1
                self.policy.follow(self.step, c.old_rate, c.old_most, c.ema)
                self.seconds += self._mean({"seconds": time.monotonic() - begin})["seconds"]
                if c.watch and (self.step % c.watch_every == 0 or self.step == c.steps):
                    row |= self._look()
                row |= {"step": self.step, "seconds": self.seconds}
                self._log(row)
                if not self.stopped and (self.step % c.save_every == 0 or self.step == c.steps):
                    self.save()
                yield row
                if self.stopped:
                    return
        if self.step % c.save_every and self.step < c.steps:  # out of time
            self.save()

    @contextmanager
    def _folder_held(self) -> Iterator[None]:
        """The run's folder, by rank 0, for the length of the run; from its first step on it starts afresh."""
        if self.rank > 0:
            yield
            return
        with self.place.held():
            if self.step == 0:
                self.place.restart()
            write_yaml(self.config, self.folder / "recipe.yaml")
            yield

    def _log(self, row: Mapping[str, float]) -> None:
        if self.rank == 0:
            cells = {key: f"{row[key]:.6g}" if key in row else "" for key in COLUMNS}
            log.append(self.folder / "log.csv", cells)

    def _mean(self, values: Mapping[str, float]) -> dict[str, float]:
        return mean_over_ranks(values, self.policy.device)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, times a straight line down to `final_rate` of it at the last step."""
        c = self.config
        down = 1 - (1 - c.final_rate) * step / c.steps
        return c.learning_rate * min(1.0, (step + 1) / max(1, c.warmup)) * down

    def _one_step(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        c, method = self.config, METHODS[self.config.method]
        loads = [pool.submit(self._patient, number) for number in self._numbers()]
        sampled = [
            method.sample(self.policy, load.result(), c, (c.seed, self.step, k), pool)
            for k, load in enumerate(loads)
        ]
        reports = self._learn_all(sampled)
        sum_over_ranks(self.policy.gradients())
        grad = float(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), c.clip))
        if not np.isfinite(grad):
            raise ValueError(f"{c.name}: the gradient is {grad} at step {self.step}; lower learning_rate")
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        waited = sum(r.pop("waited") for r in reports)
        means = {key: float(np.mean([r[key] for r in reports])) for key in reports[0]}
        return self._mean({**means, "grad": grad, "waited": waited})

    def _learn_all(self, sampled: Sequence[Group]) -> list[dict[str, float]]:
        """Add the patients' gradients. Processes share the candidates of every patient, and then each learns
        from patients of its own; one process learns from a patient while others' rewards are computed."""
        if self.world == 1:
            return [self._learn(group, *rewarded(group)) for group in sampled]
        exchanged = [rewarded(group) for group in sampled]
        both = zip(sampled, exchanged, strict=True)
        return [
            self._learn(group, *found, is_mine=number % self.world == self.rank)
            for number, (group, found) in enumerate(both)
        ]

    def _learn(
        self,
        group: Group,
        latents: torch.Tensor,
        rewards: list[Reward],
        waited: float,
        is_mine: bool = True,
    ) -> dict[str, float]:
        """Add one patient's gradient, if it is this process's to learn from."""
        report = dict.fromkeys(LOSSES, 0.0)
        if is_mine:
            whole = replace(group, latents=latents)
            loss, found = METHODS[self.config.method].learn(self.policy, whole, rewards, self.config)
            torch.autograd.backward(loss / self.config.patients)
            report = {key: value * (self.world if key in LOSSES else 1) for key, value in found.items()}
        rows = [r.parts() for r in rewards]
        means = {key: float(np.mean([row[key] for row in rows])) for key in MEANS}
        deviation = float(np.std([as_float(r.total) for r in rewards]))
        return {**means, "deviation": deviation, **report, "waited": waited}

    def _numbers(self) -> list[int]:
        """The cases of this step: every one once an epoch, in an order that changes with the epoch; the last
        `watch` of the cohort never."""
        c, n = self.config, len(self.learnt)
        places = range(self.step * c.patients, (self.step + 1) * c.patients)
        orders = [np.random.default_rng((c.seed, EPOCH_STREAM, k // n)).permutation(n) for k in places]
        return [self.learnt[int(order[k % n])] for k, order in zip(places, orders, strict=True)]

    def _patient(self, number: int) -> Patient:
        return load_patient(self.policy.model, self.cohort, number, Path(self.config.cases), self.reward)

    def _look(self) -> dict[str, float]:
        """The averaged policy's one-step doses of the watched patients, against the base's: mean gain in
        score, mean growth of the error, reward lost to the constraints. Ends the run where the stop rule says
        so, and writes the adapter (averaged) if their mean reward was never higher."""
        c = self.config
        if not self._watched:
            cases = Path(c.cases)
            watched = [
                load_patient(self.policy.model, self.cohort, k, cases, self.full) for k in self.watched
            ]
            with self.policy.holding(self.policy.base) as model:
                self._watched = [(p, one_step(model, p, c.precision)) for p in watched]
        with self.policy.holding(self.policy.ema) as model:
            pairs = [(one_step(model, p, c.precision), base) for p, base in self._watched]
        # every process looks; their mean, so that all of them decide alike
        check = Check(**self._mean(asdict(checked(pairs))))
        self.checks.append(check)
        if c.anchor:
            self.stopped = broken(self.checks, self.full.stop_rule)
        value = check.value(self.full.anchor) if c.anchor else check.gain
        if value > self.best and not self.stopped:
            self.best = value
            if self.rank == 0:
                self.policy.save(self.folder / "adapter.safetensors", self.record())
        return {"watch_gain": check.gain, "watch_growth": check.growth, "watch_limits": check.limits}

    def record(self) -> dict[str, Any]:
        """What the adapter file says of its training."""
        return {
            "recipe": asdict(self.config),
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "cases": len(self.learnt),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def save(self) -> None:
        """state.safetensors; where no patient is watched the adapter too (adapter.safetensors and, as peft
        has it, adapter/)."""
        if self.rank == 0:
            self._write_state()
        wait_for_all()

    def _write_state(self) -> None:
        if not self.config.watch:
            self.policy.save(self.folder / "adapter.safetensors", self.record())
        state = self.policy.state()
        state |= stored([self.optimiser])
        about: dict[str, Any] = {"step": self.step, "seconds": self.seconds, "best": self.best}
        about |= {"checks": [asdict(check) for check in self.checks]}
        about |= {"config": asdict(self.config), "sha256": file_hash(self.policy.path)}
        save_tensors(state, self.place.state, {"state": json.dumps(about)})

    def _restore(self) -> None:
        state, meta = load_tensors(self.place.state)
        about = json.loads(meta["state"])
        mine, theirs = asdict(self.config), asdict(post_config_from_dict(about["config"]))
        changed = [k for k in mine if k not in FREE and mine[k] != theirs[k]]
        if about["sha256"] != file_hash(self.policy.path):
            changed.append("base (its weights)")
        self._refuse_changed(changed)
        self.policy.load_state(state)
        restore([self.optimiser], state)
        self.step, self.seconds = about["step"], about["seconds"]
        self.checks, self.best = [stored_check(row) for row in about["checks"]], about["best"]


def _fits(path: Path, most_voxels: int) -> bool:
    with safe_open(path, "pt") as file:
        return not most_voxels or math.prod(file.get_slice("mask").get_shape()) <= most_voxels


@dataclass(frozen=True)
class Check:
    """One look at the watched patients: means of the policy's doses against the base's."""

    growth: float
    """Growth of the error, as a share of the base's."""
    limits: float
    """Reward gained, or lost below 0, by the hard constraints."""
    gain: float = 0.0
    """Gain in score."""

    def value(self, anchor: Anchor | None) -> float:
        """What the best adapter has most of: the reward, with constraints and anchor where there is one."""
        if anchor is None:
            return self.gain
        return self.gain + (self.limits - anchor.weight * max(0.0, self.growth - anchor.tolerance))


def checked(pairs: Sequence[tuple[Reward, Reward]]) -> Check:
    """The means over patients of (the policy's reward, the base's)."""
    growth = [(new.mae_gy or 0.0) / (old.mae_gy or 1.0) - 1 for new, old in pairs]
    limits = [new.hinge - old.hinge for new, old in pairs]
    gain = [new.scored - old.scored for new, old in pairs]
    return Check(growth=float(np.mean(growth)), limits=float(np.mean(limits)), gain=float(np.mean(gain)))


def stored_check(row: Mapping[str, float] | Sequence[float]) -> Check:
    """A check as a run's state holds it: by name, or [growth, limits] as states before version 0.2 do."""
    return Check(**row) if isinstance(row, Mapping) else Check(growth=row[0], limits=row[1])


def broken(checks: Sequence[Check], rule: StopRule) -> str:
    """The sentence to stop with where the stop rule is met over the last checks; '' where it holds or there
    are too few."""
    if len(checks) < rule.window:
        return ""
    last = checks[-rule.window :]
    growth = np.mean([check.growth for check in last])
    limits = np.mean([check.limits for check in last])
    if growth > rule.mae_growth:
        return (
            f"stopped: the watched patients' error grew by {growth:.1%} over the last {rule.window} checks, "
            f"{rule.mae_growth:.1%} is tolerated (the reward is being hacked)"
        )
    if limits < -rule.constraint_loss:
        return (
            f"stopped: the watched patients lost {-limits:.4f} of reward to hard constraints over the last "
            f"{rule.window} checks, {rule.constraint_loss:g} is tolerated"
        )
    return ""
