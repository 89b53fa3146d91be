"""Reading and converting against other tools and against the clock: `anydose bench masks` and `convert`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume

Rows = list[dict[str, Any]]


def seconds(work: Callable[[], object], repeats: int = 3, warm: bool = True) -> float:
    """Median wall time of `work`, after one that does not count if `warm`."""
    if warm:
        work()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return float(np.median(found))


# Programs run by an interpreter that has the reader: imports, then CT, then RTSTRUCT to masks.
_READERS = {
    "anydose": """
from pathlib import Path
from anydose.io.dicom import ct as dicom_ct, files as dicom_files, struct as dicom_struct
opened = timer()
slices = [f for f in dicom_files.scan(Path(study)) if f.header.Modality == "CT"]
ct, _ = dicom_ct.read_ct(slices)
drawn = timer()
masks, _ = dicom_struct.masks(dicom_struct.read_rois(Path(study, "RTSTRUCT.dcm")), ct.grid)
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


def bench_masks(peers: Path = Path(".venv-peers"), turns: int = 3) -> Rows:
    """CT and RTSTRUCT (30 structures, 150 slices of 512 x 512) to masks: ours against rt-utils (here) and
    dcmrtstruct2nii (`make peers`), by turns, each in a process of its own; medians, and the Dice of their
    masks with ours. The slowest is run once."""
    python = {
        "anydose": sys.executable,
        "rt-utils": sys.executable,
        "dcmrtstruct2nii": peers / "bin" / "python",
    }
    runs: dict[str, Rows] = {name: [] for name in python}
    masks: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        clinic_study(Path(folder) / "study")
        for name in [*python, *[n for n in python if n != "dcmrtstruct2nii"] * (turns - 1)]:
            out = f"{folder}/{name}.npz"
            line = [str(python[name]), "-c", _TIMED.format(program=_READERS[name]), f"{folder}/study", out]
            result = subprocess.run(line, check=True, capture_output=True, text=True)
            runs[name].append(json.loads(result.stdout.splitlines()[-1]))
            with np.load(out) as arrays:
                masks[name] = {key: np.unpackbits(arrays[key]).astype(bool) for key in arrays}
    rows = []
    for name, found in runs.items():
        row = {key: round(float(np.median([one[key] for one in found])), 2) for key in found[0]}
        dice = {key: _dice(mask, masks[name][key]) for key, mask in masks["anydose"].items()}
        hollow = [value for key, value in dice.items() if key[1:].isdigit() and int(key[1:]) % 3 == 0]
        ours = rows[0] if rows else row
        rows.append(
            {
                "bench": "masks",
                "reader": name,
                "runs": len(found),
                **row,
                "masks_times_ours": round(row["masks_seconds"] / ours["masks_seconds"], 1),
                "masks_cpu_times_ours": round(row["masks_cpu_seconds"] / ours["masks_cpu_seconds"], 1),
                "dice_lowest": round(min(dice.values()), 4),
                "dice_median": round(float(np.median(list(dice.values()))), 4),
                "dice_lowest_hollow": round(min(hollow), 4),
            }
        )
    return rows


def _dice(a: Any, b: Any) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def bench_convert(cohort: Path) -> Rows:
    """`anydose data convert` of a whole dataset with two processes, killed with -9 after 10 s and run again:
    what was kept, how busy both workers were (running or waiting for a core), and the time to read a case
    back."""
    from anydose.io import store

    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "cohort"
        line = [sys.executable, "-m", "anydose.cli", "data", "convert", str(cohort), str(stored)]
        killed = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        time.sleep(10)
        killed.kill()
        killed.wait()
        time.sleep(3)
        before = {p.name: p.stat().st_mtime_ns for p in stored.glob("[!.]*/")}
        begin = time.perf_counter()
        again = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        busy: dict[int, float] = {}
        while again.poll() is None:
            busy |= _busy_seconds(again.pid)
            time.sleep(0.5)
        wall = time.perf_counter() - begin
        out = again.stdout.read().splitlines() if again.stdout else []
        names = store.names(stored)
        kept = sum((stored / n).stat().st_mtime_ns == stamp for n, stamp in before.items())
        reads = [seconds(lambda n=n: store.read_stored(stored / n), 1) * 1000 for n in names]
    shares = sorted((round(s / wall, 2) for s in busy.values()), reverse=True)[:2]
    return [
        {
            "bench": "convert",
            "cases": len(names),
            "refused": [line for line in out if ": refused" in line and line.count(":") > 1],
            "before_the_kill": len(before),
            "untouched_by_the_second_run": kept,
            "seconds_second_run": round(wall, 1),
            "busy_share_of_each_worker": shares,
            "read_back_ms_median": round(float(np.median(reads)), 1),
            "read_back_ms_95th": round(float(np.percentile(reads, 95)), 1),
        }
    ]


def _busy_seconds(parent: int) -> dict[int, float]:
    """Seconds that each child of a process ran or waited for a core (Linux: /proc/PID/schedstat)."""
    found = {}
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in children.read_text().split():
            run, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
            found[int(pid)] = (int(run) + int(waited)) / 1e9
    return found
