"""One self-contained report.html of a dose: slices, DVH with its table, hard limits, scorecard, comparison,
what was missing, provenance.

Volumes travel inside the file as gzipped bytes in base64 and are drawn by the page itself; nothing is
fetched, so the file opens from a disk or a mail. The interactive DVH is plotly.js, taken from the `plotly`
package. The page is assets/: report.html and report.css, planes.js, slices.js, tables.js."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from anydose import __version__
from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.score.binding import BoundScorecard
from anydose.score.compare import LABELS, Comparison
from anydose.score.dvh import structure_dvh
from anydose.score.report import palette
from anydose.score.report.dvh_table import COLUMNS, table
from anydose.score.report.embed import content_security_policy, fill, script_json, shown
from anydose.score.report.run_record import RunRecord
from anydose.score.report.volumes import pack, volumes
from anydose.score.scorecard import Item
from anydose.score.scoring import Score, score

PAGE = Path(__file__).parent / "assets"
SCRIPTS = ("planes.js", "slices.js", "tables.js", "dvh.js")
MAX_BYTES = 8_000_000
VOXELS = (1_500_000, 800_000, 400_000, 200_000)  # tried in this order until the file is small enough
CURVE_POINTS = 320
CAUTION = (
    "This dose stands above the delivered plan in the order of limits, coverage and points. That is no "
    "evidence of a better plan: a predicted dose need not be deliverable, and nobody has approved it."
)
MORE_POINTS = (
    "This dose has more points than the delivered plan, yet it stands below it: points do not make up for "
    "broken limits or for targets that are not covered."
)


@dataclass(frozen=True)
class Report:
    """What a page is made of."""

    case: Case
    """Its own dose is the reference where there is one."""
    dose: Volume
    """In Gy on the case's grid, not a number where it is unknown."""
    bound: BoundScorecard | None = None
    """The scorecard; None for a page without one."""
    result: Score | None = None
    """The dose's score with it."""
    comparison: Comparison | None = None
    """With the reference."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """More lines for its table, heading -> text."""
    warnings: Sequence[str] = ()
    """Put before all other notes."""
    record: RunRecord = field(default_factory=RunRecord)
    """What the prediction's own record says: model, options, inputs, structures, intervals."""


def write_report(path: Path, report: Report) -> None:
    """Write a report as one HTML file of at most 8 MB. ValueError for a dose in another unit or grid, and for
    a missing `plotly` package."""
    case, dose = report.case, report.dose
    if not dose.grid.matches(case.grid):
        raise ValueError(f"{case.name}: a dose on the case's own grid is needed; resample it first")
    write_data(path, report_data(report), case, dose)


def write_data(path: Path, data: Mapping[str, Any], case: Case, dose: Volume) -> None:
    """Write the report of a dose whose words and figures `report_data` has made. ValueError if it does not
    fit."""
    for voxels in VOXELS:
        html = _page(data, volumes(case, dose, voxels))
        if len(html) <= MAX_BYTES:
            path.write_bytes(html)
            return
    raise ValueError(f"{path}: the report of {case.name} does not fit into {MAX_BYTES // 10**6} MB")


def report_data(report: Report) -> dict[str, Any]:
    """What a report says in words and figures, as plain values: facts, DVH with its table and bands, score
    with limits, comparison, notes. Names are fit to be shown."""
    case, dose, record = report.case, report.dose, report.record
    bound, result, comparison = report.bound, report.result, report.comparison
    doses = {"dose": dose} | ({"reference": case.dose} if case.dose is not None else {})
    names = [name for name in palette.shades(case) if case.structures[name].any()]
    reference = score(bound, case.dose) if bound is not None and case.dose is not None else None
    said = [*record.warnings, *report.warnings, *_cautions(result, reference)]
    said += result.warnings if result is not None else ()
    said += comparison.notes if comparison is not None else ()
    said += case.inferred
    return {
        "case": shown(case.name),
        "lines": _facts(case),
        "rx_max_gy": _top_level(case, dose),
        "levels_gy": sorted(set(case.prescription.levels_gy.values()), reverse=True),
        "score": _score(bound, result),
        "reference_score": None if reference is None else _headline(reference),
        "headline": None if result is None else _headline(result),
        "comparison": None if comparison is None else _comparison(comparison),
        "dvh": _histograms(case, doses, names),
        "columns": COLUMNS,
        "table": [{**row, "name": shown(row["name"])} for row in table(case, doses, names)],
        "bands": [{**band, "structure": shown(band["structure"])} for band in record.bands],
        "mapping": [[shown(text) for text in row] for row in record.structures],
        "notes": list(dict.fromkeys(said)),
        "provenance": {**record.lines, **report.provenance, **_provenance(dose)},
    }


def _cautions(result: Score | None, reference: Score | None) -> list[str]:
    """A sentence where a predicted dose seems to beat the delivered plan."""
    if result is None or reference is None:
        return []
    if result.standing < reference.standing:
        return [CAUTION]
    return [MORE_POINTS] if result.percent > reference.percent else []


def _headline(of: Score) -> dict[str, Any]:
    """What stands at the head of the page: limits and coverage first, points after them."""
    kept = of.to_json()
    known = [row for row in of.targets if row.v95_percent is not None]
    lowest = min(known, key=lambda row: row.v95_percent or 0.0, default=None)
    return {
        "limits": kept["limit_counts"],
        "lowest": None if lowest is None else [shown(lowest.structure), lowest.v95_percent],
        "total": kept["total"],
        "maximum": kept["maximum"],
        "percent": kept["percent"],
        "withheld": kept["withheld"],
    }


def _score(bound: BoundScorecard | None, result: Score | None) -> dict[str, Any] | None:
    if bound is None or result is None:
        return None
    found = result.to_json()
    for row in found["items"]:
        row["structure"], row["matched"] = shown(row["structure"]), shown(row["matched"] or "")
    return {**found, "curves": [_curve(item) for item in bound.card.items]}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    figures = {LABELS.get(name, name): value for name, value in comparison.figures.items()}
    return {"figures": figures, "dvh": {shown(k, 96): pair for k, pair in comparison.dvh.items()}}


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
    return case.rx_max_gy if case.prescription.levels_gy else float(np.nanmax(dose.in_unit("Gy")))


def _curve(item: Item) -> dict[str, Any]:
    points = [[p.x, p.score, p.variation, list(p.colors), p.label] for p in item.points]
    return {"points": points, "comment": item.comment, "rank": item.rank}


def _histograms(case: Case, doses: Mapping[str, Volume], names: Sequence[str]) -> dict[str, Any]:
    """Cumulative DVHs in percent of every structure whose dose is known, of the dose and of the case's
    own."""
    top = 1.04 * max(float(np.nanmax(dose.in_unit("Gy"))) for dose in doses.values())
    at_gy = np.linspace(0, top, CURVE_POINTS)
    shades = palette.shades(case)
    curves = []
    for name in names:
        colour, dash = shades[name]
        curve = {"name": shown(name), "colour": colour, "dash": dash, "body": name in case.of_role("body")}
        for key, dose in doses.items():
            try:
                of = structure_dvh(case, dose, name)
            except ValueError:
                continue
            curve[key] = np.round(of.curve(at_gy), 2).tolist()
            curve["cc"] = of.volume_cc
        curves.append(curve)
    return {"gy": np.round(at_gy, 3).tolist(), "curves": curves}


def _provenance(dose: Volume) -> dict[str, str]:
    stored = np.ascontiguousarray(dose.in_unit("Gy").astype("<f4"))
    return {
        "dose SHA-256 (float32, z y x)": hashlib.sha256(stored.tobytes()).hexdigest(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "anydose": __version__,
        "python, numpy": f"{platform.python_version()}, {np.__version__}",
    }


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
    packed = {**volumes["packed"], "plotly": pack(np.frombuffer(plotly, dtype=np.uint8))}
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
