"""A training small enough for a test: a U-Net of two levels on the drawn cohort of phantoms."""

import csv
from dataclasses import replace

from anydose.model.any2any import ModelConfig
from anydose.model.network.unet import UNetConfig
from anydose.train.config import TrainConfig
from anydose.train.tasks import ANY2ANY

TINY = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))


def tiny_run(cohort_folder, out, **changes):
    """The settings of the run `t` in `out`, with changes."""
    base = TrainConfig(
        name="t",
        model=TINY,
        data=str(cohort_folder),
        out=str(out),
        steps=8,
        warmup=2,
        save_every=4,
        task=ANY2ANY,
    )
    return replace(base, **changes)


def log_rows(out, *columns):
    """The log of the run `t`: every row, with the columns named, or all but the seconds."""
    with (out / "t" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = columns or [name for name in rows[0] if name != "seconds"]
    return [{name: row[name] for name in kept} for row in rows]
