"""The stages that made the shipped head-and-neck models, in order: each goes on from the one before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from anydose.model.any2any import ModelConfig
from anydose.model.network.dit import DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.train.config import TrainConfig
from anydose.train.tasks import TaskConfig

# Slabs hold three body voxels in eight and four patients a step; whole bodies come at the end (docs/results).
SLABS: dict[str, Any] = {
    "crop": (32, 512, 512),
    "accumulate": 4,
    "optimiser": "muon",
    "learning_rate": 2e-3,
}
# The stages up to hn-unaugmented were run before the network could leave out what is no body.
DENSE = ModelConfig(UNetConfig(sparse=False))
HN_SLABS = TrainConfig(
    name="hn-slabs",
    model=DENSE,
    task=TaskConfig(
        dose_share=0.95, condition_keep_probability=(0.97, 0.97), t1_probability=0.85, cranio_caudal=False
    ),
    steps=3800,
    last_rate=0.1,
    **SLABS,
)
HN_WHOLE_BODIES = replace(
    HN_SLABS,
    name="hn-whole-bodies",
    init="runs/hn-slabs/model.safetensors",
    task=replace(HN_SLABS.task, condition_keep_probability=(0.99, 0.99), t1_probability=0.9),
    crop=(),
    steps=200,
    accumulate=3,
    learning_rate=3e-4,
    last_rate=0.0,
    warmup=10,
    dvh=0.2,
)
# After 35 epochs the network was 1 Gy better on its own patients than on others (docs/results).
HN_ROTATED = replace(
    HN_SLABS,
    name="hn-rotated",
    init="runs/hn-whole-bodies/model.safetensors",
    task=TaskConfig(
        dose_share=0.98,
        condition_keep_probability=(0.97, 0.97),
        t1_probability=0.9,
        rotation_probability=0.3,
        rotation_jitter_deg=8.0,
        zoom=0.08,
    ),
    seed=1,
    steps=2500,
    accumulate=3,
    learning_rate=1.5e-3,
    last_rate=0.03,
    weight_decay=0.1,
    warmup=50,
)
HN_DEFORMED = replace(
    HN_WHOLE_BODIES,
    name="hn-deformed",
    init="runs/hn-rotated/model.safetensors",
    task=TaskConfig(
        dose_share=1.0,
        condition_keep_probability=(0.98, 0.98),
        t1_probability=0.95,
        rotation_probability=0.4,
        rotation_jitter_deg=6.0,
        zoom=0.06,
        deformation_mm=4.0,
    ),
    seed=3,
    steps=950,
    learning_rate=8e-4,
    last_rate=0.02,
    warmup=20,
    weight_decay=0.2,
    dvh_points=1.0,
    ema=0.995,
)
# Patients as they are: 950 steps of deformed ones had lowered the DVH error, and not the dose's.
HN_UNAUGMENTED = replace(
    HN_DEFORMED,
    name="hn-unaugmented",
    init="runs/hn-deformed/model.safetensors",
    task=replace(HN_WHOLE_BODIES.task, dose_share=1.0, t1_probability=0.95),
    seed=4,
    steps=240,
    learning_rate=4e-4,
    warmup=5,
    weight_decay=0.1,
    dvh=0.12,
    ema=0.98,
)
# The network computes where there is body and nowhere else; twice as many patients a step, half of them as
# they are.
HN_BODY_VOXELS = replace(
    HN_DEFORMED,
    name="hn-body-voxels",
    model=ModelConfig(),
    init="runs/hn-unaugmented/model.safetensors",
    task=TaskConfig(
        dose_share=1.0,
        condition_keep_probability=(0.98, 0.98),
        t1_probability=0.95,
        cranio_caudal=False,
        rotation_probability=0.25,
        rotation_jitter_deg=4.0,
        zoom=0.05,
        deformation_mm=3.0,
        unaugmented_probability=0.5,
    ),
    seed=6,
    steps=1700,  # as it ran the schedule was of 2300 steps up to step 150 and of 1900 up to step 900
    accumulate=6,
    learning_rate=1e-3,
    dvh=0.12,
)
# The first 250 of 1900 steps, hence the rate: later ones overfitted again (docs/results).
HN_LATERALITY = replace(
    HN_BODY_VOXELS,
    name="hn-laterality",
    model=ModelConfig(keep_laterality=True),
    init="runs/hn-body-voxels/model.safetensors",
    task=replace(
        HN_BODY_VOXELS.task,
        rotation_probability=0.4,
        rotation_jitter_deg=8.0,
        zoom=0.08,
        deformation_mm=5.0,
        unaugmented_probability=0.15,
    ),
    seed=9,
    steps=250,
    last_rate=0.96,
    weight_decay=0.3,
)
# Features are exchanged along the beams' rays. This is what ships as compact-hn.
HN_BEAMS_EYE_VIEW = replace(
    HN_LATERALITY,
    name="hn-beams-eye-view",
    model=ModelConfig(UNetConfig(bev_exchange=32), keep_laterality=True),
    init="runs/hn-laterality/model.safetensors",
    task=replace(
        HN_BODY_VOXELS.task,
        rotation_probability=0.3,
        zoom=0.06,
        deformation_mm=4.0,
        unaugmented_probability=0.3,
    ),
    seed=11,
    steps=850,  # as it ran the schedule was of 950 steps up to step 500
    last_rate=0.02,
    ema=0.992,
)
# What the stages for the dose had forgotten, as an adapter that leaves the dose alone (compact-hn-any).
HN_COMPLETION = TrainConfig(
    name="hn-completion",
    init="compact-hn",
    task=TaskConfig(
        dose_share=0.0,
        condition_keep_probability=(0.9, 0.9),
        t1_probability=0.95,
        cranio_caudal=False,
        targets=("oar", "oar", "oar", "oar", "ct", "ct", "ptv", "body", "beam", "angle"),
    ),
    lora=8,
    adapter=True,
    crop=(64, 512, 512),
    organ_weight=8.0,
    steps=500,
    accumulate=6,
    learning_rate=4e-3,
    warmup=20,
    ema=0.98,
)
# Tokens of 8^3 voxels where detail counts, of 16^3 for what is smooth. 12 M parameters, most of them in the
# patchify and the free read-out.
TRANSFORMER = DiTConfig(
    dim=192,
    depth=6,
    ffn=768,
    patch=(("ct", 8), ("ptv", 4), ("oar", 4), ("body", 8), ("beam", 4), ("angle", 8), ("dose", 4)),
    sigma_data=0.1,
    co_located=True,
    plate_read_out=True,
    head_width=48,
)
# Augmented from the first step on: after 300 steps the error on training patients is no lower than on others.
HN_TRANSFORMER_AUGMENTED = TrainConfig(
    name="hn-transformer-augmented",
    model=ModelConfig(TRANSFORMER, keep_laterality=True),
    task=TaskConfig(
        dose_share=1.0,
        condition_keep_probability=(0.95, 0.95),
        t1_probability=0.95,
        cranio_caudal=False,
        rotation_probability=0.3,
        rotation_jitter_deg=6.0,
        zoom=0.06,
        deformation_mm=4.0,
        unaugmented_probability=0.3,
    ),
    steps=450,  # the first 450 of 700; as it ran, of 1200 up to step 150
    last_rate=0.37,
    full_rate_inputs=64,
    weight_decay=0.1,
    warmup=30,
    **SLABS,
)
# Half of the patients as they are, the rate to its end.
HN_TRANSFORMER = replace(
    HN_TRANSFORMER_AUGMENTED,
    name="hn-transformer",
    init="runs/hn-transformer-augmented/model.safetensors",
    task=replace(HN_BODY_VOXELS.task, condition_keep_probability=(0.97, 0.97)),
    seed=1,
    steps=290,  # as it ran, of 370 up to step 150
    learning_rate=1.2e-3,
    last_rate=0.02,
    warmup=10,
    dvh=0.1,
    ema=0.99,
)
# At full rate again: validation stood from step 300 to 600 and fell as the rate did (docs/notebook).
HN_TRANSFORMER_LONGER = replace(
    HN_TRANSFORMER,
    name="hn-transformer-longer",
    init="runs/hn-transformer/model.safetensors",
    task=replace(
        HN_TRANSFORMER.task,
        rotation_probability=0.3,
        rotation_jitter_deg=6.0,
        zoom=0.06,
        deformation_mm=4.0,
        unaugmented_probability=0.4,
    ),
    seed=31,
    steps=800,
    learning_rate=1.5e-3,
    warmup=20,
    dvh=0.12,
    dvh_points=1.0,
)
# Whole bodies, as they are predicted.
HN_TRANSFORMER_WHOLE_BODIES = replace(
    HN_TRANSFORMER_LONGER,
    name="hn-transformer-whole-bodies",
    init="runs/hn-transformer-longer/model.safetensors",
    crop=(),
    seed=41,
    steps=130,
    learning_rate=7e-4,
    warmup=10,
    dvh=0.15,
    ema=0.985,
)
# The same once more from a high rate. This is what ships as compact-hn-dit.
HN_TRANSFORMER_WHOLE_BODIES_LONGER = replace(
    HN_TRANSFORMER_WHOLE_BODIES,
    name="hn-transformer-whole-bodies-longer",
    init="runs/hn-transformer-whole-bodies/model.safetensors",
    seed=51,
    steps=220,
    learning_rate=1e-3,
)
# All weights learn, as what reads out the other targets starts from nothing and the convolutions were the
# dose's alone: adapters of rank 8 gave no organ and no target in 150 steps (docs/notebook).
HN_TRANSFORMER_COMPLETION = replace(
    HN_COMPLETION,
    name="hn-transformer-completion",
    init="compact-hn-dit",
    lora=0,
    adapter=False,
    steps=800,
    accumulate=4,
    optimiser="muon",
    learning_rate=1.5e-3,
    full_rate_inputs=HN_TRANSFORMER.full_rate_inputs,
    weight_decay=0.1,
)
# More of the targets, whose levels were behind. This is what ships as compact-hn-dit-any.
HN_TRANSFORMER_TARGETS = replace(
    HN_TRANSFORMER_COMPLETION,
    name="hn-transformer-targets",
    init="runs/hn-transformer-completion/model.safetensors",
    task=replace(
        HN_COMPLETION.task,
        targets=("ptv", "ptv", "ptv", "ptv", "oar", "oar", "oar", "ct", "body", "beam", "angle"),
    ),
    seed=1,
    steps=260,
    learning_rate=1e-3,
    warmup=10,
)
STAGES = (
    HN_SLABS,
    HN_WHOLE_BODIES,
    HN_ROTATED,
    HN_DEFORMED,
    HN_UNAUGMENTED,
    HN_BODY_VOXELS,
    HN_LATERALITY,
    HN_BEAMS_EYE_VIEW,
    HN_COMPLETION,
    HN_TRANSFORMER_AUGMENTED,
    HN_TRANSFORMER,
    HN_TRANSFORMER_LONGER,
    HN_TRANSFORMER_WHOLE_BODIES,
    HN_TRANSFORMER_WHOLE_BODIES_LONGER,
    HN_TRANSFORMER_COMPLETION,
    HN_TRANSFORMER_TARGETS,
)
