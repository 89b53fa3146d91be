"""Many cases on a Ray cluster of this machine whose workers are killed: `anydose bench ray`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anydose.bench.registry import Row, benchmark
from anydose.bench.watch import descendants, memory_mb
from anydose.case.case import Case
from anydose.io import nifti
from anydose.io.phantom import make_phantom
from anydose.io.run_folder import hash_of

MARGIN = 12  # voxels of a small patient to each side of the targets' centre
TIMES = ("seconds", "peak_memory_mb")  # of a run record: what differs between two equal runs
BUSY = b"ray::_perform"


@dataclass(frozen=True)
class Settings:
    """How many cases."""

    cases: int = 1000
    """Cases for `data convert`: phantoms cut to a small block, each of them under many names."""
    predicted: int = 100
    """Cases for `predict`, by the model below and without dose mimicking."""
    phantoms: int = 8
    """So many different ones."""
    model: str = "compact-hn"
    """What predicts."""
    workers: int = 2
    """Processes, of the local engine and of the cluster."""
    kills: int = 2
    """Busy workers of Ray that are killed (SIGKILL), evenly over the run."""


@benchmark(
    "ray",
    settings=Settings,
    says="`data convert` of many small cases and `predict` of some, by local processes and by a Ray cluster "
    "of this machine of which busy workers are killed on the way: outputs, whether they are the same to the "
    "last bit, and the memory of the process that gives the work out.",
    has_page=True,
)
def measure(settings: Settings) -> Iterator[Row]:
    """A row a command and engine, then one that compares."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for command, many in (("data convert", settings.cases), ("predict", settings.predicted)):
            if not many:
                continue
            cohort, word = root / f"cohort of {command}", command.split()[-1]
            _cohort(cohort, many, settings.phantoms)
            outs = {}
            for engine, kills in (("local", 0), ("ray", settings.kills)):
                outs[engine] = root / f"{word} {engine}"
                line = _line(command, cohort, outs[engine], engine, settings)
                yield {"bench": "ray", "command": command, "engine": engine, "cases": many} | _run(
                    line, many, kills
                )
            yield {"bench": "ray", "outputs_of": command, **_apart(outs["local"], outs["ray"])}


def _cohort(folder: Path, many: int, phantoms: int) -> None:
    """`many` patients, of which every `phantoms`-th is the same files under another name."""
    for k in range(many):
        place = folder / f"p_{k:04d}"
        if k < phantoms:
            nifti.write_case(_small(k), place)
            continue
        for file in (folder / f"p_{k % phantoms:04d}").rglob("*"):
            target = place / file.relative_to(folder / f"p_{k % phantoms:04d}")
            if file.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, target)


def _small(seed: int) -> Case:
    case = make_phantom(seed)
    centre = np.argwhere(np.logical_or.reduce(list(case.targets.values()))).mean(axis=0).astype(int)
    z, y, x = (int(c) - MARGIN for c in centre)
    part = case.block((z, y, x), (2 * MARGIN, 2 * MARGIN, 2 * MARGIN))
    return replace(part, structures={name: mask for name, mask in part.structures.items() if mask.any()})


def _line(command: str, cohort: Path, out: Path, engine: str, settings: Settings) -> list[str]:
    line = [sys.executable, "-m", "anydose.cli", *command.split(), str(cohort)]
    if command == "predict":
        line += ["--out", str(out), "--model", settings.model]
        line += ["--looks", "1", "--no-mimic", "--device", "cpu"]
    else:
        line.append(str(out))
    return [*line, "--engine", engine, "--workers", str(settings.workers), "--json"]


def _run(line: Sequence[str], many: int, kills: int) -> Row:
    """A command, its busy workers killed on the way; its memory after a tenth of the cases and at the end."""
    states: dict[str, int] = {}
    memory: list[float] = []
    died = 0
    begin = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        for said in running.stdout or ():
            state = json.loads(said)["state"]
            states[state] = states.get(state, 0) + 1
            with suppress(OSError):  # it has ended
                memory.append(memory_mb(running.pid))
            if died < kills and len(memory) >= (died + 1) * many / (kills + 1):
                died += _kill_a_busy_one(running.pid)
    seconds = time.perf_counter() - begin
    tenth = memory[len(memory) // 10]
    return {
        **{state: states.get(state, 0) for state in ("written", "kept", "failed", "refused")},
        "workers_killed": died,
        "seconds": round(seconds, 1),
        "driver_mb_after_a_tenth": round(tenth, 1),
        "driver_mb_at_the_end": round(memory[-1], 1),
        "driver_mb_most": round(max(memory), 1),
    }


def _kill_a_busy_one(parent: int) -> int:
    """Kill one worker of Ray that is at work; 0 if none was found."""
    for pid in descendants(parent):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(BUSY):
                os.kill(pid, signal.SIGKILL)
                return 1
    return 0


def _apart(ours: Path, theirs: Path) -> Row:
    """Both folders' files by their bytes; of a run record all but its times."""
    first, second = _files(ours), _files(theirs)
    scraps = [name for name in second if any(part.startswith(".") for part in Path(name).parts)]
    return {
        "files_local": len(first),
        "files_ray": len(second),
        "the_same_bytes": sum(second.get(name) == digest for name, digest in first.items()),
        "left_over_scraps": len(scraps),
    }


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _record(path) if path.name == "run.json" else hash_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _record(path: Path) -> str:
    record = json.loads(path.read_text())
    return json.dumps({name: value for name, value in record.items() if name not in TIMES})
