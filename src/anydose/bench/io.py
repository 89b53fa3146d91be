"""Reading and converting against other tools and against the clock: `anydose bench masks` and `convert`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anydose.bench import averages
from anydose.bench.clock import median_seconds
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, Rows, benchmark
from anydose.bench.watch import killed, shares, watched
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io import store

# Programs run by an interpreter that has the reader: imports, then CT, then RTSTRUCT to masks.
_READERS = {
    "anydose": """
from pathlib import Path
from anydose.io.dicom import ct as ct_reader, files, struct
opened = timer()
slices = [f for f in files.scan(Path(study)) if f.header.Modality == "CT"]
ct, _ = ct_reader.read_ct(slices)
drawn = timer()
masks, _ = struct.masks(struct.read_rois(Path(study, "RTSTRUCT.dcm")), ct.grid)
""",
    "rt-utils": """
from rt_utils import RTStructBuilder
from rt_utils.image_helper import load_sorted_image_series
from rt_utils.rtstruct import RTStruct
from pydicom import dcmread
opened = timer()
series = load_sorted_image_series(study + "/CT")
drawn = timer()
built = RTStruct(series, dcmread(study + "/RTSTRUCT.dcm"))
masks = {name: built.get_roi_mask_by_name(name).transpose(2, 0, 1) for name in built.get_roi_names()}
""",
    "dcmrtstruct2nii": """
import SimpleITK
from dcmrtstruct2nii.adapters.convert.rtstructcontour2mask import DcmPatientCoords2Mask
from dcmrtstruct2nii.adapters.input.contours.rtstructinputadapter import RtStructInputAdapter
from dcmrtstruct2nii.adapters.input.image.dcminputadapter import DcmInputAdapter
opened = timer()
image = DcmInputAdapter().ingest(study + "/CT")
drawn = timer()
masks = {}
for roi in RtStructInputAdapter().ingest(study + "/RTSTRUCT.dcm"):
    mask = DcmPatientCoords2Mask().convert(roi["sequence"], image, 0, 1)
    masks[roi["name"]] = SimpleITK.GetArrayFromImage(mask).astype(bool)
""",
}
_TIMED = """
import json, sys, time
import numpy as np
study, out = sys.argv[1:]
def timer():
    return np.array([time.perf_counter(), time.process_time()])
{program}
(image, image_cpu), (mask, mask_cpu) = drawn - opened, timer() - drawn
memory = [int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
np.savez(out, **{{name: np.packbits(mask) for name, mask in masks.items()}})
row = {{"ct_seconds": image, "masks_seconds": mask, "masks_cpu_seconds": mask_cpu, "peak_memory_mb": memory}}
print(json.dumps(row))
"""


def clinic_study(folder: Path, structures: int = 30, shape: tuple[int, int, int] = (150, 512, 512)) -> None:
    """Write a DICOM study of a clinic's size: ellipsoids, every third one hollow, in a body of water."""
    from anydose.io.dicom.write import write_study

    grid = Grid(shape, (0.977, 0.977, 3.0), (-250.0, -250.0, -225.0))
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    draw = np.random.default_rng(7)
    masks = {"External": _ellipsoid((z, y, x), (0, 0, 0), (1.2, 0.6, 0.85))}
    for k in range(1, structures):
        middle, radius = draw.uniform(-0.4, 0.4, 3), draw.uniform(0.05, 0.25, 3)
        mask = _ellipsoid((z, y, x), middle, radius)
        masks[f"S{k:02d}"] = mask & ~_ellipsoid((z, y, x), middle, radius * 0.6) if k % 3 == 0 else mask
    ct = Volume(np.where(masks["External"], 20, -1000).astype(np.float32), grid, "HU")
    write_study(Case("clinic", grid, masks, ct=ct), folder)


def _ellipsoid(axes: tuple[Any, Any, Any], middle: Any, radius: Any) -> Any:
    z, y, x = (((a - m) / r) ** 2 for a, m, r in zip(axes, middle, radius, strict=True))
    return (z[:, None, None] + y[None, :, None] + x[None, None, :]) <= 1


@dataclass(frozen=True)
class MasksSettings:
    """Where the other tools are."""

    peers: Path = Path(".venv-peers")
    """The environment that `make peers` makes."""
    turns: int = 3
    """How often each reader runs; the slowest runs once."""


SLOWEST = "dcmrtstruct2nii"


@benchmark(
    "masks",
    settings=MasksSettings,
    says="CT and RTSTRUCT (30 structures, 150 slices of 512 x 512) to masks, against rt-utils and "
    "dcmrtstruct2nii, with the Dice of their masks.",
)
def measure_masks(settings: MasksSettings) -> Rows:
    """A row a reader: medians of its turns, each in a process of its own, and the Dice of its masks with
    ours."""
    ours = sys.executable
    python = {"anydose": ours, "rt-utils": ours, SLOWEST: str(settings.peers / "bin" / "python")}
    runs: dict[str, Rows] = {name: [] for name in python}
    masks: dict[str, Any] = {}
    quick = [name for name in python if name != SLOWEST]
    with tempfile.TemporaryDirectory() as folder:
        clinic_study(Path(folder) / "study")
        for name in [*python, *quick * (settings.turns - 1)]:
            row, masks[name] = _run_reader(python[name], name, Path(folder))
            runs[name].append(row)
    medians = {name: _medians(rows) for name, rows in runs.items()}
    return [_reader_row(name, len(runs[name]), medians, masks) for name in runs]


def _run_reader(python: str, name: str, folder: Path) -> tuple[Row, dict[str, Any]]:
    """What one run of a reader took, and its masks."""
    out = folder / f"{name}.npz"
    line = [python, "-c", _TIMED.format(program=_READERS[name]), str(folder / "study"), str(out)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    with np.load(out) as arrays:
        masks = {key: np.unpackbits(arrays[key]).astype(bool) for key in arrays}
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row, masks


def _medians(rows: Rows) -> Row:
    return {key: round(averages.median(rows, key), 2) for key in rows[0]}


def _reader_row(name: str, runs: int, medians: dict[str, Row], masks: dict[str, Any]) -> Row:
    row, ours = medians[name], medians["anydose"]
    dice = {key: _dice(mask, masks[name][key]) for key, mask in masks["anydose"].items()}
    hollow = [value for key, value in dice.items() if key[1:].isdigit() and int(key[1:]) % 3 == 0]
    return {
        "bench": "masks",
        "reader": name,
        "runs": runs,
        **row,
        "masks_times_ours": round(row["masks_seconds"] / ours["masks_seconds"], 1),
        "masks_cpu_times_ours": round(row["masks_cpu_seconds"] / ours["masks_cpu_seconds"], 1),
        "dice_lowest": round(min(dice.values()), 4),
        "dice_median": round(float(np.median(list(dice.values()))), 4),
        "dice_lowest_hollow": round(min(hollow), 4),
    }


def _dice(a: Any, b: Any) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


KILLED_AFTER_S = 10


@benchmark(
    "convert",
    settings=Patients,
    says="`anydose data convert` of a whole dataset by two processes, killed after 10 s and run again: what "
    "was kept, how busy both workers were, and the time to read a case back.",
)
def measure_convert(settings: Patients) -> Rows:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "cohort"
        line = [sys.executable, "-m", "anydose.cli", "data", "convert", str(settings.cohort), str(stored)]
        started = time.perf_counter()
        killed(line, lambda: time.perf_counter() - started > KILLED_AFTER_S)
        before = {place.name: place.stat().st_mtime_ns for place in stored.glob("[!.]*/")}
        said, busy, wall = watched(line)
        names = store.names(stored)
        kept = sum((stored / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
        reads_ms = [1000 * _reading_seconds(stored / name) for name in names]
    return [
        {
            "bench": "convert",
            "cases": len(names),
            "refused": [line for line in said if ": refused" in line],
            "before_the_kill": len(before),
            "untouched_by_the_second_run": kept,
            "seconds_second_run": round(wall, 1),
            "busy_share_of_each_worker": shares(busy, wall, 2),
            "read_back_ms_median": round(float(np.median(reads_ms)), 1),
            "read_back_ms_95th": round(float(np.percentile(reads_ms, 95)), 1),
        }
    ]


def _reading_seconds(place: Path) -> float:
    return median_seconds(lambda: store.read_stored(place), repeats=1)
