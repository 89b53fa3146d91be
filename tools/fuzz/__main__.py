"""Damaged inputs of every form but DICOM's (that is tests/io/test_fuzz.py), each judged against the truth:

python tools/fuzz [--seed s] [--count 3200] [--log FILE] [--out docs/results/fuzz-formats]

Input number k of a kind is made by random.Random(f"{seed}/{kind}/{k}"), so that each can be made again:
--only nifti --number 17. What is in the log is not run again: after a change of the product, delete it.
Every process is watched: an input that takes longer than three minutes is ended and counts as SLOW.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path.append(str(REPOSITORY / "tests" / "stand_ins"))

import patients  # noqa: E402, F401  (each import adds its kinds)
import places  # noqa: E402, F401
import plans  # noqa: E402, F401
import stores  # noqa: E402, F401
import texts  # noqa: E402, F401
from judge import BAD, BIG, GOOD, KINDS, MOST_MB, MOST_S, SLOW, judged  # noqa: E402

HANGS_S = 180.0
INPUTS_A_PROCESS = 200
HEADINGS = (
    "kind", "inputs", "refused in a sentence", "used, as the truth", "used, difference said", "bad",
    "slowest CPU s", "peak MB",
)  # fmt: skip


def numbers(kind: str, count: int) -> range:
    """The numbers of a kind's inputs, its share of `count`."""
    return range(round(count * KINDS[kind].share / sum(k.share for k in KINDS.values())))


def work(name: str, seed: str, wanted: list[int], log: Path | None) -> None:
    """In a process of its own: make, damage and judge inputs; one line of the log each."""
    import warnings

    warnings.simplefilter("ignore")
    kind = KINDS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        clean = Path(root) / "clean"
        clean.mkdir()
        truth = kind.make(clean)
        for number in wanted:
            rng = random.Random(f"{seed}/{name}/{number}")
            folder = Path(root) / f"{number}"
            shutil.copytree(clean, folder, symlinks=True)
            damage = rng.choice(kind.damages)
            row: dict[str, Any] = {"kind": name, "number": number, "damage": damage.__name__}
            row["what"] = damage(rng, folder)
            begin = time.process_time()  # of this process: others may use the machine
            state, said = judged(kind, folder, truth)
            seconds, peak = time.process_time() - begin, _peak_mb()
            if state in GOOD and (seconds > MOST_S or peak > MOST_MB):
                state = SLOW if seconds > MOST_S else BIG
            said = said.replace(str(folder), "").replace(str(root), "")
            row |= {"state": state, "said": said[:300], "seconds": round(seconds, 3), "peak_mb": peak}
            shutil.rmtree(folder, ignore_errors=True)
            line = json.dumps(row) + "\n"
            if log is None:
                sys.stdout.write(line)
            else:
                with log.open("a") as file:
                    file.write(line)


def _peak_mb() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def rows_of(log: Path) -> list[dict[str, Any]]:
    """The log so far, without a torn line."""
    found = []
    for line in log.read_text().splitlines() if log.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def drive(kind: str, seed: str, count: int, log: Path) -> None:
    """Run what the log lacks of a kind, in processes that are ended when one input hangs."""
    while True:
        done = {row["number"] for row in rows_of(log) if row["kind"] == kind}
        todo = [number for number in numbers(kind, count) if number not in done][:INPUTS_A_PROCESS]
        if not todo:
            return
        line = [sys.executable, str(Path(__file__).parent), "--seed", seed, "--log", str(log)]
        run = subprocess.Popen([*line, "--work", kind, "--numbers", ",".join(map(str, todo))])
        size, since = log.stat().st_size if log.is_file() else 0, time.monotonic()
        while run.poll() is None and time.monotonic() - since < HANGS_S:
            time.sleep(0.2)
            new = log.stat().st_size if log.is_file() else 0
            size, since = (new, time.monotonic()) if new != size else (size, since)
        if run.poll() is None or run.returncode:
            run.kill()
            run.wait()
            done = {row["number"] for row in rows_of(log) if row["kind"] == kind}
            number = next(number for number in todo if number not in done)
            state = SLOW if run.returncode == -9 else "TRACEBACK"
            row = {"kind": kind, "number": number, "damage": "?", "what": "?", "state": state}
            row |= {"said": f"the process ended with {run.returncode}", "seconds": HANGS_S, "peak_mb": 0}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")


def table(rows: list[dict[str, Any]], seed: str) -> str:
    """The result as Markdown."""
    count = Counter((row["kind"], row["state"]) for row in rows)
    bad = [row for row in rows if row["state"] in BAD]
    lines = [
        "# Damaged inputs of every form but DICOM's",
        "",
        f"`python tools/fuzz --seed {seed} --count {len(rows)}`: {len(rows):,} inputs. {len(bad)} were",
        "used wrongly without a word, ended without a sentence, or took more than 10 s or 2 GB. Each result",
        "was compared with the truth. DICOM's own are in `fuzz.json`.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{' --- |' * len(HEADINGS)}",
    ]
    for kind in KINDS:
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            good = [count[kind, state] for state in GOOD]
            wrong = sum(count[kind, state] for state in BAD)
            slowest, peak = max(row["seconds"] for row in mine), max(row["peak_mb"] for row in mine)
            cells = (kind, len(mine), *good, wrong, f"{slowest:.1f}", peak)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        "`tools/fuzz` says what is done to each kind. The seeds and every state are in `fuzz-formats.json`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all kinds, or the work of one process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default="formats")
    parser.add_argument("--count", type=int, default=3200)
    parser.add_argument("--only", default="", help="One kind.")
    parser.add_argument("--number", type=int, help="With --only: this input alone, printed.")
    parser.add_argument("--log", type=Path, help="Default: runs/fuzz-SEED.jsonl.")
    parser.add_argument("--out", type=Path, help="Write FILE.md and FILE.json.")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    parser.add_argument("--numbers", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.log is None:
        arguments.log = REPOSITORY / "runs" / f"fuzz-{arguments.seed}.jsonl"
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    if arguments.work:
        work(arguments.work, arguments.seed, [int(n) for n in arguments.numbers.split(",")], arguments.log)
        return
    if arguments.number is not None:
        work(arguments.only, arguments.seed, [arguments.number], None)
        return
    for kind in [arguments.only] if arguments.only else list(KINDS):
        drive(kind, arguments.seed, arguments.count, arguments.log)
    rows = rows_of(arguments.log)
    for row in rows:
        if row["state"] in BAD:
            sys.stdout.write(json.dumps(row) + "\n")
    text = table(rows, arguments.seed)
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.with_suffix(".md").write_text(text)
        arguments.out.with_suffix(".json").write_text(
            json.dumps(_summary(rows, arguments.seed), indent=1) + "\n"
        )
    sys.exit(any(row["state"] in BAD for row in rows))


def _summary(rows: list[dict[str, Any]], seed: str) -> dict[str, Any]:
    """Counts by damage and state, and the state of every input by its number."""
    by_damage = Counter(f"{row['kind']}/{row['damage']}: {row['state']}" for row in rows)
    states: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["kind"], row["number"])):
        states.setdefault(row["kind"], []).append(row["state"])
    bad = [row for row in rows if row["state"] in BAD]
    return {
        "seed": seed,
        "inputs": len(rows),
        "bad": bad,
        "by_damage": dict(sorted(by_damage.items())),
        "states": states,
    }


if __name__ == "__main__":
    main()
