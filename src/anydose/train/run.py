"""Training with its progress shown: what `anydose train` does on a terminal."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from anydose.model.any2any import pick_device
from anydose.train import codec, distributed
from anydose.train.codec import CodecConfig
from anydose.train.config import TrainConfig
from anydose.train.folder import refuse_used
from anydose.train.posttrain.config import PostConfig
from anydose.train.posttrain.trainer import PostTrainer
from anydose.train.trainer import Trainer

log = logging.getLogger(__name__)
WINDOW = 50  # steps that the shown loss is averaged over


def start(recipe: TrainConfig | PostConfig, *, resume: bool, device: str) -> None:
    """Run a recipe of either kind to its end. ValueError as in `show` and `show_posttrain`."""
    if isinstance(recipe, PostConfig):
        show_posttrain(recipe, resume, device)
    else:
        show(recipe, resume, device)


def show(config: TrainConfig, resume: bool, device: str) -> None:
    """Run a recipe to its end, as one of several processes under torchrun. ValueError if its folder holds an
    earlier run and `resume` was not asked for."""
    trainer = Trainer(config, str(distributed.start(device) or pick_device(device)))
    if resume:
        trainer.resume()
    else:
        refuse_used(trainer.place)
    steps = ((s.step, s.metrics["loss"]) for s in trainer.run())
    result = f"{trainer.folder}/{'adapter' if config.adapter else 'model'}.safetensors"
    _progress(config.name, steps, trainer.steps, result, quiet=trainer.rank > 0)


def show_codec(config: CodecConfig, device: str = "cpu") -> None:
    """Train the compact codec to its end."""
    _progress(
        "codec",
        codec.train(config, str(pick_device(device))),
        config.steps,
        f"{config.out}/codec.safetensors",
    )


def show_posttrain(config: PostConfig, resume: bool, device: str) -> None:
    """Post-train to the end, or to where the stop rule is met, with the reward and what it is made of."""
    trainer = PostTrainer(config, str(distributed.start(device) or pick_device(device)))
    if resume:
        trainer.resume()
    else:
        refuse_used(trainer.place)
    console = Console(stderr=True, quiet=is_quiet() or trainer.rank > 0)
    recent, watched = deque[dict[str, float]](maxlen=10), ""
    columns = (MofNCompleteColumn(), TimeElapsedColumn())  # the words need the line
    with Progress(*columns, TextColumn("{task.fields[said]}"), console=console) as bar:
        task = bar.add_task(config.name, total=config.steps, said="")
        for row in trainer.run():
            recent.append(row)
            mean = {key: sum(r[key] for r in recent) / len(recent) for key in recent[0] if key in row}
            if "watch_gain" in row:
                watched = f"; watched: score {row['watch_gain']:+.1%}, MAE {row['watch_growth']:+.1%}"
            said = (
                f"reward {mean['reward']:.3f} (score {mean['scored']:.3f}, limits {mean['hinge']:+.3f}, "
                f"anchor {mean['anchor']:+.3f}), MAE {mean['growth']:+.1%}, KL {mean['kl']:.1e}{watched}"
            )
            bar.update(task, completed=row["step"], said=said)
            if not console.is_terminal and row["step"] % 5 == 0:
                console.print(f"{config.name} step {row['step']:.0f}/{config.steps} {said}", soft_wrap=True)
    if trainer.stopped:
        console.print(trainer.stopped, soft_wrap=True)
    which = "the best of its checks" if config.watch else "the last"
    console.print(f"{trainer.folder}/adapter.safetensors: {which}", soft_wrap=True)


def is_quiet() -> bool:
    """Whether the log was asked for errors alone (`anydose -q`)."""
    return not log.isEnabledFor(logging.WARNING)


def _progress(
    name: str, steps: Iterable[tuple[int, float]], total: int, result: str, quiet: bool = False
) -> None:
    console, recent = Console(stderr=True, quiet=quiet or is_quiet()), deque[float](maxlen=WINDOW)
    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total, loss="")
        for step, loss in steps:
            recent.append(loss)
            bar.update(task, completed=step, loss=f"loss {sum(recent) / len(recent):.4f}")
            if not console.is_terminal and step % WINDOW == 0:
                console.print(f"{name} step {step}/{total} loss {sum(recent) / len(recent):.4f}")
    console.print(f"{result} written")
