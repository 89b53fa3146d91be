"""One self-contained report.html of a dose: slices, DVH, scorecard, comparison, what was missing, provenance.

Volumes travel inside the file as gzipped bytes in base64 and are drawn by the page itself; nothing is
fetched, so the file opens from a disk or a mail. The interactive DVH is plotly.js, taken from the `plotly`
package (extra `report`). The page is assets/: report.html and report.css, slices.js and tables.js."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose import __version__
from anydose.case.case import Case, Mask
from anydose.case.grid import Grid
from anydose.case.volume import Volume, bounding_box
from anydose.score.binding import BoundScorecard
from anydose.score.compare import LABELS, Comparison
from anydose.score.dvh import dvh
from anydose.score.report.embed import content_security_policy, fill, script_json, shown
from anydose.score.scorecard import Item
from anydose.score.scoring import Score

PAGE = Path(__file__).parent / "assets"
SCRIPTS = ("slices.js", "tables.js")
MAX_BYTES = 8_000_000
VOXELS = (1_500_000, 800_000, 400_000, 200_000)  # tried in this order until the file is small enough
MARGIN_VOXELS = 4
MASKS = 31  # one bit each
CURVE_POINTS = 320
DOSE_STEP_GY = 0.01
TARGET_COLOURS = ("#ff2d2d", "#ff8c1a", "#ffd21a", "#ff66c4", "#c21aff")
OTHER_COLOURS = (
    "#4aa3ff", "#35d07f", "#b48cff", "#2ee6e6", "#c98b5e",
    "#9adf3c", "#ff9ecb", "#8fb3c9", "#d9c77a", "#6f8cff",
)  # fmt: skip
BODY_COLOUR = "#e8e8e8"


def write_report(
    path: Path,
    case: Case,
    dose: Volume,
    bound: BoundScorecard,
    result: Score,
    comparison: Comparison | None = None,
    provenance: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write the report of `dose` (Gy, on the case's grid) as one HTML file of at most 8 MB. The case's own
    dose is the reference where there is one. provenance: more lines for its table, name -> text; warnings:
    what makes the case unlike the model's training data, put before all other notes. ValueError for a dose in
    another unit or grid, and if the `plotly` package is not installed."""
    if not dose.grid.matches(case.grid):
        raise ValueError(f"{case.name}: a dose on the case's own grid is needed; resample it first")
    text = {
        "case": shown(case.name),
        "lines": _facts(case),
        "rx_max_gy": _top_level(case, dose),
        "levels_gy": sorted(set(case.prescription.levels_gy.values()), reverse=True),
        "score": {**result.to_json(), "curves": [_curve(item) for item in bound.card.items]},
        "comparison": None
        if comparison is None
        else {"figures": _labelled(comparison), "dvh": comparison.dvh},
        "dvh": _histograms(case, dose),
        "notes": [*warnings, *result.warnings, *(comparison.notes if comparison else ()), *case.inferred],
        "provenance": {**(provenance or {}), **_provenance(dose)},
    }
    for voxels in VOXELS:
        html = _page(text, _volumes(case, dose, voxels))
        if len(html) <= MAX_BYTES:
            path.write_bytes(html)
            return
    raise ValueError(f"{path}: the report of {case.name} does not fit into {MAX_BYTES // 10**6} MB")


def colours(case: Case) -> dict[str, str]:
    """One colour for every structure: warm ones for targets, the body light grey."""
    out: dict[str, str] = {}
    targets = sorted(case.targets, key=lambda n: -case.prescription.levels_gy[n])
    for number, name in enumerate(targets):
        out[name] = TARGET_COLOURS[number % len(TARGET_COLOURS)]
    bodies = case.of_role("body")
    for number, name in enumerate(n for n in case.structures if n not in out and n not in bodies):
        out[name] = OTHER_COLOURS[number % len(OTHER_COLOURS)]
    return out | dict.fromkeys(bodies, BODY_COLOUR)


def _facts(case: Case) -> list[list[str]]:
    levels = ", ".join(f"{shown(n)} {gy:g} Gy" for n, gy in sorted(case.prescription.levels_gy.items()))
    fractions = f" in {case.prescription.fractions} fractions" if case.prescription.fractions else ""
    x, y, z = case.grid.spacing_mm
    beams = ", ".join(f"{b.gantry_deg[0]:g}°" + ("…" if b.is_arc else "") for b in case.beams)
    return [
        ["Prescription", levels + fractions or "not stated"],
        ["Beams (gantry)", beams or "not stated"],
        ["Grid", f"{' × '.join(map(str, case.grid.shape[::-1]))} voxels of {x:.3g} × {y:.3g} × {z:.3g} mm"],
    ]


def _top_level(case: Case, dose: Volume) -> float:
    return case.rx_max_gy if case.prescription.levels_gy else float(dose.in_unit("Gy").max())


def _curve(item: Item) -> dict[str, Any]:
    points = [[p.x, p.score, p.variation, list(p.colors), p.label] for p in item.points]
    return {"points": points, "comment": item.comment, "rank": item.rank}


def _labelled(comparison: Comparison) -> dict[str, float]:
    return {LABELS.get(name, name): value for name, value in comparison.figures.items()}


def _histograms(case: Case, dose: Volume) -> dict[str, Any]:
    """Cumulative DVHs in percent of every structure, of the dose and of the case's own."""
    doses = {"dose": dose} | ({"reference": case.dose} if case.dose is not None else {})
    top = 1.04 * max(float(d.in_unit("Gy").max()) for d in doses.values())
    at_gy = np.linspace(0, top, CURVE_POINTS)
    shades = colours(case)
    curves = []
    for name in shades:
        if not case.structures[name].any():
            continue
        found = {key: dvh(d, case.structures[name], case.grid) for key, d in doses.items()}
        volume_cc = next(iter(found.values())).volume_cc
        lines = {key: np.round(h.curve(at_gy), 2).tolist() for key, h in found.items()}
        curves.append({"name": shown(name), "colour": shades[name], "cc": volume_cc, **lines})
    return {"gy": np.round(at_gy, 3).tolist(), "curves": curves}


def _provenance(dose: Volume) -> dict[str, str]:
    stored = np.ascontiguousarray(dose.in_unit("Gy").astype("<f4"))
    return {
        "dose SHA-256 (float32, z y x)": hashlib.sha256(stored.tobytes()).hexdigest(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "anydose": __version__,
        "python, numpy": f"{platform.python_version()}, {np.__version__}",
    }


def _volumes(case: Case, dose: Volume, voxels: int) -> dict[str, Any]:
    """What the page draws, on one grid along the patient's axes: its geometry and packed arrays."""
    grid = _shown_grid(case, voxels)
    packed = {"dose": _pack(_stored_dose(dose.resample(grid)))}
    if case.dose is not None:
        packed["reference"] = _pack(_stored_dose(case.dose.resample(grid)))
    if case.ct is not None:
        hu = case.ct.resample(grid, outside=-1000.0).array
        packed["ct"] = _pack(np.clip((hu + 1024) / 8, 0, 255).astype(np.uint8))
    names = [name for name in colours(case) if case.structures[name].any()][:MASKS]
    bits = np.zeros(grid.shape, dtype="<u4")
    for number, name in enumerate(names):
        bits |= _on(case.structures[name], case.grid, grid).astype(np.uint32) << np.uint32(number)
    packed["masks"] = _pack(bits)
    shades = colours(case)
    structures = [{"name": shown(n), "colour": shades[n], "target": n in case.targets} for n in names]
    return {
        "shape": grid.shape,
        "spacing_mm": grid.spacing_mm,
        "origin_mm": grid.origin_mm,
        "dose_step_gy": DOSE_STEP_GY,
        "structures": structures,
        "start": _start(case, grid),
        "packed": packed,
    }


def _shown_grid(case: Case, voxels: int) -> Grid:
    """The body's box along LPS axes, at the case's spacing or coarser so as to hold at most `voxels`."""
    body = case.body if case.body is not None else np.ones(case.grid.shape, dtype=bool)
    start, shape = bounding_box(body)
    low = np.array(start) - 0.5 - MARGIN_VOXELS
    high = np.array(start) + np.array(shape) - 0.5 + MARGIN_VOXELS
    ends = np.clip(np.stack([low, high]), -0.5, np.array(case.grid.shape) - 0.5)
    corners = case.grid.to_mm(
        [[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    )
    first, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    along = np.argmax(
        np.abs(np.asarray(case.grid.direction)), axis=1
    )  # index axis nearest to each patient axis
    spacing = np.asarray(case.grid.spacing_mm)[along]
    spacing = spacing * max(1.0, float((extent / spacing).prod() / voxels) ** (1 / 3))
    x, y, z = np.maximum(np.floor(extent / spacing + 1e-6), 1).astype(int)
    ox, oy, oz = first + spacing / 2
    return Grid((int(z), int(y), int(x)), (spacing[0], spacing[1], spacing[2]), (ox, oy, oz))


def _on(mask: Mask, source: Grid, grid: Grid) -> Mask:
    inside: Mask = Volume(mask.astype(np.float32), source, "1").resample(grid).array >= 0.5
    return inside


def _start(case: Case, grid: Grid) -> list[int]:
    """The slices shown first: through the centre of the highest target, else of the box."""
    centre = np.array(grid.shape) / 2
    if case.targets:
        highest = max(case.targets, key=lambda n: case.prescription.levels_gy[n])
        centre = grid.to_index(case.grid.to_mm(np.argwhere(case.targets[highest]).mean(axis=0)))
    return [int(v) for v in np.clip(np.rint(centre), 0, np.array(grid.shape) - 1)]


def _stored_dose(dose: Volume) -> NDArray[np.uint16]:
    return np.clip(np.rint(dose.in_unit("Gy") / DOSE_STEP_GY), 0, 65535).astype("<u2")


def _pack(array: NDArray[Any]) -> str:
    return base64.b64encode(gzip.compress(np.ascontiguousarray(array).tobytes(), 9, mtime=0)).decode()


def _plotly() -> bytes:
    """plotly.js of the installed plotly package."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ValueError("the report needs plotly: pip install plotly")
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()


def _page(text: Mapping[str, Any], volumes: Mapping[str, Any]) -> bytes:
    """The page as bytes: template, style, scripts and data put together in one pass."""
    script = "".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    plotly = _plotly()
    packed = {**volumes["packed"], "plotly": _pack(np.frombuffer(plotly, dtype=np.uint8))}
    rest = {key: value for key, value in volumes.items() if key != "packed"}
    parts = {
        "POLICY": content_security_policy([script, plotly.decode()]),
        "STYLE": (PAGE / "report.css").read_text(encoding="utf-8"),
        "DATA": script_json({**text, "volumes": rest}),
        "PACKED": "\n".join(_data_block(name, value) for name, value in packed.items()),
        "SCRIPT": script,
    }
    return fill((PAGE / "report.html").read_text(encoding="utf-8"), parts).encode()


def _data_block(name: str, packed: str) -> str:
    return f'<script type="text/plain" id="packed-{name}">{packed}</script>'
