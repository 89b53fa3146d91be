"""What a patient holds, read in a process of its own: `python -m anydose.serve.survey PATH` prints JSON.

A file that breaks a reader, or needs all memory, ends that process and not the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LONGEST_S = 180
MEMORY_BYTES = 16_000_000_000


def survey(path: Path) -> dict[str, Any]:
    """Facts of the case at `path`, and a row for each structure with what it was taken for and proposals.
    Raises ValueError for what is not exactly one case."""
    from anydose.case.names import naming_table, naming_warnings
    from anydose.case.naming.propose import proposals
    from anydose.io.read import read_case

    case = read_case(path)
    kinds = {meaning.roi: meaning.kind for meaning in case.naming}
    rows = []
    for row in naming_table(case):
        is_open = row["role"] == "unknown"
        perhaps = list(proposals(row["roi"])) if is_open else []
        volume_cc = float(case.structures[row["roi"]].sum()) * case.grid.voxel_cc
        rows.append({**row, "type": kinds[row["roi"]], "perhaps": perhaps, "volume_cc": round(volume_cc, 2)})
    return {
        "case": case.name,
        "format": case.source.format,
        "shape": list(case.grid.shape),
        "spacing_mm": list(case.grid.spacing_mm),
        "has": {"ct": case.ct is not None, "dose": case.dose is not None, "body": case.body is not None},
        "levels_gy": dict(case.prescription.levels_gy),
        "beams": [list(beam.gantry_deg) for beam in case.beams],
        "structures": rows,
        "inferred": list(case.inferred),
        "warnings": list(naming_warnings(case)),
    }


def surveyed(path: Path) -> dict[str, Any]:
    """`survey` in a process of its own. Raises ValueError with that process's sentence."""
    command = [sys.executable, "-m", "anydose.serve.survey", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=LONGEST_S,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"not read within {LONGEST_S} s; a smaller study is accepted") from error
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode == 2 and said:
        raise ValueError(said[-1].replace(f"{path}: ", "").replace(str(path), path.name))
    raise ValueError("the files could not be read: the reader stopped; nothing was predicted")


def _main(path: str) -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        text = json.dumps(survey(Path(path)))
    except (ValueError, OSError, MemoryError, RecursionError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
