"""What a prior is worth: dose training from several priors and from scratch, on few and on many patients,
with one recipe and equal steps. Every finished row is written at once and never made again; a killed training
goes on where it was."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import median

from anydose.bench import transfer_page
from anydose.bench.drawn import subset, without
from anydose.bench.kept import kept_rows, write_page
from anydose.bench.registry import Row, benchmark
from anydose.case.case import Case
from anydose.evaluate import from_model, summary
from anydose.evaluate import rows as score_all
from anydose.io import openkbp
from anydose.io.files import write_json
from anydose.model.any2any import pick_device
from anydose.model.options import Options
from anydose.train.changes import changed
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.recipes import BUDGET, BUDGET_TRANSFORMER
from anydose.train.tasks import ANY2ANY
from anydose.train.trainer import Trainer

log = logging.getLogger(__name__)
FILE = Path("docs/results/transfer.json")
BACKBONES = {"unet": BUDGET, "dit": BUDGET_TRANSFORMER}
POINTS = (0.25, 0.5, 1.0)  # where a training is scored, as shares of its steps
PACE = "pace.json"


@dataclass(frozen=True)
class Stage:
    """A training before the one on doses."""

    name: str
    """Its name."""
    targets: tuple[str, ...] = ()
    """What it learns to predict; () for every modality."""
    share: float = 0.0
    """How often that is the dose."""
    withheld: tuple[str, ...] = ()
    """Modalities that it never sees."""
    simulated: bool = False
    """Whether it is on the rendered cohort of simulated plans."""
    own: bool = False
    """Whether it is on the arm's own patients, as it sees their doses."""


@dataclass(frozen=True)
class Arm:
    """One way to a dose model."""

    name: str
    """Its name."""
    says: str
    """What its prior is, in words."""
    prior: tuple[Stage, ...] = ()
    """The prior's stages, which share its steps."""
    longer: bool = False
    """Whether it is from scratch, with the prior's steps added to its own."""


CT = Stage("ct", ("ct",), withheld=("dose",))
PHYSICS = Stage("physics", ("dose",), share=1.0, simulated=True)
SEVEN = Stage("any2any", share=1 / 7, own=True)
ARMS: tuple[Arm, ...] = (
    Arm("scratch", "no prior"),
    Arm("any2any", "all seven modalities as targets, of the same patients", (SEVEN,)),
    Arm("ct", "the CT as target, of all patients, no dose seen", (CT,)),
    Arm("physics", "the dose of simulated plans", (PHYSICS,)),
    Arm("both", "the CT, then the dose of simulated plans, half of the steps each", (CT, PHYSICS)),
    Arm("scratch-longer", "no prior, its steps spent on the dose", longer=True),
)


@dataclass(frozen=True)
class Plan:
    """How the rows are made, in this order: seeds, then sizes, then arms."""

    cohort: Path
    """OpenKBP dataset folder (with provided-data)."""
    training_steps: int = 120
    """Steps of the dose training."""
    prior_steps: int = 240
    """Steps of every prior."""
    patients: tuple[int, ...] = (0, 20, 50, 100)
    """Numbers of training patients, in this order; all or 0 for all."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of every arm."""
    only: tuple[str, ...] = ()
    """Only these arms; without, all that have their data."""
    backbone: str = "unet"
    """unet or dit."""
    every: int = 5
    """Score one in N validation patients."""
    limit: int = 0
    """Score only the first N of those; 0 for all."""
    simulated: str = "runs/rendered/simulated"
    """The rendered cohort of simulated plans."""
    changes: tuple[str, ...] = ()
    """key=value changes of the recipe, for every training."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    runs: str = "runs/transfer"
    """Where the trainings lie."""

    def __post_init__(self) -> None:
        """ValueError for numbers that no table can be made with."""
        if self.every < 1 or self.prior_steps < 2 or self.training_steps < 1:
            numbers = (
                f"every {self.every}, prior_steps {self.prior_steps}, training_steps {self.training_steps}"
            )
            raise ValueError(f"{numbers}: at least 1, 2 and 1 are accepted")

    def shared(self) -> Row:
        """What all rows of a file have in common."""
        values = {
            "backbone": self.backbone,
            "fine_steps": self.training_steps,
            "prior_steps": self.prior_steps,
        }
        return values | {"every": self.every, "limit": self.limit, "shared": list(self.changes)}


def chosen(plan: Plan, on_event: Callable[[str], None] = log.info) -> list[Arm]:
    """The arms of the plan. ValueError for an unknown one, or if one that is named lacks simulated plans;
    where none is named, arms without their data are left out, and `on_event` is told."""
    names = [arm.name for arm in ARMS]
    for name in plan.only:
        if name not in names:
            raise ValueError(f"arm {name!r}: {', '.join(names)} are accepted")
    there = any(Path(plan.simulated).glob("*.safetensors"))
    arms = []
    for arm in ARMS:
        if plan.only and arm.name not in plan.only:
            continue
        if there or not any(stage.simulated for stage in arm.prior):
            arms.append(arm)
        elif plan.only:
            raise ValueError(
                f"{plan.simulated}: no rendered case for the arm {arm.name}; `anydose simulate` and `anydose "
                "render` write them"
            )
        else:
            on_event(f"{arm.name}: left out, {plan.simulated} holds no rendered case")
    return arms


def base_of(plan: Plan) -> TrainConfig:
    """The recipe that all trainings share."""
    if plan.backbone not in BACKBONES:
        raise ValueError(f"backbone {plan.backbone!r}: {' or '.join(BACKBONES)} is accepted")
    base = replace(BACKBONES[plan.backbone], accumulate=2, warmup=20, save_every=50, out=plan.runs)
    return changed(base, plan.changes)


def stages_of(arm: Arm, plan: Plan, patients: int, seed: int) -> Iterator[tuple[Stage, TrainConfig]]:
    """The fully resolved trainings of an arm's prior, each from the one before."""
    base, init, name = base_of(plan), "", ""
    for stage in arm.prior:
        task = replace(base.task, dose_share=stage.share, targets=stage.targets)
        if stage.share < 1:
            task = replace(
                task,
                condition_keep_probability=ANY2ANY.condition_keep_probability,
                t1_probability=ANY2ANY.t1_probability,
            )
        steps = plan.prior_steps // len(arm.prior)
        name += f"{stage.name}-{steps}-" + (f"of{patients}-" if stage.own else "")
        run = replace(base, name=f"{name}seed{seed}", task=task, steps=steps, init=init, seed=seed)
        yield stage, replace(run, data=plan.simulated) if stage.simulated else run
        init = str(Path(run.out) / run.name / "model.safetensors")


def dose_config(arm: Arm, plan: Plan, patients: int, seed: int) -> TrainConfig:
    """The dose training of an arm, the same for all but in where it starts (and `longer`)."""
    base = base_of(plan)
    before = list(stages_of(arm, plan, patients, seed))
    init = str(Path(base.out) / before[-1][1].name / "model.safetensors") if before else ""
    steps = plan.training_steps + (plan.prior_steps if arm.longer else 0)
    name = f"dose-{arm.name}-{steps}-of{patients}-seed{seed}"
    return replace(base, name=name, init=init, steps=steps, seed=seed)


def trainer_of(
    config: TrainConfig, plan: Plan, patients: int = 0, withheld: Sequence[str] = (), afresh: bool = False
) -> Trainer:
    """A training where it stands (from its first step with `afresh`), on so many patients (0 for all) without
    what is withheld."""
    trainer = Trainer(config, str(pick_device(plan.device)))
    if not isinstance(trainer.cohort, Cohort):
        raise ValueError("latents: a transfer is measured on volumes; latents=false is needed")
    trainer.cohort.keep(subset(len(trainer.cohort), patients, config.seed))
    trainer.cohort.modalities = without(trainer.cohort.modalities, withheld)
    state = trainer.folder / "state.safetensors"
    if afresh:
        for path in (state, trainer.folder / "log.csv"):
            path.unlink(missing_ok=True)
    elif state.is_file():
        trainer.resume()
    return trainer


def steps_of(trainer: Trainer, on_event: Callable[[str], None]) -> Iterator[int]:
    """Train to the end, yielding the number of steps done, first of all where it stands. The pace goes to a
    file: seconds of computing a step (of all threads of this process), as a shared core's clock says
    little."""
    clock = time.monotonic if trainer.device.type == "cuda" else time.process_time
    took: list[float] = []
    yield trainer.step
    begin = clock()
    for step in trainer.run():
        took.append(clock() - begin)
        write_json({"seconds_per_step": round(median(took), 4)}, trainer.folder / PACE)
        if step.step % 50 == 0:
            on_event(f"{trainer.config.name}: step {step.step}, {median(took):.2f} s each")
        yield step.step
        begin = clock()


def minutes(trainer: Trainer, steps: int) -> float:
    """Computing minutes of so many steps of a run that has done some."""
    file = trainer.folder / PACE
    known = json.loads(file.read_text())["seconds_per_step"] if file.is_file() else None
    return round(steps * (known or trainer.seconds / trainer.step) / 60, 3)


def prior_of(arm: Arm, plan: Plan, patients: int, seed: int, on_event: Callable[[str], None]) -> Row:
    """Train the arm's prior to its end, where that is not done; what it cost: steps and minutes."""
    cost: Row = {"prior_minutes": 0.0, "prior_cases": []}
    for stage, config in stages_of(arm, plan, patients, seed):
        trainer = trainer_of(config, plan, patients if stage.own else 0, stage.withheld)
        for _ in steps_of(trainer, on_event):
            pass
        cost["prior_minutes"] = round(cost["prior_minutes"] + minutes(trainer, config.steps), 3)
        cost["prior_cases"].append(len(trainer.cohort))
    return cost


def rows(plan: Plan, file: Path, on_event: Callable[[str], None] = log.info) -> list[Row]:
    """The rows: those in `file` as they are, the others trained, scored and written there. ValueError if the
    file holds rows that were made in another way."""
    done = kept_rows(file, plan.shared())
    data = Cohort(Path(base_of(plan).data))
    sizes = [len(subset(len(data), count, 0)) for count in plan.patients]
    shared, arms = plan.shared(), chosen(plan, on_event)
    cases = cache(lambda: validation(plan))
    for seed, patients, arm in product(plan.seeds, sizes, arms):
        for row in _trained_and_scored(arm, plan, patients, seed, done=done, cases=cases, on_event=on_event):
            done.append(row | shared)
            write_json(done, file)
            shown = {name: value for name, value in row.items() if name != "dose_errors"}
            on_event(json.dumps(shown))
    return done


def validation(plan: Plan) -> list[Case]:
    """The patients that every training is scored on."""
    folders = openkbp.patients(plan.cohort, "validation")[:: plan.every]
    return [openkbp.read_case(folder) for folder in folders[: plan.limit or None]]


def _trained_and_scored(
    arm: Arm,
    plan: Plan,
    patients: int,
    seed: int,
    done: Sequence[Row],
    cases: Callable[[], list[Case]],
    on_event: Callable[[str], None],
) -> Iterator[Row]:
    """The rows of one dose training that are not done, each as soon as its step is reached."""
    config = dose_config(arm, plan, patients, seed)
    about = {"arm": arm.name, "train_patients": patients, "seed": seed, "steps": config.steps}
    have = {row["step"] for row in done if about.items() <= row.items()}
    points = {max(1, round(config.steps * share)): share for share in POINTS}
    wanted = points.keys() - have
    if not wanted:
        return
    cost = prior_of(arm, plan, patients, seed, on_event=on_event)
    trainer = trainer_of(config, plan, patients)
    if min(wanted) < trainer.step:  # a row got lost: its weights are gone, so they are made again
        trainer = trainer_of(config, plan, patients, afresh=True)
    for step in steps_of(trainer, on_event):
        if step not in wanted:
            continue
        trainer.save()
        options = Options(steps=1, seed=seed, looks=1, mimic=False)
        doses = from_model(trainer.folder / "model.safetensors", options, plan.device)
        table = list(score_all(cases(), doses))
        errors = {r.patient: round(r.dose_error, 4) for r in table}
        spent = {"share": points[step], "step": step, "minutes": minutes(trainer, step), **cost}
        yield {**about, **spent, **summary(table), "dose_errors": errors}


@benchmark(
    "transfer",
    settings=Plan,
    says="What a prior is worth: dose training from several priors and from scratch, on few and on many "
    "patients, with equal steps; resumes.",
    file=FILE,
)
def write(plan: Plan, file: Path, on_event: Callable[[str], None] = log.info) -> list[Row]:
    """Make the rows in `file`, and from them the Markdown table and the picture beside it."""
    found = rows(plan, file, on_event)
    says = {arm.name: arm.says for arm in ARMS}
    page = transfer_page.page(found, says, file.with_suffix(".png").name)
    write_page(file, page, partial(transfer_page.draw, found, says))
    return found
