"""The ablation table: one part changed at a time, equal budgets, several seeds, scored alike on validation.
Every finished row is written at once and never made again, and a killed training goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anydose.bench import averages, markdown
from anydose.bench.drawn import without
from anydose.bench.kept import kept_rows, write_page
from anydose.bench.registry import Row, benchmark
from anydose.evaluate import from_model, summary
from anydose.evaluate import rows as score_all
from anydose.io import openkbp
from anydose.io.files import write_json
from anydose.model.any2any import ModelConfig, pick_device
from anydose.model.network.baselines import CASCADE, BaselineConfig
from anydose.model.network.dit import DiTConfig
from anydose.model.options import Options
from anydose.model.weights import WEIGHTS
from anydose.train.changes import changed
from anydose.train.config import TrainConfig
from anydose.train.recipes import BUDGET, BUDGET_TRANSFORMER
from anydose.train.trainer import Trainer

log = logging.getLogger(__name__)
FILE = Path("docs/results/ablation.json")
DIT = ModelConfig(DiTConfig(), "compact:32")
ADAMW = ("optimiser=adamw", "learning_rate=6e-4")
RATES = (f"full_rate_inputs={BUDGET_TRANSFORMER.full_rate_inputs}",)  # what its optimiser wants
ANY = ("task.dose_share=0.5", "task.condition_keep_probability=[0.5, 0.9]")
DIFFUSES = (1, 2, 4, 10)  # sampling steps of the rows that ask for them
LOOKS = 1
HEAD = (
    "variant",
    "change",
    "M",
    "steps",
    "minutes",
    "sampling",
    "seeds",
    "dose (Gy)",
    "change",
    "DVH (Gy)",
)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    """Its name."""
    against: str
    """The row that it is one change away from; '' for none."""
    says: str
    """That change in words."""
    changes: tuple[str, ...] = ()
    """key=value changes of the recipe."""
    model: ModelConfig | None = None
    """Another network than the recipe's."""
    withheld: tuple[str, ...] = ()
    """Modalities that it never sees."""
    steps: tuple[int, ...] = (1,)
    """How many sampling steps it is scored with, a row each."""


def _transformer(name: str, says: str, change: str) -> Variant:
    """One setting of the transformer on voxels, changed."""
    return Variant(
        f"transformer-{name}",
        "transformer",
        says,
        (*RATES, f"model.backbone.{change}"),
        BUDGET_TRANSFORMER.model,
    )


VARIANTS: tuple[Variant, ...] = (
    Variant("unet", "", "the compact U-Net from scratch, dose alone, all conditions", steps=DIFFUSES),
    Variant("dense", "unet", "air is computed and counted by the norms", ("model.backbone.sparse=false",)),
    Variant("rays", "unet", "features exchanged along the beams' rays", ("model.backbone.bev_exchange=32",)),
    Variant("regression", "unet", "no noise, no diffusion: one step", ("objective=regression",)),
    Variant("no-beams", "unet", "without beam and angle", withheld=("beam", "angle")),
    Variant(
        "one-plate", "unet", "the plain mean plate for the nine attenuated ones", ("model.plates=plain",)
    ),
    Variant(
        "one-attenuated-plate",
        "unet",
        "the mean of the nine attenuated plates for each of them",
        ("model.plates=attenuated",),
    ),
    Variant("no-ct", "unet", "without CT", withheld=("ct",)),
    Variant("organ-levels", "unet", "all organs in one volume of levels", ("model.organs_as=levels",)),
    Variant(
        "v-readout", "unet", "the network gives v itself, not the data", ("model.backbone.sigma_data=0.0",)
    ),
    Variant(
        "flow-readout",
        "unet",
        "the network gives noise - data",
        ("model.backbone.sigma_data=0.0", "model.predicts=noise - data"),
    ),
    Variant("uniform-t", "unet", "half of the steps at t = 1", ("task.t1_probability=0.5",), steps=DIFFUSES),
    Variant("any2any", "unet", "half of the steps on other targets", ANY),
    Variant("no-role", "any2any", "no role code", (*ANY, "model.backbone.role_code=false")),
    Variant("no-visible", "any2any", "no visible-set code", (*ANY, "model.backbone.visible_code=false")),
    Variant("dit", "unet", "the transformer on the compact codec", ADAMW, DIT, steps=(1, 4)),
    Variant("dit-no-role", "dit", "no role embedding", (*ADAMW, "model.backbone.role=false"), DIT),
    Variant(
        "dit-one-patchify",
        "dit",
        "one patchify for all",
        (*ADAMW, "model.backbone.modality_patchify=false"),
        DIT,
    ),
    Variant(
        "dit-3d-rope", "dit", "RoPE without the slot axis", (*ADAMW, "model.backbone.slot_axis=false"), DIT
    ),
    Variant("dit-causal", "dit", "causal attention", (*ADAMW, "model.backbone.full_attention=false"), DIT),
    Variant(
        "transformer",
        "unet",
        "the transformer on voxels, with read-outs of its own",
        RATES,
        BUDGET_TRANSFORMER.model,
        steps=(1, 4),
    ),
    _transformer("plain-read-out", "no beam plates in the read-out", "plate_read_out=false"),
    _transformer("no-convolutions", "no convolutions behind the tokens", "head_width=0"),
    _transformer("apart", "the target's tokens do not start with the others' sum", "co_located=false"),
    _transformer("v-readout", "the network gives v itself, not the data", "sigma_data=0.0"),
    _transformer("no-role", "no role embedding", "role=false"),
    _transformer("one-patchify", "one patchify for all", "modality_patchify=false"),
    _transformer("3d-rope", "RoPE without the slot axis", "slot_axis=false"),
    _transformer("causal", "causal attention", "full_attention=false"),
    Variant(
        "transformer-any2any",
        "transformer",
        "half of the steps on other targets",
        (*ANY, *RATES),
        BUDGET_TRANSFORMER.model,
    ),
    Variant(
        "dynunet", "regression", "MONAI's DynUNet", ("objective=regression",), ModelConfig(BaselineConfig())
    ),
    Variant(
        "mednext",
        "regression",
        "MONAI's MedNeXt, kernel 3",
        ("objective=regression", *ADAMW),
        ModelConfig(BaselineConfig(kind="mednext")),
    ),
    Variant(
        "c3d",
        "regression",
        "a cascade of two U-Nets (C3D), one loss on their sum",
        ("objective=regression",),
        ModelConfig(BaselineConfig(CASCADE, kind="c3d")),
    ),
)


@dataclass(frozen=True)
class Plan:
    """How the table is made."""

    cohort: Path
    """OpenKBP dataset folder (with provided-data)."""
    training_steps: int = BUDGET.steps
    """Steps of every training."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of every variant."""
    only: tuple[str, ...] = ()
    """Only these variants."""
    limit: int = 0
    """Score the first N validation patients; 0 for all."""
    changes: tuple[str, ...] = ()
    """key=value changes of the recipe that all variants share."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    runs: str = "runs/ablation"
    """Where the trainings lie."""


def chosen(only: Sequence[str]) -> list[Variant]:
    """The variants of these names, all of them for none; ValueError for an unknown one."""
    names = [v.name for v in VARIANTS]
    for name in only:
        if name not in names:
            raise ValueError(f"variant {name!r}: {', '.join(names)} are accepted")
    return [v for v in VARIANTS if not only or v.name in only]


def config_of(variant: Variant, plan: Plan, seed: int) -> TrainConfig:
    """The fully resolved training of one variant and seed."""
    base = changed(BUDGET, plan.changes)
    if variant.model is not None:
        learned = "compact" in variant.model.codec
        codec = str(WEIGHTS / "codec-compact.safetensors") if learned else ""
        base = replace(base, model=variant.model, codec=codec)
    run = replace(changed(base, variant.changes), seed=seed, steps=plan.training_steps, out=plan.runs)
    return replace(run, name=f"{variant.name}-{plan.training_steps}-seed{seed}")


def rows(plan: Plan, file: Path, on_event: Callable[[str], None] = log.info) -> list[Row]:
    """The table's rows, those in `file` as they are, the others trained, scored and written there. ValueError
    if the file holds rows that were made in another way (other shared changes or patients)."""
    shared = {"limit": plan.limit, "shared": list(plan.changes)}
    done = kept_rows(file, shared)
    have = {(r["variant"], r["seed"], r["train_steps"], r["sampling_steps"]) for r in done}
    for variant in chosen(plan.only):
        for seed in plan.seeds:
            key = (variant.name, seed, plan.training_steps)
            wanted = [steps for steps in variant.steps if (*key, steps) not in have]
            if not wanted:
                continue
            for row in _trained_and_scored(variant, plan, seed, wanted, on_event=on_event):
                done.append(row | shared)
                write_json(done, file)
                on_event(json.dumps(row))
    return done


def trainer_of(variant: Variant, plan: Plan, seed: int) -> Trainer:
    """The training of one variant and seed, where it stands, on cases without what is withheld."""
    trainer = Trainer(config_of(variant, plan, seed), str(pick_device(plan.device)))
    trainer.cohort.modalities = without(trainer.cohort.modalities, variant.withheld)
    if (trainer.folder / "state.safetensors").is_file():
        trainer.resume()
    return trainer


def _trained_and_scored(
    variant: Variant, plan: Plan, seed: int, sampling: Sequence[int], on_event: Callable[[str], None]
) -> Iterator[Row]:
    trainer = trainer_of(variant, plan, seed)
    for step in trainer.run():
        if step.step % 100 == 0:
            on_event(f"{variant.name} seed {seed}: step {step.step}, {step.seconds / 60:.1f} min")
    known = trainer.model.config.modalities
    given = tuple(n for n in known if n != "dose" and n not in variant.withheld)
    about = {"variant": variant.name, "seed": seed, "train_steps": plan.training_steps}
    about |= {"parameters": sum(p.numel() for p in trainer.trained())}
    about |= {"train_minutes": round(trainer.seconds / 60, 2), "final_loss": _final_loss(trainer.folder)}
    for steps in sampling:
        options = Options(steps=steps, seed=seed, given=given, looks=LOOKS, mimic=False)
        doses = from_model(trainer.folder / "model.safetensors", options, plan.device)
        folders = openkbp.patients(plan.cohort, "validation")[: plan.limit or None]
        cases = (openkbp.read_case(folder) for folder in folders)
        scores = summary(list(score_all(cases, doses)))
        yield {**about, "sampling_steps": steps, **scores}


def _final_loss(folder: Path, window: int = 100) -> float:
    """Mean training loss of the last steps."""
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    column = lines[0].index("loss")
    return round(float(np.mean([float(line[column]) for line in lines[1:][-window:]])), 4)


def table(found: Sequence[Row]) -> str:
    """The rows as Markdown: one line a variant and number of sampling steps, mean and standard deviation over
    seeds, and the difference from the row that it is one change away from."""
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in found:
        key = (row["variant"], row["train_steps"], row["sampling_steps"])
        groups.setdefault(key, []).append(row)
    order = {variant.name: place for place, variant in enumerate(VARIANTS)}
    lines = []
    for name, budget, sampling in sorted(groups, key=lambda key: (order[key[0]], *key[1:])):
        variant = VARIANTS[order[name]]
        reference = groups.get((variant.against or name, budget, 1), [])
        lines.append(_cells(variant, groups[name, budget, sampling], reference))
    return markdown.table(HEAD, lines) + "\n"


def _cells(variant: Variant, group: Sequence[Row], reference: Sequence[Row]) -> list[str]:
    """One line of the table; reference: the rows that the group is held against."""
    first = group[0]
    gap = ""
    if reference:
        gap = f"{averages.mean(group, 'dose_score') - averages.mean(reference, 'dose_score'):+.2f}"
    return [
        variant.name,
        variant.says + (f" (from {variant.against})" if variant.against else ""),
        f"{first['parameters'] / 1e6:.1f}",
        str(first["train_steps"]),
        f"{averages.mean(group, 'train_minutes'):.0f}",
        str(first["sampling_steps"]),
        str(len(group)),
        averages.with_spread(group, "dose_score"),
        gap,
        averages.with_spread(group, "dvh_score"),
    ]


@benchmark(
    "ablation",
    settings=Plan,
    says="One part of the network or its training changed at a time, equal budgets, several seeds; resumes.",
    file=FILE,
)
def write(plan: Plan, file: Path, on_event: Callable[[str], None] = log.info) -> list[Row]:
    """Make the rows in `file` and the Markdown table beside it."""
    found = rows(plan, file, on_event)
    how = f"{found[0]['patients']} validation patients, {LOOKS} look, equal steps for every row of a budget"
    shared = f"; all with {', '.join(plan.changes)}" if plan.changes else ""
    intro = f"# Ablation\n\nWritten by `anydose bench ablation`: {how}{shared}.\n\n"
    write_page(file, intro + table(found))
    return found
