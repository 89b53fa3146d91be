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

from anydose.bench.clock import timed
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.case.case import Case
from anydose.diffusion.sampler import SAMPLERS
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.checkpoint import describe, load_model
from anydose.model.looks import sample_target
from anydose.model.options import Options
from anydose.model.sample import draw_sample
from anydose.score.dvh import DVH
from anydose.score.metrics import as_float, evaluate, parse
from anydose.train.changes import changed
from anydose.train.data import Cohort
from anydose.train.posttrain.candidates import Patient, load_patient, prepare, starting_noise
from anydose.train.posttrain.config import PostConfig
from anydose.train.posttrain.methods import METHODS
from anydose.train.posttrain.reward import Reward, own_reward, read_reward
from anydose.train.posttrain.trainer import PostTrainer
from anydose.train.recipes import POSTTRAIN

BEST = "best"  # of K candidates of the base: no training
Doses = Callable[[Any2Any, Patient], NDArray[np.float32]]


@dataclass(frozen=True)
class Unseen:
    """The patients of the comparison, whom no method was trained on."""

    data: Path = Path("runs/rendered/validation")
    """Their rendered cases (`anydose render`)."""
    cases: Path = Path("runs/cases/validation")
    """The same cases' cohort store (`anydose data convert`)."""
    limit: int = 0
    """Only the first N of them; 0 for all."""


@dataclass(frozen=True)
class PosttrainSettings(Unseen):
    """What is compared, and how the doses are predicted."""

    methods: tuple[str, ...] = ("nft", "direct", "ddpo", BEST)
    """Which of nft, direct, ddpo and best (the best of K candidates, without training)."""
    shipped: tuple[str, ...] = ()
    """Post-trained models (a shipped one's name or a file) that are judged as they are."""
    changes: tuple[str, ...] = ()
    """key=value changes of the recipe, for every method."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    steps: int = 1
    """Network evaluations a prediction; the doses are the network's own, without dose mimicking."""
    looks: int = Options.looks
    """Augmented looks averaged in every prediction: 1, 2 or 4."""


@dataclass(frozen=True)
class Judged:
    """One patient's dose."""

    reward: Reward
    """Its reward, without the anchor."""
    d95_gy: tuple[float, ...]
    """D95 of every target."""
    d99_gy: tuple[float, ...]
    """D99 of every target."""


def predicted(options: Options) -> Doses:
    """Doses (d, h, w) in Gy as `predict` makes them with these options."""

    def dose(model: Any2Any, patient: Patient) -> NDArray[np.float32]:
        volumes = {k: v for k, v in patient.sample.volumes.items() if k != "dose"}
        members = sample_target(model, replace(patient.sample, volumes=volumes), options)
        doses = np.stack([patient.in_gy(member)[0].numpy() for member in members])
        mean: NDArray[np.float32] = doses.mean(axis=0, dtype=np.float32)
        return mean

    return dose


def best_of(k: int, config: PostConfig) -> Doses:
    """The best of k candidates by score and constraints, which a clinic can know without a reference."""

    @torch.no_grad()
    def dose(model: Any2Any, patient: Patient) -> NDArray[np.float32]:
        generator = torch.Generator().manual_seed(config.seed)
        noise = starting_noise(tuple(patient.reference.shape), k, generator).to(patient.reference)
        latents = SAMPLERS[config.sampler](patient.policy(model), noise, config.sampling_steps)
        found = list(patient.to_gy(model, latents).cpu().numpy())
        return max(found, key=lambda one: patient.reward_on_case.reward(one).total)

    return dose


def judged(model: Any2Any, patients: Iterable[Patient], dose_of: Doses) -> list[Judged]:
    """Every patient's dose, judged."""
    return [_judged(patient, dose_of(model, patient)) for patient in patients]


def _judged(patient: Patient, dose: NDArray[np.float32]) -> Judged:
    case = patient.reward_on_case.score.case
    dvhs = [DVH(dose[mask], case.grid.voxel_cc) for mask in case.targets.values()]
    reward = patient.reward_on_case.reward(dose)
    return Judged(reward, d95_gy=_of_each("D95%[Gy]", dvhs), d99_gy=_of_each("D99%[Gy]", dvhs))


def _of_each(metric: str, dvhs: Sequence[DVH]) -> tuple[float, ...]:
    return tuple(as_float(evaluate(parse(metric), one)) for one in dvhs)


def _mean_mae_gy(found: Sequence[Judged]) -> float:
    return float(np.mean([one.reward.mae_gy or 0.0 for one in found]))


def row(name: str, found: list[Judged], base: list[Judged]) -> dict[str, Any]:
    """One line of the table: a method's doses against the base's of the same patients. Score in % of what
    is scorable; gain with the paired 95 % confidence interval of its mean (Student's t)."""
    score = np.array([j.reward.scored for j in found]) * 100
    gain = score - np.array([j.reward.scored for j in base]) * 100
    half = 0.0
    if len(gain) > 1:
        half = float(stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5)
    mae, mae_base = _mean_mae_gy(found), _mean_mae_gy(base)
    numbers = {
        "score_percent": score.mean(),
        "gain": gain.mean(),
        "gain_low": gain.mean() - half,
        "gain_high": gain.mean() + half,
        "mae_gy": mae,
        "mae_growth_percent": 100 * (mae / mae_base - 1),
        "ptv_d95_change_gy": _mean_change([j.d95_gy for j in found], [j.d95_gy for j in base]),
        "ptv_d99_change_gy": _mean_change([j.d99_gy for j in found], [j.d99_gy for j in base]),
        "constraints": np.mean([j.reward.hinge for j in found]),
    }
    rounded = {key: round(float(value), 4) for key, value in numbers.items()}
    return {"method": name, "patients": len(found), **rounded}


def _mean_change(found: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> float:
    """Mean over all targets of all patients."""
    changes = [np.subtract(a, b) for a, b in zip(found, base, strict=True)]
    return float(np.concatenate(changes).mean())


@benchmark(
    "posttrain",
    settings=PosttrainSettings,
    says="Post-training by reward with ScardNFT and its controls under one budget, beside the base, on "
    "unseen patients.",
    old_names=("scardnft",),
    has_page=True,
)
def measure_posttraining(settings: PosttrainSettings) -> Iterator[Row]:
    """A row a method, the base first; trainings that are there already are taken as they are."""
    config = changed(POSTTRAIN, settings.changes)
    options = Options(steps=settings.steps, looks=settings.looks, mimic=False)
    return compare(config, settings.methods, settings, options, settings.device, settings.shipped)


def compare(
    config: PostConfig,
    methods: Sequence[str],
    unseen: Unseen,
    options: Options,
    device: str = "auto",
    shipped: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """The base, then what is `shipped`, then every method: post-trained with the same settings and budget
    into NAME-METHOD (what is there already is taken as it is), and judged on the same patients with the same
    noise. ValueError for an unknown method, or something shipped that was made from another base."""
    known = (*METHODS, BEST)
    for name in methods:
        if name not in known:
            raise ValueError(f"method {name!r}: {', '.join(known)} are accepted")
    reward, place = read_reward(config.reward), pick_device(device)
    model, cohort = load_model(registry.find(config.base)).to(place), Cohort(unseen.data)
    numbers = range(len(cohort))[: unseen.limit or None]
    patients = [load_patient(model, cohort, k, cases=unseen.cases, reward=reward) for k in numbers]
    how = {"base": config.base, "steps": options.steps, "looks": options.looks}
    base = judged(model, patients, predicted(options))
    yield {**row("base", base, base), **how}
    for name in shipped:
        about = describe(registry.find(name))
        if about.get("base", {}).get("name") != registry.find(config.base).stem:
            raise ValueError(f"{name}: not post-trained from {config.base}, with which it would be compared")
        found = judged(load_model(registry.find(name)).to(place), patients, predicted(options))
        recipe, record = about["record"]["recipe"], about["record"]
        spent = {"post_steps": record["step"], "post_minutes": round(record["seconds"] / 60, 1)}
        yield {**row(f"{recipe['method']}, {name}", found, base), **how, **spent}
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


@dataclass(frozen=True)
class CandidatesSettings(Patients):
    """What is sampled."""

    model: str = registry.DEFAULT
    """A shipped model's name or a .safetensors file."""
    candidates: int = 8
    """Candidates a patient."""
    steps: int = 2
    """Network evaluations a candidate."""


@benchmark(
    "candidates",
    settings=CandidatesSettings,
    says="Candidates of one patient sampled together, against as many single samplings; and how long their "
    "rewards take, alone and while others are sampled.",
)
def measure_candidates(settings: CandidatesSettings) -> Rows:
    """A row a patient, then the median."""
    model = load_model(registry.find(settings.model))
    rows = [_candidates(case, model, settings.candidates, settings.steps) for case in settings.cases()]
    ratio = float(np.median([row["ratio"] for row in rows]))
    return [*rows, {"bench": "candidates", "patients": len(rows), "median_ratio": ratio}]


def _candidates(case: Case, model: Any2Any, count: int, steps: int) -> Row:
    """Conditions are encoded anew for each sampling."""
    sample, _ = draw_sample(case)
    reward = own_reward(case)
    solve = SAMPLERS["dpm2m"]

    @torch.no_grad()
    def sampled(patient: Patient, noise: torch.Tensor) -> NDArray[np.float32]:
        latents = solve(patient.policy(model), noise, steps)
        return patient.to_gy(model, latents).numpy()

    patient = prepare(model, sample, case, reward)
    noise = starting_noise(tuple(patient.reference.shape), count, torch.Generator().manual_seed(0))
    sampled(patient, noise[:1])  # the first sampling is slower

    def together() -> NDArray[np.float32]:
        return sampled(prepare(model, sample, case, reward), noise)

    def singly() -> None:
        for one in torch.split(noise, 1):
            sampled(prepare(model, sample, case, reward), one)

    def rewards() -> None:
        for dose in doses:
            patient.reward_on_case.reward(dose)

    doses, together_s = timed(together)
    _, singly_s = timed(singly)
    _, rewards_s = timed(rewards)
    waited_s = _waited_for_rewards(patient, doses, lambda: sampled(patient, noise))
    return {
        "bench": "candidates",
        "patient": case.name,
        "candidates": count,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "together_seconds": round(together_s, 4),
        "singly_seconds": round(singly_s, 4),
        "rewards_seconds": round(rewards_s, 4),
        "waited_for_rewards_seconds": round(waited_s, 4),
        "ratio": round(together_s / singly_s, 3),
    }


def _waited_for_rewards(
    patient: Patient, doses: NDArray[np.float32], meanwhile: Callable[[], object]
) -> float:
    """Seconds that rewards still take once what ran beside them is done."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(patient.reward_on_case.reward, dose) for dose in doses]
        meanwhile()
        done = perf_counter()
        for job in jobs:
            job.result()
        return perf_counter() - done
