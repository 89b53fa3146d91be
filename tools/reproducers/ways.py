"""What every reproducer stands on: their table, the command as a user runs it, and a patient to spoil."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

LIMIT_S = 400  # of a machine that others use too


@dataclass(frozen=True)
class Ran:
    """What a command did: exit code (None: still running after the limit), words, seconds, peak memory."""

    code: int | None
    out: str
    err: str
    seconds: float
    peak_mb: int

    def said(self) -> str:
        """Standard error on one line, or standard output where it said nothing."""
        return " ".join((self.err.strip() or self.out.strip()).split())

    def refused(self, *words: str) -> str:
        """The sentence of a refusal: exit code 2, one line, with each of `words` in it."""
        assert self.code == 2, f"exit code {self.code}: {self.said()[-300:]}"
        lines = [line for line in self.err.splitlines() if line.startswith("anydose: ")]
        assert len(lines) == 1 and "Traceback" not in self.err, f"no one sentence: {self.err[-300:]}"
        sentence = lines[0].removeprefix("anydose: ")
        missing = [word for word in words if word.lower() not in sentence.lower()]
        assert not missing, f"{missing} not said: {sentence}"
        return sentence

    def done(self) -> Ran:
        """Itself, of a command that went well."""
        assert self.code == 0, f"exit code {self.code}: {self.said()[-300:]}"
        return self


@dataclass(frozen=True)
class Places:
    """Patients and predictions, made once; each reproducer works in a folder of its own."""

    root: Path
    scratch: Path

    def copy(self, name: str) -> Path:
        """A copy of `okbp`, `dicom`, `nifti`, `planned` (DICOM with a dose), `other` (OpenKBP) to spoil."""
        return Path(shutil.copytree(self.root / name, self.scratch / name))


Reproducer = Callable[[Places], str]
TABLE: dict[str, tuple[str, Reproducer]] = {}


def reproducer(number: str, fault: str) -> Callable[[Reproducer], Reproducer]:
    """Add a function to the table. It tries the fault and returns what is seen today, or fails an assertion
    if the fault is still there. fault: what was seen on 24 November."""

    def add(function: Reproducer) -> Reproducer:
        TABLE[number] = fault, function
        return function

    return add


def anydose(*words: Any, limit_s: float = LIMIT_S, memory_gb: float | None = None, disk: int = 0) -> Ran:
    """Run the command. memory_gb: how much it may ask for; disk: bytes after which a file cannot grow."""

    def limited() -> None:
        if memory_gb is not None:
            resource.setrlimit(resource.RLIMIT_AS, (int(memory_gb * 2**30),) * 2)
        if disk:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))

    begin = time.monotonic()
    line = [sys.executable, "-m", "anydose.cli", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
    run = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=limited
    )
    peak, code = 0, None
    try:
        out, err = run.communicate(timeout=limit_s)
        code = run.returncode
    except subprocess.TimeoutExpired:
        run.kill()
        out, err = run.communicate()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return Ran(code, out, err, time.monotonic() - begin, peak)


def measured(*words: Any, limit_s: float = LIMIT_S) -> Ran:
    """The same by way of a process that has no other children, so that the peak memory is this command's and
    its seconds are those of the processor, which others at work do not lengthen."""
    line = [sys.executable, "-c", CHILD, *map(str, words)]
    run = subprocess.run(line, capture_output=True, text=True, timeout=limit_s, check=False)
    *err, used = run.stderr.splitlines()
    peak, seconds = used.split()
    return Ran(run.returncode, run.stdout, "\n".join(err), float(seconds), int(peak) // 1024)


CHILD = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "anydose.cli", *sys.argv[1:]]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stderr.write(f"\\n{used.ru_maxrss} {used.ru_utime + used.ru_stime}\\n")
sys.exit(code)
"""


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a DICOM file in place."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path, enforce_file_format=False)


def spoil(path: Path, count: int, seed: int = 0, begin: float = 0.2) -> None:
    """Flip `count` bytes of a file, none of them in its first part."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(int(begin * len(data)), len(data), count):
        data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def read(path: Path, **how: Any) -> Any:
    """A case, as the commands read it."""
    from anydose.io.read import read_case

    return read_case(path, **how)
