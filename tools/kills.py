"""Kill -9 of predict, convert and train at moments drawn from a seed, and what must hold after each:

python tools/kills.py [--log FILE] [--only predict] [--out docs/results/kills.md]

What is in the log is not run again. Training stands on the functions of tests/train/test_kills.py.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "stand_ins"), str(REPOSITORY / "tests" / "train")]
ANYDOSE = [sys.executable, "-m", "anydose.cli"]
HEAD = """# Kills

`python tools/kills.py --out docs/results/kills.md`: kill -9 of the command and all its processes, at moments
drawn from a seed. The third column counts the runs that were still at work when they were killed.

| command | kills | in the middle | where they struck | held |
| --- | --- | --- | --- | --- |
"""


def struck(line: list[Any], seconds: float) -> bool:
    """Start a command and kill it and its children after so many seconds; True if it was still at work."""
    run = subprocess.Popen([*map(str, line)], stdout=-3, stderr=-3, start_new_session=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(timeout=seconds)
    was_running = run.poll() is None
    if was_running:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return was_running


def predict(place: Path, wanted: list[int]) -> Iterator[dict[str, Any]]:
    """Into a used folder, each time another patient: one whole result, and nothing else, whenever it ends."""
    import torch

    from anydose.deliver.folder import COMPLETE, LOCK, WRITING
    from anydose.io import openkbp, run_folder
    from anydose.io.phantom import make_phantom
    from anydose.model.any2any import Any2Any, ModelConfig
    from anydose.model.checkpoint import save_model
    from anydose.model.network.unet import UNetConfig

    torch.manual_seed(0)
    model = Any2Any(ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16)))
    save_model(model, place / "tiny.safetensors", {})
    for name, seed in (("pt_1", 1), ("pt_2", 2)):
        openkbp.write_case(make_phantom(seed), place / name)
    out, words = place / "out", ["--model", place / "tiny.safetensors", "--looks", 1, "--no-mimic"]

    def line(name: str) -> list[Any]:
        return [*ANYDOSE, "predict", place / name, "--out", out, *words, "--overwrite"]

    begin = time.monotonic()
    subprocess.run([*map(str, line("pt_1"))], check=True, stdout=-3)
    usual = time.monotonic() - begin
    for number in wanted:
        rng = random.Random(f"predict/{number}")
        name = ("pt_1", "pt_2")[number % 2]
        alive = struck(line(name), rng.uniform(0.2, 1.1) * usual)
        record = run_folder.read_record(out)
        scraps = [p.name for p in out.iterdir() if p.name in (WRITING, COMPLETE)]
        if record is None:  # the very moment in which the new one takes the place of the old one
            assert run_folder.read_record(out / COMPLETE) is not None, (
                "neither the old result nor the new one"
            )
        else:
            ours = (LOCK, WRITING, COMPLETE)
            wrong = [said for said in run_folder.damage(out) if not said.startswith(ours)]
            assert not wrong, wrong
            assert f"{record['case']}.csv" in record["outputs"], "dose and record of two patients"
        where = (
            "while files are written"
            if WRITING in scraps
            else "while they are put in place" * (COMPLETE in scraps)
        )
        yield {"number": number, "alive": alive, "where": where or "before or after"}
    subprocess.run([*map(str, line("pt_2"))], check=True, stdout=-3)
    assert run_folder.damage(out) == [], "the run after the kills is not whole"
    assert not [p for p in out.iterdir() if p.name.startswith(".")], "scraps stay"


def convert(place: Path, wanted: list[int]) -> Iterator[dict[str, Any]]:
    """Into a store: what stands there under its name is whole; the run that goes on ends as an undisturbed
    one does, byte by byte, and nothing half written stays."""
    from linear_patient import patient

    from anydose.io import nifti
    from anydose.io.store import names, read_stored

    source, store, count = place / "in", place / "store", 30
    nifti.write_case(patient(), source / "p_0")
    for k in range(1, count):
        shutil.copytree(source / "p_0", source / f"p_{k}")
        (source / f"p_{k}" / "dose.nii.gz").unlink() if k % 3 else None
    line = [*ANYDOSE, "data", "convert", source, store]
    begin = time.monotonic()
    subprocess.run([*map(str, line)], check=True, stdout=-3)
    usual, whole = time.monotonic() - begin, content(store)
    shutil.rmtree(store)
    for number in wanted:
        rng = random.Random(f"convert/{number}")
        alive = struck(line, rng.uniform(0.3, 1.0) * usual)
        there = sorted(p.name for p in store.glob("p_*")) if store.is_dir() else []
        for name in there:
            read_stored(store / name)  # hashes of all arrays and words
        scraps = [p.name for p in store.glob(".*")] if store.is_dir() else []
        if rng.random() < 0.4 or len(there) == count:
            subprocess.run([*map(str, line)], check=True, stdout=-3)
            assert names(store) == [f"p_{k}" for k in range(count)]
            assert content(store) == whole, "other bytes than the undisturbed run"
            shutil.rmtree(store)
        where = (
            "while a case was written" if scraps else "between cases" if there else "before the first case"
        )
        yield {"number": number, "alive": alive, "where": where}
    subprocess.run([*map(str, line)], check=True, stdout=-3)
    assert content(store) == whole, "other bytes than the undisturbed run"


def content(folder: Path) -> dict[str, str]:
    """Every file and its hash."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def train(place: Path, wanted: list[int], saved: bool, ranks: int = 1) -> Iterator[dict[str, Any]]:
    """Killed, and gone on with --resume: log, weights and state are those of the run that nobody touched."""
    import test_kills
    from tiny_cohort import read_small_case

    from anydose.train.changes import write_yaml
    from anydose.train.data import render

    drawn = place / "drawn"
    render(read_small_case, [Path("0"), Path("1"), Path("2")], drawn)

    def recipe(name: str) -> Path:
        path = place / name / "recipe.yaml"
        path.parent.mkdir()
        write_yaml(
            replace(test_kills.config(drawn, place / name), steps=40 // ranks, save_every=10 // ranks), path
        )
        return path

    test_kills.finished(test_kills.command(recipe("undisturbed"), ranks=ranks))
    for number in wanted:
        rng = random.Random(f"train/{saved}/{ranks}/{number}")
        first = 10 // ranks
        after = rng.randint(first, 4 * first - 2) if saved else rng.randint(0, first - 2)
        path = recipe(f"run{number}")
        with (path.parent / "said.txt").open("w") as said:
            line = test_kills.command(path, ranks=ranks)
            alive = test_kills.killed(line, path.parent, after, rng.uniform(0, 0.08), said)
        test_kills.finished(test_kills.command(path, "--resume", ranks=ranks))
        test_kills.assert_as_undisturbed(path.parent, place / "undisturbed")
        yield {"number": number, "alive": alive, "where": f"step {after} of {4 * first}"}
        shutil.rmtree(path.parent)


Kills = Callable[[Path, list[int]], Iterator[dict[str, Any]]]
WAYS: dict[str, tuple[str, int, Kills]] = {
    "predict": ("predict into a used folder", 50, predict),
    "convert": ("data convert, two processes", 50, convert),
    "train-first": ("train, before its first save", 10, lambda p, n: train(p, n, saved=False)),
    "train-saved": ("train, later", 10, lambda p, n: train(p, n, saved=True)),
    "train-ranks": ("train, two gloo ranks, before and after the first save", 10, lambda p, n: both(p, n)),
}


def both(place: Path, wanted: list[int]) -> Iterator[dict[str, Any]]:
    """Two ranks, by turns before and after the first save."""
    for saved in (False, True):
        mine = [number for number in wanted if number % 2 == saved]
        if mine:
            (place / str(saved)).mkdir()
            yield from train(place / str(saved), mine, saved, ranks=2)


def rows_of(log: Path) -> list[dict[str, Any]]:
    """The log so far."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def table(rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = []
    for name, (words, _, function) in WAYS.items():
        mine = [row for row in rows if row["way"] == name]
        places = sorted({row["where"] for row in mine if row["alive"]})
        counted = ", ".join(f"{sum(r['where'] == p and r['alive'] for r in mine)} {p}" for p in places)
        if name.startswith("train"):
            steps = [int(row["where"].split()[1]) for row in mine if row["alive"]] or [0]
            counted = f"steps {min(steps)} to {max(steps)}"
        held = " ".join((function.__doc__ or train.__doc__ or "").split())
        lines.append(f"| {words} | {len(mine)} | {sum(row['alive'] for row in mine)} | {counted} | {held} |")
    return HEAD + "\n".join(lines) + "\n"


def main() -> None:
    """Run what the log lacks; the first thing that does not hold ends it with a traceback."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=", ".join(WAYS))
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    for name, (_, count, function) in WAYS.items():
        done = {row["number"] for row in rows_of(arguments.log) if row["way"] == name}
        todo = [number for number in range(count) if number not in done]
        if not todo or arguments.only not in ("", name):
            continue
        with tempfile.TemporaryDirectory(prefix="kills-") as place:
            for row in function(Path(place), todo):
                with arguments.log.open("a") as file:
                    file.write(json.dumps({"way": name, **row}) + "\n")
    text = table(rows_of(arguments.log))
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
