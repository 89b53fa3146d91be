"""`anydose predict` of a study of a hospital's size: 300 slices of 512 x 512 pixels and 41 structures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anydose.bench.registry import Row, benchmark
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.io import run_folder
from anydose.io.dicom.write import write_study
from anydose.io.phantom import make_phantom

SEED = 7


@dataclass(frozen=True)
class Settings:
    """How large it is."""

    slices: int = 300
    """Slices of the CT."""
    pixels: int = 512
    """Rows and columns of a slice."""
    structures: int = 41
    """Structures: the phantom's, and ellipsoids beside them."""
    threads: int = 2
    """Threads that the command may use."""


@benchmark(
    "large-study",
    settings=Settings,
    says="`anydose predict` of the phantom as a DICOM study of 300 slices of 512 x 512 pixels with 41 "
    "structures: wall time, start of the process included, each stage's seconds, and peak memory.",
)
def measure(settings: Settings) -> Iterator[Row]:
    """One row."""
    with tempfile.TemporaryDirectory() as place:
        study, out = Path(place) / "study", Path(place) / "out"
        write_study(large_case(settings), study)
        line = [sys.executable, "-m", "anydose.cli", "predict", str(study), "--out", str(out)]
        begin = time.perf_counter()
        environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
        subprocess.run(line, check=True, capture_output=True, env=environment)
        wall = time.perf_counter() - begin
        run = run_folder.read_record(out)
    assert run is not None
    shape = f"{settings.slices} x {settings.pixels} x {settings.pixels}"
    row: Row = {"bench": "large-study", "voxels": shape, "structures": settings.structures}
    row |= {
        "wall_seconds": round(wall, 1),
        "peak_memory_mb": run["peak_memory_mb"],
        "threads": settings.threads,
    }
    yield row | {f"{stage}_seconds": round(value, 1) for stage, value in run["seconds"].items()}


def large_case(settings: Settings) -> Case:
    """The phantom on fine voxels, and ellipsoids of an organ's size within its body."""
    phantom = make_phantom(0)
    depth_mm, height_mm, width_mm = (
        count * mm for count, mm in zip(phantom.grid.shape, phantom.grid.spacing_mm[::-1], strict=True)
    )
    shape = (settings.slices, settings.pixels, settings.pixels)
    spacing_mm = (width_mm / shape[2], height_mm / shape[1], depth_mm / shape[0])
    case = phantom.on(Grid(shape, spacing_mm, phantom.grid.origin_mm, phantom.grid.direction))
    body, structures = case.body, dict(case.structures)
    assert body is not None
    inside, draw = np.argwhere(body[:: shape[0] // 10]), np.random.default_rng(SEED)
    for number in range(len(structures), settings.structures):
        middle = inside[draw.integers(len(inside))] * (shape[0] // 10, 1, 1)
        radii = draw.uniform(8.0, 40.0, 3) / spacing_mm[::-1]
        structures[f"Extra_{number}"] = _ellipsoid(shape, middle, radii) & body
    return replace(case, structures=structures, dose=None)


def _ellipsoid(shape: tuple[int, ...], middle: np.ndarray, radii: np.ndarray) -> np.ndarray:
    z, y, x = (
        ((np.arange(count, dtype=np.float32) - at) / radius) ** 2
        for count, at, radius in zip(shape, middle, radii, strict=True)
    )
    return np.asarray(z[:, None, None] + y[None, :, None] + x[None, None, :] <= 1)
