"""S3 to S6, D1 to D3: folders that go out, cohort stores, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ways import Places, anydose, read, reproducer

QUICKLY = ("--looks", "1", "--no-mimic")


@reproducer("S3", "Killed in a used folder, predict leaves B's dose with A's record")
def killed_in_a_used_folder(places: Places) -> str:
    from anydose.io import run_folder

    out, states = places.scratch / "out", []
    anydose("predict", places.root / "other", "--out", out, *QUICKLY).done()
    for delay in (0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5):
        line = [sys.executable, "-m", "anydose.cli", "predict", places.root / "dicom", "--out", out, *QUICKLY]
        run = subprocess.Popen([*map(str, line), "--overwrite"], stdout=-3, stderr=-3)
        while run.poll() is None and not list(out.glob(".anydose-writing/dose*")):
            time.sleep(0.002)
        time.sleep(delay)
        if run.poll() is None:
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
        record = run_folder.read_record(out)
        assert record is not None, "no record"
        wrong = [said for said in run_folder.damage(out) if not said.startswith(".anydose")]
        assert not wrong, f"{record['case']}: {wrong}"
        states.append(record["case"])
    anydose("predict", places.root / "dicom", "--out", out, *QUICKLY, "--overwrite").done()
    assert run_folder.damage(out) == [], "scraps stay"
    return f"seven kills while files are written: each time one whole result ({', '.join(states)})"


@reproducer("S4a", "Files of another patient stay beside a finished prediction")
def stale_files(places: Places) -> str:
    out = places.scratch / "out"
    anydose("predict", places.root / "okbp", "--out", out, *QUICKLY, "--samples", 2).done()
    said = anydose("predict", places.root / "dicom", "--out", out, *QUICKLY).refused("--overwrite")
    anydose("predict", places.root / "dicom", "--out", out, *QUICKLY, "--overwrite").done()
    left = {path.name for path in out.iterdir()}
    record = json.loads((out / "run.json").read_text())
    assert left == {*record["outputs"], "run.json"}, f"left {left}"
    return f"{said}; with it, the folder holds the second alone"


@reproducer("S4b", "Two predicts at once into one folder: both exit 0, the files of both mixed")
def two_at_once(places: Places) -> str:
    out = places.scratch / "out"
    line = [sys.executable, "-m", "anydose.cli", "predict"]
    runs = [
        subprocess.Popen(
            [*line, str(places.root / case), "--out", str(out), *QUICKLY], stdout=-3, stderr=-1, text=True
        )
        for case in ("okbp", "dicom")
    ]
    said = [run.communicate()[1] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes == [0, 2], f"exit codes {codes}"
    return "one is written, the other: " + next(text for text in said if text.startswith("anydose: ")).strip()


@reproducer("S5", "data convert drops a patient: folders a:b and a?b become one")
def colliding_names(places: Places) -> str:
    source, store = places.scratch / "in", places.scratch / "store"
    for name in ("a:b", "a?b"):
        shutil.copytree(places.root / "okbp", source / name)
    anydose("data", "convert", source, store).done()
    from anydose.io.store import names

    found = names(store)
    assert len(found) == 2, f"the store holds {found}"
    return f"the store holds {' and '.join(found)}"


def store(places: Places) -> Path:
    """A store of one patient."""
    (places.scratch / "in").mkdir(exist_ok=True)
    shutil.copytree(places.root / "okbp", places.scratch / "in" / "case")
    anydose("data", "convert", places.scratch / "in", places.scratch / "store").done()
    return places.scratch / "store"


@reproducer("S6a", "A deleted chunk reads as 0 HU, a deleted zarr.json as 'no ct', altered bytes as they are")
def damaged_store(places: Places) -> str:
    whole, said = store(places), []
    changes: dict[str, Any] = {
        "chunk deleted": lambda case: (case / "ct" / "c" / "0" / "0" / "0").unlink(),
        "zarr.json of ct deleted": lambda case: (case / "ct" / "zarr.json").unlink(),
        "ct of other values": _other_values,
    }
    for what, change in changes.items():
        copy = Path(shutil.copytree(whole, places.scratch / what.replace(" ", "_")))
        change(copy / "case")
        out = places.scratch / f"out_{what}"
        said.append(f"{what}: {anydose('predict', copy / 'case', '--out', out).refused('ct')}")
    return "; ".join(said)


def _other_values(case: Path) -> None:
    """The CT as a codec without a checksum would give it after a bit flip."""
    import zarr

    array: Any = zarr.open_group(case, mode="a")["ct"]
    values = array[...]
    values[0, 0, 0] += 1
    array[...] = values


@reproducer("S6b", "A second convert keeps the damaged case")
def convert_again(places: Places) -> str:
    whole = store(places)
    (whole / "case" / "ct" / "c" / "0" / "0" / "0").unlink()
    run = anydose("data", "convert", places.scratch / "in", whole).done()
    assert "case: written" in run.out, run.out
    assert (read(whole / "case").ct.array == read(places.root / "okbp").block(
        *_block(whole / "case", places.root / "okbp")
    ).ct.array).all(), "not as the source"  # fmt: skip
    return "written anew, as in the source"


def _block(stored: Path, source: Path) -> Any:
    case, of = read(stored), read(source)
    start = of.grid.to_index(case.grid.origin_mm).round().astype(int)
    return tuple(int(v) for v in start), case.grid.shape


@reproducer("D1", "Disk full while report.html is written: a torn file, and the former one gone")
def full_disk_report(places: Places) -> str:
    page = places.scratch / "report.html"
    page.write_text("the former page")
    line = (
        "report",
        places.root / "planned" / "RTDOSE.dcm",
        "--case",
        places.root / "planned",
        "--out",
        page,
    )
    said = anydose(*line, disk=500_000).refused("too large")
    assert page.read_text() == "the former page", "the former page is gone"
    assert list(places.scratch.iterdir()) == [page], "scraps stay"
    return f"{said}; the former page is as it was"


@reproducer(
    "D2", "Training killed before its first save: --resume fails, a new start appends to the dead log"
)
def killed_training(places: Places) -> str:
    drawn, runs = places.scratch / "drawn", places.scratch / "runs"
    anydose("data", "convert", places.root / "okbp", places.scratch / "store").done()
    anydose("render", places.scratch / "store", drawn).done()
    words = (
        "model.backbone.widths=[8,16]",
        "model.backbone.down_blocks=[1,1]",
        "model.backbone.up_blocks=[1]",
    )
    changes = [f"data={drawn}", f"out={runs}", "name=killed", "steps=4", "save_every=4", *words]
    command = [sys.executable, "-m", "anydose.cli", "train", "hn-slabs", *changes, "--device", "cpu"]
    run = subprocess.Popen(command, stdout=-3, stderr=-1, text=True)
    log = runs / "killed" / "log.csv"
    while run.poll() is None and not (log.is_file() and log.read_text().count("\n") >= 3):
        time.sleep(0.002)
    assert run.poll() is None, f"it ended: {run.stderr and run.stderr.read()[-300:]}"
    run.kill()
    run.wait()
    said = anydose(*command[3:]).refused("--resume")
    anydose(*command[3:], "--resume").done()
    steps = [row.split(",")[0] for row in log.read_text().splitlines()[1:]]
    assert steps == ["1", "2", "3", "4"], f"rows {steps}"
    left = [p.name for p in log.parent.iterdir() if p.name.startswith(".")]
    assert left in ([], [".lock"]), left
    return f"{said}; with --resume its log holds the steps 1, 2, 3, 4"


@reproducer("D3", "Scratch files of killed runs are never removed")
def scratch_files(places: Places) -> str:
    page = places.scratch / "report.html"
    (places.scratch / ".999999.report.html").write_text("of a dead process")
    line = (
        "report",
        places.root / "planned" / "RTDOSE.dcm",
        "--case",
        places.root / "planned",
        "--out",
        page,
    )
    anydose(*line).done()
    assert [p.name for p in places.scratch.iterdir()] == ["report.html"], "it stays"
    return "removed at the next start (of predict: S3; of train: D2)"


@reproducer("D4", "write_scorecard and a saved LoRA folder are written in place (found since)")
def in_place(places: Places) -> str:
    """A scorecard and an adapter's settings written onto a disk that is full."""
    from anydose.score import scorecard
    from anydose.score.scorecard import TEMPLATES

    card = scorecard.read_scorecard(sorted(TEMPLATES.glob("*.json"))[0])
    path = places.scratch / "card.json"
    scorecard.write_scorecard(card, path)
    before = path.read_text()
    code = (
        "import resource, signal, sys; from pathlib import Path; from anydose.score import scorecard\n"
        "card = scorecard.read_scorecard(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99))\n"
        "scorecard.write_scorecard(card, Path(sys.argv[1]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    assert run.returncode != 0
    assert path.read_text() == before, "the former scorecard is gone"
    assert [p.name for p in places.scratch.iterdir()] == ["card.json"]
    return "the former file is as it was; an adapter's weights hold its settings, and others are refused"


@reproducer("place", "An --out that cannot be written to is found out after 5 s of work")
def bad_places(places: Places) -> str:
    (places.scratch / "file").write_text("x")
    said = []
    for place in (places.scratch / "file", Path("/proc/x"), places.root / "okbp" / "out"):
        run = anydose("predict", places.root / "okbp", "--out", place)
        said.append(f"{run.refused()} ({run.seconds:.1f} s)")
    return "; ".join(said)
