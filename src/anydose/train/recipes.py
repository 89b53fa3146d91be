"""Every named run, fully resolved; a variant is a small difference of another. A recipe can also be a YAML
file: settings, and under `recipe` the name of the recipe that they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anydose.model.any2any import ModelConfig
from anydose.model.network.dit import DiTConfig
from anydose.train import head_neck
from anydose.train.changes import changed, changed_by, read_yaml
from anydose.train.codec import CodecConfig
from anydose.train.config import TrainConfig
from anydose.train.posttrain.config import PostConfig
from anydose.train.tasks import ANY2ANY, TaskConfig

Recipe = TrainConfig | PostConfig

CODEC = CodecConfig()
ANY2ANY_STAGE = TrainConfig(name="any2any", task=ANY2ANY, steps=600)
DOSE_STAGE = TrainConfig(
    name="dose",
    init="runs/any2any/model.safetensors",
    steps=5500,
    task=TaskConfig(dose_share=0.85, condition_keep_probability=(0.9, 0.9)),
)
BUDGET = TrainConfig(
    name="budget-unet",
    steps=300,
    task=TaskConfig(t1_probability=0.9, cranio_caudal=False),
    **head_neck.SLABS,
)
BUDGET_REGRESSION = replace(BUDGET, name="budget-regression", objective="regression")
BUDGET_DIT = replace(
    BUDGET,
    name="budget-dit",
    model=ModelConfig(DiTConfig(), "compact:32"),
    codec="runs/codec/codec.safetensors",
    optimiser="adamw",  # Muon at 2e-3 was no faster over 150 steps
    learning_rate=6e-4,
)
BUDGET_TRANSFORMER = replace(
    BUDGET,
    name="budget-transformer",
    model=head_neck.HN_TRANSFORMER_AUGMENTED.model,
    full_rate_inputs=head_neck.HN_TRANSFORMER_AUGMENTED.full_rate_inputs,
)
POSTTRAIN = PostConfig()

# What the paper says of its training (arXiv 2605.09622). 97 slices are 96 and the copy of the first one that
# Wan's VAE wants.
PAPER: dict[str, Any] = {
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "clip": 0.1,
    "epochs": 100,
    "precision": "bf16",
    "crop": (96, 128, 160),
    "latents": True,
}
# What it leaves open is taken in its plainest form: squared error, uniform times, a constant learning rate.
PAPER_LOSS: dict[str, Any] = {
    "error": "squared",
    "last_rate": 1.0,
    "warmup": 0,
    "sampling_steps": 10,
    "mimic": False,
}
PAPER_ANY2ANY = replace(
    ANY2ANY_STAGE,
    name="paper-any2any",
    model=BUDGET_DIT.model,
    codec=BUDGET_DIT.codec,
    task=replace(ANY2ANY, t1_probability=0.0),
    **PAPER | PAPER_LOSS | {"latents": False},
)
PAPER_DOSE = replace(
    PAPER_ANY2ANY,
    name="paper-dose",
    init="runs/paper-any2any/model.safetensors",
    codec="",
    task=replace(DOSE_STAGE.task, dose_share=1.0, t1_probability=0.0),
)
PAPER_POSTTRAIN = PostConfig(
    name="paper-posttrain",
    base="runs/paper-dose/model.safetensors",
    candidates=24,
    rank=64,
    alpha=64.0,
    sampler="ddim",
    sampling_steps=10,
    t1_probability=0.0,
    patients=8,  # one for each of the paper's eight GPUs
    checkpointing=True,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        ANY2ANY_STAGE,
        DOSE_STAGE,
        *head_neck.STAGES,
        BUDGET,
        BUDGET_REGRESSION,
        BUDGET_DIT,
        BUDGET_TRANSFORMER,
        PAPER_ANY2ANY,
        PAPER_DOSE,
        POSTTRAIN,
        PAPER_POSTTRAIN,
    )
}
ABOUT = {
    "any2any": "Any modality from any others, from scratch.",
    "dose": "The dose above all, from `any2any`.",
    "hn-slabs": "Shipped model, stage 1: slabs of patients, from scratch.",
    "hn-whole-bodies": "Shipped model, stage 2: whole bodies, with the DVH loss.",
    "hn-rotated": "Shipped model, stage 3: slabs of rotated and zoomed patients.",
    "hn-deformed": "Shipped model, stage 4: whole bodies, rotated, zoomed and deformed.",
    "hn-unaugmented": "Shipped model, stage 5: whole bodies as they are.",
    "hn-body-voxels": "Shipped model, stage 6: the network computes inside the body alone.",
    "hn-laterality": "Shipped model, stage 7: in mirror images organs keep their names.",
    "hn-beams-eye-view": "Shipped model, stage 8: exchange along the beams; ships as compact-hn.",
    "hn-completion": "Adapter of compact-hn for every target but the dose; ships as compact-hn-any.",
    "hn-transformer-augmented": "Transformer, stage 1: slabs of rotated and deformed patients, from scratch.",
    "hn-transformer": "Transformer, stage 2: half of the patients as they are.",
    "hn-transformer-longer": "Transformer, stage 3: at full rate again, with more of the DVH.",
    "hn-transformer-whole-bodies": "Transformer, stage 4: whole bodies.",
    "hn-transformer-whole-bodies-longer": "Transformer, stage 5: once more; ships as compact-hn-dit.",
    "hn-transformer-completion": "All weights of compact-hn-dit for every target but the dose.",
    "hn-transformer-targets": "The same with more of the targets; ships as compact-hn-dit-any.",
    "budget-unet": "A U-Net on a small budget, the base of the ablation.",
    "budget-regression": "The same as regression, without noise.",
    "budget-dit": "The plain transformer on the compact codec, on the same budget.",
    "budget-transformer": "The transformer of `hn-transformer-augmented` on the same budget.",
    "paper-any2any": "The paper's first stage: squared error, uniform times, Adam 1e-4, 100 epochs.",
    "paper-dose": "The paper's second stage: the same settings, the dose as the target.",
    "posttrain": "Post-training by a reward (ScardNFT), from compact-hn.",
    "paper-posttrain": "The paper's third stage: 24 candidates of 10 DDIM steps, adapters of rank 64.",
}
FORMER_NAMES = {  # accepted for one release; each resolves to the folders that it had
    "compact-hn-start": "hn-slabs",
    "compact-hn-whole": "hn-whole-bodies",
    "compact-hn-turned": "hn-rotated",
    "compact-hn-bent": "hn-deformed",
    "compact-hn-plain": "hn-unaugmented",
    "compact-hn-rows": "hn-body-voxels",
    "compact-hn-sided": "hn-laterality",
    "compact-hn": "hn-beams-eye-view",
    "compact-hn-any": "hn-completion",
    "scardnft": "posttrain",
}

PRIORS = ("wan", "maisi")
# What fits (1.1 G parameters: 18 GB of weights, gradients and moments in full, 4.5 GB frozen; with 1.2 GB
# of kept block inputs); on 8 GPUs: torchrun --nproc-per-node 8 -m anydose.cli train ...
MACHINES: dict[str, dict[str, Any]] = {
    "24gb": {"lora": 64, "checkpointing": True},
    "80gb": {"checkpointing": True},
    "8x80gb": {"checkpointing": True, "save_every": 1000},
}


def resolve(name: str, changes: Sequence[str] = (), prior: str = "", machine: str = "24gb") -> Recipe:
    """The recipe of a name or YAML file with `key=value` changes; a dotted key reaches into a part
    (task.zoom=0.1). ValueError for an unknown recipe, prior, machine, key or a value of another type."""
    recipe = find(name)
    if prior:
        if not isinstance(recipe, TrainConfig):
            raise ValueError(f"{name}: post-training starts from base=FILE; it takes no prior")
        recipe = with_prior(recipe, prior, machine)
    return changed(recipe, changes)


def find(name: str) -> Recipe:
    """The recipe of a name, of a former name, or of a YAML file. ValueError for any other."""
    if name.endswith((".yaml", ".yml")):
        return _from_file(Path(name))
    if name in FORMER_NAMES:
        return _in_former_folders(name)
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r}: one of {', '.join(RECIPES)} or a .yaml file is accepted")
    return RECIPES[name]


def with_prior(recipe: TrainConfig, prior: str, machine: str) -> TrainConfig:
    """A recipe from an imported prior, in the paper's settings on a machine. A recipe from scratch starts at
    runs/PRIOR (what `anydose prior import` wrote), one that goes on at what that became."""
    for value, known in ((prior, PRIORS), (machine, MACHINES)):
        if value not in known:
            raise ValueError(f"{value!r}: one of {', '.join(known)} is accepted")
    before = f"{Path(recipe.init).parent.name}-{prior}" if recipe.init else prior
    changes = PAPER | MACHINES[machine]
    return replace(
        recipe,
        name=f"{recipe.name}-{prior}",
        init=f"runs/{before}/model.safetensors",
        codec="",  # the prior has its own
        task=replace(recipe.task, shift=3.0),  # Wan's flow shift
        **changes,
    )


def _from_file(path: Path) -> Recipe:
    """A recipe file; a run's own `recipe.yaml` is one. What holds post-training's settings says `recipe`."""
    values = read_yaml(path)
    base = find(str(values.pop("recipe"))) if "recipe" in values else TrainConfig()
    try:
        return changed_by(base, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _in_former_folders(former: str) -> Recipe:
    """A recipe under its former name, with the run it starts from under its former name too."""
    recipe = replace(RECIPES[FORMER_NAMES[former]], name=former)
    if isinstance(recipe, TrainConfig):
        before = Path(recipe.init)
        names = {new: old for old, new in FORMER_NAMES.items()}
        if before.parent.name in names:
            recipe = replace(recipe, init=f"runs/{names[before.parent.name]}/{before.name}")
    return recipe
