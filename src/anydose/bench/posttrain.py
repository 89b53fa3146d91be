"""ScardNFT against its base and its controls on patients it has not seen, and what candidates cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from anydose.case.case import Case
from anydose.diffusion.sampler import SAMPLERS
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.checkpoint import load_model
from anydose.model.looks import sample_target
from anydose.model.options import Options
from anydose.model.sample import draw_sample
from anydose.score.dvh import DVH
from anydose.score.metrics import as_float, evaluate, parse
from anydose.train.data import Cohort
from anydose.train.posttrain.candidates import Patient, load_patient, prepare, starting_noise
from anydose.train.posttrain.config import PostConfig
from anydose.train.posttrain.methods import METHODS
from anydose.train.posttrain.reward import Reward, own_reward, read_reward
from anydose.train.posttrain.trainer import PostTrainer

Rows = list[dict[str, Any]]
BEST = "best"  # of K candidates of the base: no training
Doses = Callable[[Any2Any, Patient], NDArray[np.float32]]


@dataclass(frozen=True)
class Unseen:
    """Where the patients of the comparison are: drawn, and as a cohort store; the first `limit` (0: all)."""

    data: Path = Path("runs/rendered/validation")
    cases: Path = Path("runs/cases/validation")
    limit: int = 0


@dataclass(frozen=True)
class Judged:
    """One patient's dose: its reward without the anchor, and D95 and D99 of every target in Gy."""

    reward: Reward
    d95_gy: tuple[float, ...]
    d99_gy: tuple[float, ...]


def predicted(options: Options) -> Doses:
    """Doses (d, h, w) in Gy as `predict` makes them with these options."""

    def dose(model: Any2Any, patient: Patient) -> NDArray[np.float32]:
        volumes = {k: v for k, v in patient.sample.volumes.items() if k != "dose"}
        members = sample_target(model, replace(patient.sample, volumes=volumes), options)
        return np.mean([patient.in_gy(member)[0].numpy() for member in members], axis=0, dtype=np.float32)

    return dose


def best_of(k: int, config: PostConfig) -> Doses:
    """The best of k candidates by score and constraints, which a clinic can know without a reference."""

    @torch.no_grad()
    def dose(model: Any2Any, patient: Patient) -> NDArray[np.float32]:
        generator = torch.Generator().manual_seed(config.seed)
        noise = starting_noise(tuple(patient.reference.shape), k, generator).to(patient.reference)
        latents = SAMPLERS[config.sampler](patient.policy(model), noise, config.sampling_steps)
        found: Sequence[NDArray[np.float32]] = patient.to_gy(model, latents).cpu().numpy()
        return max(found, key=lambda one: patient.reward_on_case.reward(one).total)

    return dose


def judged(model: Any2Any, patients: Iterable[Patient], dose_of: Doses) -> list[Judged]:
    """Every patient's dose, judged."""
    return [_judged(patient, dose_of(model, patient)) for patient in patients]


def _judged(patient: Patient, dose: NDArray[np.float32]) -> Judged:
    case = patient.reward_on_case.score.case
    dvhs = [DVH(dose[mask], case.grid.voxel_cc) for mask in case.targets.values()]
    levels = (parse("D95%[Gy]"), parse("D99%[Gy]"))
    d95, d99 = (tuple(as_float(evaluate(level, one)) for one in dvhs) for level in levels)
    return Judged(patient.reward_on_case.reward(dose), d95, d99)


def row(name: str, found: list[Judged], base: list[Judged]) -> dict[str, Any]:
    """One line of the table: a method's doses against the base's of the same patients. Score in % of what
    is scorable; gain with the paired 95 % confidence interval of its mean (Student's t)."""
    score = np.array([j.reward.scored for j in found]) * 100
    gain = score - np.array([j.reward.scored for j in base]) * 100
    half = 0.0
    if len(gain) > 1:
        half = float(stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5)
    mae, mae_base = (np.mean([j.reward.mae_gy or 0.0 for j in group]) for group in (found, base))
    d95, d99 = (
        [np.subtract(getattr(a, key), getattr(b, key)) for a, b in zip(found, base, strict=True)]
        for key in ("d95_gy", "d99_gy")
    )
    numbers = {
        "score_percent": score.mean(),
        "gain": gain.mean(),
        "gain_low": gain.mean() - half,
        "gain_high": gain.mean() + half,
        "mae_gy": mae,
        "mae_growth_percent": 100 * (mae / mae_base - 1),
        "ptv_d95_change_gy": np.concatenate(d95).mean(),
        "ptv_d99_change_gy": np.concatenate(d99).mean(),
        "constraints": np.mean([j.reward.hinge for j in found]),
    }
    return {"method": name, "patients": len(found), **{k: round(float(v), 4) for k, v in numbers.items()}}


def compare(
    config: PostConfig, methods: Sequence[str], unseen: Unseen, options: Options, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """The base, then every method: post-trained with the same settings and budget into NAME-METHOD (what is
    there already is taken as it is), and judged on the same patients with the same noise. ValueError for an
    unknown method."""
    known = (*METHODS, BEST)
    for name in methods:
        if name not in known:
            raise ValueError(f"method {name!r}: {', '.join(known)} are accepted")
    reward, place = read_reward(config.reward), pick_device(device)
    model, cohort = load_model(registry.find(config.base)).to(place), Cohort(unseen.data)
    numbers = range(len(cohort))[: unseen.limit or None]
    patients = [load_patient(model, cohort, k, unseen.cases, reward) for k in numbers]
    how = {"base": config.base, "steps": options.steps, "looks": options.looks}
    base = judged(model, patients, predicted(options))
    yield {**row("base", base, base), **how}
    for name in methods:
        if name == BEST:
            found = judged(model, patients, best_of(config.candidates, config))
            yield {**row(f"best of {config.candidates}", found, base), **how}
            continue
        trained, spent = _trained(replace(config, method=name, name=f"{config.name}-{name}"), str(place))
        found = judged(load_model(trained).to(place), patients, predicted(options))
        yield {**row(name, found, base), **how, **spent}


def _trained(config: PostConfig, device: str) -> tuple[Path, dict[str, Any]]:
    trainer = PostTrainer(config, device)
    path = trainer.folder / "adapter.safetensors"
    if (trainer.folder / "state.safetensors").is_file():
        trainer.resume()
    for _ in trainer.run():
        pass
    if not path.is_file():
        raise ValueError(
            f"{config.name}: {trainer.stopped or 'no step was made'}; watch_every comes too late"
        )
    spent = {"post_steps": trainer.step, "post_minutes": round(trainer.seconds / 60, 1)}
    return path, {**spent, "stopped": trainer.stopped}


def bench_candidates(cases: Iterable[Case], model: Any2Any, k: int = 8, steps: int = 2) -> Rows:
    """K candidates of one patient sampled together against k single samplings by turns, conditions encoded in
    each; and how long their rewards take, alone and where they are scored while others are sampled."""
    rows: Rows = []
    solve = SAMPLERS["dpm2m"]

    @torch.no_grad()
    def sampled(patient: Patient, noise: torch.Tensor) -> NDArray[np.float32]:
        latents = solve(patient.policy(model), noise, steps)
        return patient.to_gy(model, latents).numpy()

    for case in cases:
        sample, _ = draw_sample(case)
        reward = own_reward(case)
        patient = prepare(model, sample, case, reward)
        shape = tuple(patient.reference.shape)
        noise = starting_noise(shape, k, torch.Generator().manual_seed(0))
        sampled(patient, noise[:1])
        begin = perf_counter()
        doses = sampled(prepare(model, sample, case, reward), noise)
        together = perf_counter()
        for one in noise.split(1):
            sampled(prepare(model, sample, case, reward), one)
        singly = perf_counter()
        for dose in doses:
            patient.reward_on_case.reward(dose)
        scored = perf_counter()
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(patient.reward_on_case.reward, dose) for dose in doses]
            sampled(patient, noise)
            done = perf_counter()
            for job in jobs:
                job.result()
            waited = perf_counter() - done
        seconds = {"together": together - begin, "singly": singly - together}
        seconds |= {"rewards": scored - singly, "waited_for_rewards": waited}
        rows.append(
            {
                "bench": "candidates",
                "patient": case.name,
                "candidates": k,
                "steps": steps,
                "threads": torch.get_num_threads(),
                **{f"{key}_seconds": round(value, 4) for key, value in seconds.items()},
                "ratio": round(seconds["together"] / seconds["singly"], 3),
            }
        )
    ratio = float(np.median([r["ratio"] for r in rows]))
    return [*rows, {"bench": "candidates", "patients": len(rows), "median_ratio": ratio}]
