"""One page of a cohort: its figures, how each is distributed, and the cases, the worst first."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from anydose.score.cohort_scores import Evaluation

BINS, WIDTH, HEIGHT = 16, 320, 90
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;"
    "color:CanvasText;background:Canvas;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #8886}"
    "th:first-child,td:first-child{text-align:left}div{overflow-x:auto}figure{display:inline-block;margin:1rem}"
    "rect{fill:#4477aa}"
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
        f"{''.join(_distribution(name, evaluation.values(name)) for name in shown)}"
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
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return (
        f'<figure><svg {size} role="img" aria-label="{caption}">{"".join(bars)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


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
