"""Break the code on purpose, one line at a time, and see whether a test notices:

python tools/mutants.py [--log FILE] [--out docs/results/mutants.json] [case/]

Every mutant of tools/mutants.yaml changes one text of one file into another that is wrong. It is applied to
a copy of src, and the tests named beside it run against the copy. A mutant that all of them pass has
survived: a test is missing. A text that is not in its file exactly once is stale, and is an error too. What
is in the log is not run again unless its file, its tests or the mutant changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".yaml")
LOG = REPOSITORY / "runs" / "mutants.jsonl"
LIMIT_S = 300


@dataclass(frozen=True)
class Mutant:
    """One wrong change: in `file` (below src/anydose) `old` becomes `new`; `tests` should notice."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutants(listed: Path) -> list[Mutant]:
    """Every mutant of the list. A section names its file and tests; a mutant is 'old ==> new'."""
    found = []
    for section in yaml.safe_load(listed.read_text()):
        for line in section["mutants"]:
            old, new = line.split(" ==> ")
            found.append(Mutant(section["file"], old, new, tuple(section["tests"])))
    return found


def digest(mutant: Mutant) -> str:
    """Another one as soon as the mutant, its file or its tests are another."""
    words = [mutant.file, mutant.old, mutant.new]
    files = [REPOSITORY / "src" / "anydose" / mutant.file, *(REPOSITORY / test for test in mutant.tests)]
    texts = [path.read_bytes() for path in files if path.is_file()]
    return hashlib.sha256(b"\0".join([*(word.encode() for word in words), *texts])).hexdigest()


def is_stale(mutant: Mutant) -> bool:
    """Whether its text is not in its file exactly once."""
    path = REPOSITORY / "src" / "anydose" / mutant.file
    return not path.is_file() or path.read_text().count(mutant.old) != 1


def fate(mutant: Mutant) -> str:
    """'killed', 'survived' or 'stale'."""
    if is_stale(mutant):
        return "stale"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(shutil.copytree(REPOSITORY / "src", Path(folder) / "src"))
        path = source / "anydose" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
        try:
            run = subprocess.run(
                command, cwd=REPOSITORY, env=environment, capture_output=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return "killed"
    if run.returncode not in (0, 1):  # neither passed nor failed: the list is wrong, not the code
        raise SystemExit(f"{' '.join(command)}:\n{run.stdout.decode()[-2000:]}{run.stderr.decode()[-2000:]}")
    return "killed" if run.returncode else "survived"


def main() -> None:
    """Run the list, or what of it begins with ONLY; exit code 1 if one survived or is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="Only files that begin so, as case/.")
    parser.add_argument("--log", type=Path, default=LOG, help="Fates in it are kept.")
    parser.add_argument("--out", type=Path, help="Write the fates here, as JSON.")
    arguments = parser.parse_args()
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.log.read_text().splitlines() if arguments.log.is_file() else []
    kept = dict(json.loads(line) for line in lines)
    rows = []
    for mutant in (m for m in mutants(LIST) if m.file.startswith(arguments.only)):
        begin, key = time.monotonic(), digest(mutant)
        found = kept.get(key) or fate(mutant)
        if key not in kept and found != "stale":
            with arguments.log.open("a") as log:
                log.write(json.dumps([key, found]) + "\n")
        rows.append({**asdict(mutant), "fate": found})
        seconds = time.monotonic() - begin
        sys.stdout.write(f"{found:8} {seconds:5.1f} s  {mutant.file}: {mutant.old} ==> {mutant.new}\n")
        sys.stdout.flush()
    killed = sum(row["fate"] == "killed" for row in rows)
    sys.stdout.write(f"{killed} of {len(rows)} killed\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(killed < len(rows))


if __name__ == "__main__":
    main()
