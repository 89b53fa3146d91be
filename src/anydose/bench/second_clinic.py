"""A second clinic (the Any2Any paper's third table): what the head-and-neck model is worth where patients,
beams and prescriptions are others. Transfer by LoRA and by training all weights from few patients, against
training from scratch and a regression network, at equal steps. Rows are kept as they are made."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from anydose.bench import second_clinic_page
from anydose.bench.drawn import subset
from anydose.bench.kept import kept_rows, write_page
from anydose.bench.registry import Row, benchmark
from anydose.bench.second_clinic_cases import render_clinic, scored
from anydose.io.files import write_json
from anydose.model import perceptual, registry
from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict, pick_device
from anydose.model.checkpoint import describe
from anydose.model.lora import merged
from anydose.model.network.baselines import BaselineConfig
from anydose.model.organs import with_organs
from anydose.train.changes import changed
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.tasks import TaskConfig
from anydose.train.trainer import Step, Trainer

log = logging.getLogger(__name__)
FILE = Path("docs/results/second-clinic.json")
BASE = TrainConfig(
    name="second-clinic",
    task=TaskConfig(t1_probability=0.95, condition_keep_probability=(1.0, 1.0), cranio_caudal=False),
    accumulate=2,
    optimiser="muon",
    learning_rate=2e-3,
    warmup=10,
    last_rate=0.03,
    ema=0.98,
    save_every=1000,
)


@dataclass(frozen=True)
class Arm:
    """One way to a model of the second clinic."""

    name: str
    """Its name."""
    says: str
    """What it is, in words."""
    transfers: bool = False
    """Whether it starts from the shipped model."""
    changes: tuple[str, ...] = ()
    """key=value changes of the recipe."""
    rate: float = 1.0
    """Its learning rate, as a share of the others'."""
    is_extra: bool = False
    """Whether it is made only where it is named."""


ARMS = (
    Arm("as it is", "the head-and-neck model, not trained any further", transfers=True),
    Arm("lora", "the head-and-neck model, its blocks by LoRA of rank 16", True, ("lora=16",)),
    Arm("full", "the head-and-neck model, all weights at 0.3 of the rate", True, rate=0.3),
    Arm("scratch", "the same network from random weights"),
    Arm("scratch-levels", "as scratch, all organs in one volume of levels in the place of a channel each",
        changes=("model.organs_as=levels",), is_extra=True),
    Arm("regression", "MONAI's DynUNet, regression without noise, from random weights",
        changes=("objective=regression",)),
)  # fmt: skip
BY_NAME = {arm.name: arm for arm in ARMS}


@dataclass(frozen=True)
class Plan:
    """How the rows are made: seeds, then sizes, then arms."""

    clinic: Path = Path("runs/second-clinic")
    """The clinic's patients as DICOM (`anydose clinic`); not needed once they are drawn."""
    rendered: Path = Path("runs/rendered/second-clinic")
    """Where they are drawn for training."""
    held: int = 16
    """The last N patients are held out."""
    spacing_mm: tuple[float, ...] = ()
    """Voxels (x, y, z) that patients are drawn on; () keeps the clinic's."""
    patients: tuple[int, ...] = (5, 20, 50)
    """Numbers of training patients."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of every arm."""
    training_steps: int = 160
    """Steps of every training."""
    points: tuple[float, ...] = (0.5, 1.0)
    """Where a training is scored, as shares of its steps; the last is its end."""
    only: tuple[str, ...] = ()
    """Only these arms; () for all but scratch-levels."""
    model: str = registry.DEFAULT
    """The model that is transferred: a shipped one's name or a file."""
    st_lpips: str = ""
    """ST-LPIPS' weight file; 'installed' for that of the extra perceptual, '' leaves the figure out."""
    changes: tuple[str, ...] = ()
    """key=value changes of the recipe, for every training."""
    processes: int = 1
    """Rows made at a time, each in a process of its own."""
    workers: int = 0
    """Processes of each row that prepare examples."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    runs: str = "runs/second-clinic-runs"
    """Where the trainings lie."""

    def __post_init__(self) -> None:
        """ValueError for an unknown arm or a number that no table can be made with."""
        for name in self.only:
            if name not in BY_NAME:
                raise ValueError(f"arm {name!r}: {', '.join(BY_NAME)} are accepted")
        if self.points[-1:] != (1.0,) or not all(0 < share <= 1 for share in self.points):
            raise ValueError(f"points {self.points}: shares from 0 to 1, the last 1, are accepted")
        if self.training_steps < 2 or self.processes < 1:
            numbers = f"training_steps {self.training_steps}, processes {self.processes}"
            raise ValueError(f"{numbers}: at least 2 and 1 are accepted")

    def shared(self) -> Row:
        """What all rows of a file have in common."""
        model = Path(self.model).stem
        values = {"steps": self.training_steps, "model": model, "held": self.held}
        return values | {"spacing_mm": list(self.spacing_mm), "shared": list(self.changes)}


@dataclass(frozen=True)
class Job:
    """One training."""

    arm: str
    """Its arm's name."""
    train_patients: int
    """How many patients it learns from."""
    seed: int
    """The seed of weights, draws and which patients."""


def jobs(plan: Plan) -> list[Job]:
    """The trainings of a plan; the model as it is is one, of no patient and the first seed."""
    arms = [arm.name for arm in ARMS if (arm.name in plan.only if plan.only else not arm.is_extra)]
    first = [Job("as it is", 0, plan.seeds[0])] if "as it is" in arms else []
    trained = [name for name in arms if name != "as it is"]
    most_first = sorted(plan.patients, reverse=True)
    each = product(plan.seeds, most_first, trained)
    return first + [Job(arm=arm, train_patients=size, seed=seed) for seed, size, arm in each]


def config_of(job: Job, plan: Plan) -> TrainConfig:
    """The fully resolved training of a job."""
    arm = BY_NAME[job.arm]
    name = f"{arm.name.replace(' ', '-')}-of{job.train_patients}-{plan.training_steps}-seed{job.seed}"
    config = replace(
        BASE,
        name=name,
        data=str(plan.rendered / "train"),
        out=plan.runs,
        steps=plan.training_steps,
        seed=job.seed,
        workers=plan.workers,
        model=_model_of(arm, plan),
        init=plan.model if arm.transfers else "",
    )
    config = changed(changed(config, arm.changes), plan.changes)
    return replace(config, learning_rate=config.learning_rate * arm.rate)


def _model_of(arm: Arm, plan: Plan) -> ModelConfig:
    shipped = config_from_dict(describe(registry.find(plan.model))["config"])
    if arm.name == "regression":
        return replace(shipped, backbone=BaselineConfig())
    return replace(shipped, trained_mm=ModelConfig.trained_mm, working_mm=ModelConfig.working_mm)


def made(job: Job, plan: Plan) -> list[Row]:
    """Train a job and score it at the plan's points; the rows. The weights of its end stay in its folder."""
    device = str(pick_device(plan.device))
    held = Cohort(plan.rendered / "held")
    cases = [held.load(k) for k in range(len(held))]
    distance = _distance(plan, device)

    def figures(network: Any2Any) -> dict[str, Any]:
        return dict(scored(network, cases, job.seed, distance))

    about = {**asdict(job), **plan.shared(), "device": _named(device), "torch": torch.__version__}
    if job.arm == "as it is":
        network = with_organs(registry.load(plan.model, device), held.organs)
        return [{**about, "share": 1.0, "step": 0, "cases": figures(network)}]
    trainer = Trainer(config_of(job, plan), device)
    assert isinstance(trainer.cohort, Cohort)
    trainer.cohort.keep(subset(len(trainer.cohort), job.train_patients, job.seed))
    about["examples"] = plan.training_steps * trainer.examples_a_step
    about["parameters"] = sum(p.numel() for p in trainer.trained())
    points = {max(1, round(plan.training_steps * share)): share for share in plan.points}
    rows: list[Row] = []
    losses: list[float] = []
    for step, seconds in _timed_steps(trainer):
        losses.append(step.metrics["loss"])
        if step.step in points:
            last = losses[-20:]
            with trainer.ema.swapped_in(trainer.model), merged(trainer.model):
                found = figures(trainer.model)
            here = {"share": points[step.step], "step": step.step, "minutes": round(seconds / 60, 3)}
            rows.append({**about, **here, "loss": round(sum(last) / len(last), 4), "cases": found})
    return rows


def _distance(plan: Plan, device: str) -> perceptual.Distance | None:
    """ST-LPIPS, where the plan asks for it."""
    if not plan.st_lpips:
        return None
    return perceptual.st_lpips(None if plan.st_lpips == "installed" else Path(plan.st_lpips), device)


def _timed_steps(trainer: Trainer) -> Iterator[tuple[Step, float]]:
    """Each step with the seconds of training until there, without what is done between steps."""
    spent, begin = 0.0, time.monotonic()
    for step in trainer.run():
        spent += time.monotonic() - begin
        yield step, spent
        begin = time.monotonic()


def _named(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def rows(plan: Plan, file: Path, on_event: Callable[[str], None] = log.info) -> list[Row]:
    """The rows: those in `file` as they are, the others made and written there. ValueError if the file holds
    rows that were made in another way. A training that fails is told and left out."""
    done = kept_rows(file, plan.shared())
    have = {(row["arm"], row["train_patients"], row["seed"]) for row in done if row["share"] == 1.0}
    wanted = [job for job in jobs(plan) if (job.arm, job.train_patients, job.seed) not in have]
    if wanted and plan.clinic.is_dir():
        render_clinic(plan.clinic, plan.rendered, plan.held, plan.spacing_mm, plan.processes)
    for job, found in _results(wanted, plan, on_event):
        lost = asdict(job).items()
        done = [row for row in done if not lost <= row.items()] + found
        write_json(done, file)
        end = found[-1]
        mean = sum(case["mae_gy"] for case in end["cases"].values()) / len(end["cases"])
        minutes = f", {end['minutes']:.2f} min" if "minutes" in end else ""
        on_event(f"{job.arm}, {job.train_patients} patients, seed {job.seed}: MAE {mean:.3f} Gy{minutes}")
    return done


def _results(
    wanted: Sequence[Job], plan: Plan, on_event: Callable[[str], None]
) -> Iterator[tuple[Job, list[Row]]]:
    """Each job's rows as they are there."""
    if plan.processes == 1:
        for job in wanted:
            yield job, made(job, plan)
        return
    with ProcessPoolExecutor(plan.processes, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(made, job, plan): job for job in wanted}
        for future in as_completed(running):
            job = running[future]
            try:
                yield job, future.result()
            except (ValueError, RuntimeError, OSError) as error:
                on_event(f"{job}: failed, {' '.join(str(error).split())[:500]}")


@benchmark(
    "second-clinic",
    settings=Plan,
    says="The head-and-neck model on a simulated clinic of prostate patients: transfer by LoRA and by all "
    "weights from few patients, against training from scratch and a regression network; resumes.",
    file=FILE,
)
def write(plan: Plan, file: Path, on_event: Callable[[str], None] = log.info) -> list[Row]:
    """Make the rows in `file`, and from them the Markdown page and the picture beside it."""
    found = rows(plan, file, on_event)
    says = {arm.name: arm.says for arm in ARMS}
    page = second_clinic_page.page(found, says, file.with_suffix(".png").name)
    write_page(file, page, partial(second_clinic_page.draw, found))
    return found
