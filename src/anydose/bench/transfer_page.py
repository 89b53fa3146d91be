"""The rows of `anydose bench transfer` as a Markdown table and as curves. Rows are those of transfer.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anydose.bench import averages, markdown
from anydose.bench.registry import Row

COLOURS = {
    "scratch": "#444444",
    "any2any": "#1f77b4",
    "ct": "#2ca02c",
    "physics": "#d62728",
    "both": "#9467bd",
    "scratch-longer": "#999999",
}
HEAD = (
    "patients",
    "prior",
    "seeds",
    "prior (min)",
    "dose training (min)",
    "dose (Gy) at 1/4",
    "at 1/2",
    "at the end",
    "against scratch",
    "DVH (Gy)",
)


def page(rows: Sequence[Row], says: Mapping[str, str], picture: str) -> str:
    """The Markdown page: how the rows were made, the picture, the table, and what each arm is."""
    first = rows[0]
    sizes = sorted({row["patients"] for row in rows})
    how = (
        f"Written by `anydose bench transfer`: {first['backbone']}, {first['fine_steps']} steps of dose "
        f"training for every arm after {first['prior_steps']} of its prior; {', '.join(map(str, sizes))} "
        f"validation patients, one step, one view, averaged weights"
    )
    shared = f"; all with {', '.join(first['shared'])}" if first["shared"] else ""
    notes = (
        "Errors are means over patients, ± the standard deviation over seeds. `against scratch`: the paired "
        "difference at equal steps of dose training, ± its standard error over patients (means over seeds). "
        "Minutes are of computing, without scoring."
    )
    arms = "\n".join(f"- `{name}`: {says[name]}" for name in _arms(rows))
    return f"# Transfer\n\n{how}{shared}.\n\n![curves]({picture})\n\n{notes}\n\n{table(rows)}\n{arms}\n"


def table(rows: Sequence[Row]) -> str:
    """One line a number of patients and arm."""
    lines = []
    for size in _sizes(rows):
        reference = _at(rows, "scratch", size, 1.0)
        for arm in _arms(rows):
            points = [_at(rows, arm, size, share) for share in (0.25, 0.5, 1.0)]
            known = [group for group in points if group]
            if not known:
                continue
            last = points[-1]
            cells = [str(size), arm, str(len(last)), f"{averages.mean(known[-1], 'prior_minutes'):.1f}"]
            cells.append(f"{averages.mean(last, 'minutes'):.1f}" if last else "")
            cells += [averages.with_spread(group, "dose_score") for group in points]
            cells.append("" if arm == "scratch" else _gap(last, reference))
            cells.append(averages.with_spread(last, "dvh_score"))
            lines.append(cells)
    return markdown.table(HEAD, lines) + "\n"


def draw(rows: Sequence[Row], says: Mapping[str, str], path: Path) -> None:
    """Error against the number of patients, and against minutes on the most and on the fewest patients; a
    hollow mark is the same end with the prior's minutes counted."""
    from matplotlib.figure import Figure

    sizes = _sizes(rows)
    ends = sorted({sizes[0], sizes[-1]}, reverse=True)
    figure = Figure(figsize=(5 * (1 + len(ends)), 5.2), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 1 + len(ends))
    _against_patients(panels[0], rows, sizes)
    for axes, size in zip(panels[1:], ends, strict=True):
        _against_minutes(axes, rows, size)
    for axes in panels:
        axes.set_ylabel("dose error on validation patients (Gy), lower is better", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    labels = [f"{name}: {says[name]}" for name in named]
    figure.legend(list(named.values()), labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=130)


def _against_patients(axes: Any, rows: Sequence[Row], sizes: Sequence[int]) -> None:
    for arm in _arms(rows):
        ends = [(size, group) for size in sizes if (group := _at(rows, arm, size, 1.0))]
        if ends:
            y, spread = zip(*(_mean_and_spread(group, "dose_score") for _, group in ends), strict=True)
            _line(axes, arm, x=[size for size, _ in ends], y=y, spread=spread)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training patients", fontsize=9)
    axes.set_title("at the end of dose training\n(whiskers: over seeds)", fontsize=9, loc="left")


def _against_minutes(axes: Any, rows: Sequence[Row], size: int) -> None:
    for arm in _arms(rows):
        curve = _curve(rows, arm, size)
        if not curve:
            continue
        x = [averages.mean(group, "minutes") for group in curve]
        y, spread = zip(*(_mean_and_spread(group, "dose_score") for group in curve), strict=True)
        _line(axes, arm, x=x, y=y, spread=spread)
        prior = averages.mean(curve[-1], "prior_minutes")
        if prior:
            colour = COLOURS.get(arm, "black")
            axes.plot([x[-1], x[-1] + prior], [y[-1], y[-1]], ":", color=colour, lw=1)
            axes.plot(x[-1] + prior, y[-1], "o", mfc="none", color=colour)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of dose training (hollow: with the prior's)", fontsize=9)
    axes.set_title(f"{size} training patients", fontsize=9, loc="left")


def _line(axes: Any, arm: str, x: Sequence[float], y: Sequence[float], spread: Sequence[float]) -> None:
    style = "--" if arm == "scratch-longer" else "-"
    colour = COLOURS.get(arm, "black")
    axes.errorbar(x, y, yerr=spread, label=arm, color=colour, ls=style, marker="o", ms=4, lw=1.5, capsize=2)


def _arms(rows: Iterable[Row]) -> list[str]:
    found = {row["arm"] for row in rows}
    return [name for name in COLOURS if name in found] + sorted(found - COLOURS.keys())


def _sizes(rows: Iterable[Row]) -> list[int]:
    return sorted({row["train_patients"] for row in rows})


def _curve(rows: Iterable[Row], arm: str, size: int) -> list[list[Row]]:
    """The rows of an arm on so many patients, by the step they were scored at: one a seed."""
    shares = sorted({row["share"] for row in rows})
    groups = [_at(rows, arm, size, share) for share in shares]
    return [group for group in groups if group]


def _at(rows: Iterable[Row], arm: str, size: int, share: float) -> list[Row]:
    """The rows of an arm on so many patients at one share of its steps: one a seed."""
    wanted = (arm, size, share)
    return [row for row in rows if (row["arm"], row["train_patients"], row["share"]) == wanted]


def _gap(group: Sequence[Row], reference: Sequence[Row]) -> str:
    """Mean paired difference over patients, over the seeds that both have, and its standard error."""
    theirs = {row["seed"]: row["dose_errors"] for row in reference}
    pairs = [(row["dose_errors"], theirs[row["seed"]]) for row in group if row["seed"] in theirs]
    if not pairs:
        return ""
    gaps = np.mean([_differences(ours, other) for ours, other in pairs], axis=0)
    error = f" ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.2f}" if len(gaps) > 1 else ""
    return f"{gaps.mean():+.2f}{error}"


def _differences(ours: dict[str, float], other: dict[str, float]) -> list[float]:
    return [ours[name] - other[name] for name in other]


def _mean_and_spread(group: Sequence[Row], name: str) -> tuple[float, float]:
    return averages.mean(group, name), averages.spread(averages.column(group, name))
