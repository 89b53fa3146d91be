"""The scores as a picture, drawn from results files alone: one bar a row, beside what was published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anydose.bench import averages
from anydose.bench.registry import Row

SCORES = {"dose_score": "dose score (Gy)", "dvh_score": "DVH score (Gy)"}
NORMAL_95 = 1.96
ALMOST = 0.88  # of the axis: the number of a longer bar stands inside it
AXIS_END = 2.0  # times the median bar: a bar beyond ends there, with an arrow and its value


@dataclass(frozen=True)
class Anchor:
    """A published score of OpenKBP's 100 test patients, in Gy, and who says so."""

    name: str
    """Of the method."""
    dose_score: float
    """Mean absolute error of the dose."""
    dvh_score: float
    """Mean absolute error of the DVH metrics."""
    source: str
    """Who published it."""
    colour: str
    """Of its line."""


ANCHORS = (
    Anchor(
        name="challenge winner (ensemble)",
        dose_score=2.43,
        dvh_score=1.48,
        source="A. Babier et al., Medical Physics 48, 2021",
        colour="#d62728",
    ),
    Anchor(
        name="C3D (one network)",
        dose_score=2.46,
        dvh_score=1.46,
        source="S. Liu et al., README of their RTDosePrediction",
        colour="#ff7f0e",
    ),
    Anchor(
        name="U-Net with feature loss",
        dose_score=2.62,
        dvh_score=1.52,
        source="L. Zimmermann et al., Medical Physics 48, 2021",
        colour="#9467bd",
    ),
)
SHIPPED, BUDGET, ABLATION = "#1f77b4", "#9bb7d4", "#7f9f7f"


@dataclass(frozen=True)
class Bar:
    """One bar a score."""

    label: str
    """Whose scores."""
    values: dict[str, float]
    """By name of the score, in Gy."""
    whiskers: dict[str, float]
    """Half-widths by name of the score, in Gy; 0 for none."""
    colour: str
    """Of the bar."""


@dataclass(frozen=True)
class Panel:
    """One line of axes."""

    title: str
    """Whose scores."""
    note: str
    """What the whiskers are."""
    bars: tuple[Bar, ...]
    """From the top."""


def panels(files: Sequence[Path]) -> list[Panel]:
    """What is drawn of the files of `anydose evaluate --json` and of `anydose bench ablation`; ValueError for
    another file, or for evaluations of different patients, which share no axis."""
    scored: list[tuple[Row, list[Row]]] = []
    varied: list[Row] = []
    for path in files:
        rows = json.loads(path.read_text())
        heads = [row for row in rows if "dose_score" in row and "split" in row]
        variants = [row for row in rows if "variant" in row]
        if not heads and not variants:
            raise ValueError(f"{path}: a file of `anydose evaluate` or `anydose bench ablation` is needed")
        patients = [row for row in rows if "dose_error" in row]
        scored += [(head, patients) for head in heads]
        varied += variants
    whose = sorted({f"OpenKBP {head['split']}, {head['patients']} patients" for head, _ in scored})
    if len(whose) > 1:
        raise ValueError(f"{'; '.join(whose)}: scores of the same patients are needed")
    bars = [_evaluated(head, patients) for head, patients in scored]
    first = [Panel(title, "95 % over patients", _sorted(bars)) for title in whose]
    return [*first, *_varied(varied)]


def _sorted(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    return tuple(sorted(bars, key=lambda bar: bar.values["dose_score"]))


def _evaluated(head: Row, patients: Sequence[Row]) -> Bar:
    """The bar of one evaluation, with the interval over patients."""
    each = {
        "dose_score": [row["dose_error"] for row in patients],
        "dvh_score": [float(np.mean(list(row["dvh_errors"].values()))) for row in patients],
    }
    spread = {name: NORMAL_95 * averages.spread(values) / len(values) ** 0.5 for name, values in each.items()}
    steps, looks = head["steps"], head["looks"]
    label = f"{head['model']}\n{steps} step{'s' * (steps > 1)}, {looks} look{'s' * (looks > 1)}"
    label += "" if head["mimic"] else ", as predicted"
    colour = BUDGET if str(head["model"]).startswith("budget") else SHIPPED
    return Bar(label, {name: head[name] for name in SCORES}, spread, colour)


def _varied(rows: Sequence[Row]) -> list[Panel]:
    """A panel for every budget of the ablation: each variant's mean over seeds, sampled in one step."""
    found = []
    for budget in sorted({row["train_steps"] for row in rows}):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row["train_steps"] == budget and row["sampling_steps"] == 1:
                groups.setdefault(row["variant"], []).append(row)
        bars = [_variant(name, group) for name, group in groups.items()]
        patients = next(iter(groups.values()))[0]["patients"]
        title = f"Ablation, {budget} training steps each: OpenKBP validation, {patients} patients"
        found.append(Panel(title, "standard deviation over seeds", _sorted(bars)))
    return found


def _variant(name: str, group: Sequence[Row]) -> Bar:
    spread = {score: averages.spread(averages.column(group, score)) for score in SCORES}
    means = {score: averages.mean(group, score) for score in SCORES}
    label = f"{name} ({len(group)} seed{'s' * (len(group) > 1)})"
    return Bar(label, values=means, whiskers=spread, colour=ABLATION)


def draw(shown: Sequence[Panel], path: Path) -> None:
    """Draw the panels into `path` (.png, .pdf or .svg); published scores are lines, of the test patients."""
    from matplotlib.figure import Figure

    heights = [0.9 + 0.42 * len(panel.bars) for panel in shown]
    figure = Figure(figsize=(10, sum(heights) + 1.0), layout="constrained")
    grid = figure.add_gridspec(len(shown), 2, height_ratios=heights)
    for line, panel in enumerate(shown):
        left = figure.add_subplot(grid[line, 0])
        right = figure.add_subplot(grid[line, 1], sharey=left)
        right.tick_params(labelleft=False)
        for axes, score in ((left, "dose_score"), (right, "dvh_score")):
            _bars(axes, panel, score)
        left.set_title(f"{panel.title}\n(whiskers: {panel.note})", fontsize=9, loc="left")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    title = "published, on the 100 test patients (other patients than the bars')"
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, title=title, fontsize=8, title_fontsize=8
    )
    figure.savefig(path, dpi=130)


def _bars(axes: Any, panel: Panel, score: str) -> None:
    """The bars of one score, with lines for what was published."""
    published = [getattr(anchor, score) for anchor in ANCHORS]
    end = _axis_end([bar.values[score] for bar in panel.bars], published)
    for place, bar in enumerate(panel.bars):
        value, spread = bar.values[score], bar.whiskers[score]
        axes.barh(place, min(value, end), color=bar.colour, height=0.65)
        if spread and value + spread < end:
            axes.errorbar(value, place, xerr=spread, color="#333333", capsize=2, lw=1)
        text = f"{value:.2f} ▸" if value > end else f"{value:.2f}"
        if value > ALMOST * end:  # no room beside the bar
            axes.text(min(value, end) - 0.01 * end, place, text, ha="right", va="center", fontsize=8)
        else:
            axes.text(value + spread + 0.01 * end, place, text, ha="left", va="center", fontsize=8)
    for anchor, x, dashes in zip(ANCHORS, published, ("-", "--", ":"), strict=True):
        label = f"{anchor.name}: {anchor.dose_score:.2f} / {anchor.dvh_score:.2f} Gy"
        axes.axvline(x, color=anchor.colour, ls=dashes, lw=1.3, label=label)
    axes.set_yticks(range(len(panel.bars)), [bar.label for bar in panel.bars], fontsize=8)
    axes.set_ylim(len(panel.bars) - 0.4, -0.6)
    axes.set_xlim(0, end)
    axes.set_xlabel(f"{SCORES[score]}, lower is better", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _axis_end(values: Sequence[float], published: Sequence[float]) -> float:
    """Where the axis ends: beyond every published score, and no further than the bars need."""
    wanted = max(AXIS_END * float(np.median(values)), 1.1 * max(published))
    return min(wanted, 1.2 * max(*values, *published))
