"""Training with its progress shown: what `anydose train` does on a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from anydose.model.any2any import pick_device
from anydose.train import codec, distributed
from anydose.train.codec import CodecConfig
from anydose.train.trainer import TrainConfig, Trainer

WINDOW = 50  # steps that the shown loss is averaged over


def show(config: TrainConfig, resume: bool, device: str) -> None:
    """Run a recipe to its end, as one of several processes under torchrun. ValueError if its folder holds an
    earlier run and `resume` was not asked for."""
    trainer = Trainer(config, str(distributed.start(device) or pick_device(device)))
    if resume:
        trainer.resume()
    elif (trainer.folder / "state.safetensors").is_file():
        raise ValueError(
            f"{trainer.folder} holds a run already: --resume continues it, name=OTHER starts a new one"
        )
    steps = ((s.step, s.metrics["loss"]) for s in trainer.run())
    _progress(config.name, steps, trainer.config.steps, f"{trainer.folder}/model.safetensors")


def show_codec(config: CodecConfig) -> None:
    """Train the compact codec to its end."""
    _progress("codec", codec.train(config), config.steps, f"{config.out}/codec.safetensors")


def _progress(name: str, steps: Iterable[tuple[int, float]], total: int, result: str) -> None:
    console, recent = Console(stderr=True), deque[float](maxlen=WINDOW)
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
