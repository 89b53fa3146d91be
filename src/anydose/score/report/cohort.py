"""One page of a cohort: its figures, how each is distributed, and the cases, the worst first."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from anydose.score.cohort_scores import Evaluation
from anydose.score.dvh_bands import AT_GY, Band, bands
from anydose.score.report.embed import shown as plain

BINS, WIDTH, HEIGHT = 16, 320, 90
BAND_HEIGHT = 180
FOOT = 18  # pixels below the curves, for the axis
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;"
    "color:CanvasText;background:Canvas;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #8886}"
    "th:first-child,td:first-child{text-align:left}div{overflow-x:auto}figure{display:inline-block;margin:1rem}"
    "rect{fill:#4477aa}.predicted-band{fill:#006abf;fill-opacity:.25}"
    ".predicted-median{stroke:#006abf}.reference-band{fill:#9aa4b0;fill-opacity:.3}"
    ".reference-median{stroke:currentColor;stroke-dasharray:5 3}path{stroke-width:1.5}"
    ".predicted-median,.reference-median{fill:none}text{font-size:11px;fill:currentColor}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def cohort_page(evaluation: Evaluation) -> str:
    """The page as HTML; nothing in it comes from elsewhere, and whatever is data is escaped."""
    model = escape(str(evaluation.about.get("model")))
    shown = [name for name in evaluation.names() if np.isfinite(evaluation.values(name)).any()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{model}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}</style><h1>{model} on {len(evaluation.cases)} cases</h1>"
        "<p>AI predictions for research, not for clinical use.</p>"
        f"<div>{_summary(evaluation, shown)}</div>"
        f"{_splits(evaluation, shown)}"
        f"{''.join(_distribution(name, evaluation.values(name)) for name in shown)}"
        f"{_bands(evaluation)}"
        f"<h2>Cases, the worst first</h2><div>{_cases(evaluation, shown)}</div>{_failed(evaluation)}</html>"
    )


def _summary(evaluation: Evaluation, shown: list[str]) -> str:
    found, rows = evaluation.summary(), []
    for name in ("dose_score", "dvh_score"):
        if name in found:
            rows.append(f"<tr><td>OpenKBP {escape(name)} (Gy)</td><td>{found[name]:.4f}</td><td></td></tr>")
    for name in shown:
        low, high = found[f"{name}_interval"]
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{found[name]:.4f}</td><td>{low:.4f} to {high:.4f}</td></tr>"
        )
    return f"<table><tr><th>figure</th><th>mean</th><th>95 % interval</th></tr>{''.join(rows)}</table>"


def _splits(evaluation: Evaluation, shown: list[str]) -> str:
    """The parts of a cross-validation side by side, with their mean and standard deviation."""
    parts = evaluation.splits()
    if not parts:
        return ""
    means = {name: [np.nanmean(part.values(figure)) for figure in shown] for name, part in parts.items()}
    rows = {f"{name} ({len(parts[name].cases)} cases)": values for name, values in means.items()}
    every = np.array(list(means.values()))
    rows["mean of the splits"] = list(every.mean(axis=0))
    if len(parts) > 1:
        rows["standard deviation over the splits"] = list(every.std(axis=0, ddof=1))
    lines = (
        f"<tr><td>{escape(plain(name))}</td>{''.join(f'<td>{value:.4f}</td>' for value in values)}</tr>"
        for name, values in rows.items()
    )
    heads = "".join(f"<th>{escape(name)}</th>" for name in shown)
    table = f"<table><tr><th>split</th>{heads}</tr>{''.join(lines)}</table>"
    return f"<h2>Cross-validation</h2><div>{table}</div>"


def _bands(evaluation: Evaluation) -> str:
    """DVH bands over the cases, a picture a structure."""
    found = bands(case.curves for case in evaluation.cases)
    if not found:
        return ""
    return (
        "<h2>Dose-volume histograms over the cases</h2><p>Median and the band from the 10th to the 90th "
        "percentile at every dose: predicted (solid, blue) and clinical (dashed, grey).</p>"
        f"{''.join(_band(band) for band in found)}"
    )


def _band(band: Band) -> str:
    """One structure's two bands with their medians, the reference behind."""
    curves = [*_curves("reference", band.reference), *_curves("predicted", band.predicted)]
    ticks = [
        _tick("0", 0, "start"),
        *(_tick(str(gy), gy, "middle") for gy in (20, 40, 60)),
        _tick("80 Gy", 80, "end"),
    ]
    caption = f"{escape(plain(band.structure))}, {band.cases} cases"
    return _figure("".join([*curves, *ticks]), BAND_HEIGHT + FOOT, caption)


def _curves(whose: str, quantiles: NDArray[np.float64]) -> list[str]:
    """The area between the lowest and the highest curve in percent (3, m), and the median."""
    low, middle, high = (BAND_HEIGHT * (1 - curve / 100) for curve in quantiles)
    across = AT_GY * (WIDTH / AT_GY[-1])
    outline = _path([*zip(across, high, strict=True), *zip(across[::-1], low[::-1], strict=True)])
    line = _path(list(zip(across, middle, strict=True)))
    return [f'<path class="{whose}-band" d="{outline}Z"/>', f'<path class="{whose}-median" d="{line}"/>']


def _tick(text: str, gy: float, anchor: str) -> str:
    x, y = gy * WIDTH / AT_GY[-1], BAND_HEIGHT + FOOT - 4
    return f'<text x="{x:.0f}" y="{y}" text-anchor="{anchor}">{text}</text>'


def _figure(drawn: str, height: int, caption: str) -> str:
    """A picture with its caption."""
    return (
        f'<figure><svg width="{WIDTH}" height="{height}" role="img" aria-label="{caption}">{drawn}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _distribution(name: str, values: list[float]) -> str:
    """A histogram as SVG."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    spread = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)  # equal values have a width too
    counts, edges = np.histogram(finite, BINS, range=(low, low + spread))
    wide, top = WIDTH / BINS, max(int(counts.max()), 1)
    bars = []
    for k, n in enumerate(counts):
        tall = HEIGHT * n / top
        place = f'x="{k * wide:.1f}" y="{HEIGHT - tall:.1f}"'
        bars.append(f'<rect {place} width="{wide - 1:.1f}" height="{tall:.1f}"/>')
    caption = f"{escape(name)}: {edges[0]:.3g} to {edges[-1]:.3g}, {len(finite)} cases"
    return _figure("".join(bars), HEIGHT, caption)


def _cases(evaluation: Evaluation, shown: list[str]) -> str:
    if not shown:
        return ""
    rows = []
    for case in evaluation.worst_first(shown[0]):
        cells = "".join(f"<td>{case.figures.get(name, math.nan):.3f}</td>" for name in shown)
        rows.append(f"<tr><td>{escape(case.case)}</td>{cells}</tr>")
    heads = "".join(f"<th>{escape(name)}</th>" for name in shown)
    return f"<table><tr><th>case</th>{heads}</tr>{''.join(rows)}</table>"


def _failed(evaluation: Evaluation) -> str:
    if not evaluation.failed:
        return ""
    rows = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in evaluation.failed.items())
    return f"<h2>Not evaluated</h2><ul>{rows}</ul>"
