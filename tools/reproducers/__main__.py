"""Every fault that the audit of 24 November found, tried again on this version:

python tools/reproducers [--log FILE] [--out docs/results/reproducers.md] [S1 T5 ...]

Each row runs the real command on a patient that it spoils first, and says what is seen now.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import doses  # noqa: F401  (each import adds its rows to the table)
import folders  # noqa: F401
import messages  # noqa: F401
import security  # noqa: F401
import structures  # noqa: F401
import tracebacks  # noqa: F401
from ways import TABLE, Places, anydose

HEAD = """# Faults of 24 November, tried again

Every reproducer of the audit of 24 November (version f921189), run on this version by
`python tools/reproducers --out docs/results/reproducers.md`. The third column is what that run saw.
{count} were run and {fixed} of them are fixed.

| | then | now | |
| --- | --- | --- | --- |
"""


def make(root: Path) -> None:
    """The patients that the reproducers spoil: two phantoms, and one of them with a predicted dose as if a
    clinic had planned it."""
    from dataclasses import replace

    from anydose.io import openkbp
    from anydose.io.dicom.write import write_study
    from anydose.io.phantom import write_phantom
    from anydose.predict import Options, predict

    case = write_phantom(0, root / "dicom", "dicom")
    write_phantom(1, root / "other", "openkbp")
    write_phantom(0, root / "nifti", "nifti")
    planned = replace(case, dose=predict(case, options=Options(looks=1)).dose, name="okbp")
    write_study(planned, root / "planned")
    openkbp.write_case(planned, root / "okbp")
    anydose("predict", root / "dicom", "--out", root / "prediction", "--looks", 1, "--no-mimic").done()


def main() -> None:
    """Run the table, or the rows that are named; exit code 1 if a fault is still there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="Rows, as S1; all without.")
    parser.add_argument("--log", type=Path, default=Path("reproducers.jsonl"), help="Rows in it are kept.")
    parser.add_argument("--out", type=Path, help="Write the table here, as Markdown.")
    arguments = parser.parse_args()
    todo = [number for number in arguments.only or TABLE if number not in _rows(arguments.log)]
    with tempfile.TemporaryDirectory(prefix="reproducers-") as place:
        root = Path(place)
        if todo:
            make(root)
        for number in todo:
            begin = time.monotonic()
            state, seen = _tried(number, root)
            sys.stdout.write(f"{number:3} {state} {time.monotonic() - begin:5.1f} s  {seen}\n")
            sys.stdout.flush()
            with arguments.log.open("a") as log:
                log.write(json.dumps([number, state, seen]) + "\n")
    rows = _rows(arguments.log)
    fixed = sum(state == "fixed" for state, _ in rows.values())
    if arguments.out:
        missing = ("not run", "")
        known = [(number, fault, *rows.get(number, missing)[::-1]) for number, (fault, _) in TABLE.items()]
        lines = [f"| {' | '.join(_cell(text) for text in row)} |" for row in known]
        arguments.out.write_text(HEAD.format(fixed=fixed, count=len(rows)) + "\n".join(lines) + "\n")
    sys.exit(fixed < len(rows))


def _tried(number: str, root: Path) -> tuple[str, str]:
    """(state, what is seen) of one row."""
    scratch = root / "work" / number
    scratch.mkdir(parents=True)
    try:
        state, seen = "fixed", TABLE[number][1](Places(root, scratch))
    except Exception as error:  # noqa: BLE001 - a row that fails must not hide the others
        plain = isinstance(error, AssertionError)
        state, seen = "NOT FIXED", str(error) if plain else f"{type(error).__name__}: {error}"
    return state, " ".join(seen.replace(f"{scratch}/", "").replace(f"{root}/", "").split())


def _rows(log: Path) -> dict[str, tuple[str, str]]:
    lines = log.read_text().splitlines() if log.is_file() else []
    return {number: (state, seen) for number, state, seen in map(json.loads, lines)}


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("<", "&lt;")[:600]


if __name__ == "__main__":
    main()
