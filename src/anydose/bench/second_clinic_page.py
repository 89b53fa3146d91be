"""The rows of `anydose bench second-clinic` as a Markdown page and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.bench import averages, markdown
from anydose.bench.registry import Row
from anydose.score.statistics import Interval, bootstrap_seeds

FIGURES = {  # name in a row -> (heading, digits, whether lower is better)
    "mae_gy": ("MAE (Gy)", 2, True),
    "mae_5gy_gy": ("MAE above 5 Gy (Gy)", 2, True),
    "dvh_gy": ("DVH (Gy)", 2, True),
    "psnr_db": ("PSNR (dB)", 1, False),
    "ssim": ("SSIM", 3, False),
    "st_lpips": ("ST-LPIPS", 4, True),
}
COLOURS = {
    "as it is": "#999999",
    "lora": "#9467bd",
    "full": "#1f77b4",
    "scratch": "#444444",
    "scratch-levels": "#2ca02c",
    "regression": "#d62728",
}


def page(rows: Sequence[Row], says: Mapping[str, str], picture: str) -> str:
    """How the rows were made, the picture, the tables and what each arm is."""
    first, trained = rows[0], [row for row in rows if row["train_patients"]]
    seeds = sorted({row["seed"] for row in rows})
    examples = f"{trained[0]['steps']} steps, {trained[0]['examples']} examples" if trained else "nothing yet"
    devices = ", ".join(sorted({row["device"] for row in rows}))
    shared = f"; all with {', '.join(first['shared'])}" if first["shared"] else ""
    how = (
        f"Written by `anydose bench second-clinic`: {examples} for every training, seeds "
        f"{', '.join(map(str, seeds))}; {len(first['cases'])} held patients, one step, "
        f"one look, averaged weights, no dose mimicking; on {devices}{shared}."
    )
    voxels = f", on voxels of {' x '.join(map(str, first['spacing_mm']))} mm" if first["spacing_mm"] else ""
    what = (
        "The clinic is simulated: procedural male pelves (`anydose clinic`) with plans of seven fields, 60 "
        "and 48 Gy in 20 fractions, by the package's own rays, through DICOM and back. Its patients have "
        f"nothing in common with those that `{first['model']}` was trained on (head and neck, nine fields, "
        "70, 63 and 56 Gy in 35 fractions). Dose is learned and scored up to 25 mm above and below the "
        f"targets{voxels}. Each pelvic organ has a channel of its own, which starts at nothing in the model "
        "that is transferred."
    )
    notes = (
        "Means over seeds and held patients with 95 % intervals: both are drawn with replacement (two seeds "
        "say little of what a third would do). `against`: the paired difference in MAE, patient by patient "
        "and seed by seed, on the same training patients; below zero the arm is better. `DVH`: mean absolute "
        "error of D_0.1cc and mean dose of organs and D99, D95, D1 of targets. `MAE above 5 Gy`: where the "
        "plan exceeds 5 Gy."
    )
    shares = sorted({row["share"] for row in rows} - {1.0})
    earlier = "".join(
        f"## After {100 * share:.0f} % of the steps\n\nThe same trainings, the rate still high.\n\n"
        f"{table(rows, share)}\n"
        for share in shares
    )
    arms = "\n".join(f"- `{name}`: {says[name]}" for name in _arms(rows))
    return (
        f"# Second clinic\n\n{how}\n\n{what}\n\n![MAE against training patients]({picture})\n\n"
        f"{notes}\n\n"
        f"{table(rows, 1.0)}\n{earlier}## Arms\n\n{arms}\n"
    )


def table(rows: Sequence[Row], share: float) -> str:
    """One line a number of patients and arm, at one share of the steps."""
    names = [name for name in FIGURES if all(name in case for row in rows for case in row["cases"].values())]
    head = ["patients", "arm", "seeds", *(FIGURES[name][0] for name in names)]
    head += ["against scratch", "against regression", "minutes"]
    lines = []
    for size in sorted({row["train_patients"] for row in rows}):
        for arm in _arms(rows):
            group = _at(rows, arm, size, share)
            if not group:
                continue
            cells = [str(size), arm, str(len(group))]
            cells += [_cell(values_of(group, name), FIGURES[name][1]) for name in names]
            cells += [_gap(group, _at(rows, other, size, share)) for other in ("scratch", "regression")]
            timed = [row for row in group if "minutes" in row]
            cells.append(f"{averages.mean(timed, 'minutes'):.1f}" if timed else "")
            lines.append(cells)
    return markdown.table(head, lines) + "\n"


def draw(rows: Sequence[Row], path: Path) -> None:
    """MAE and DVH error at the end against the number of training patients, with 95 % intervals."""
    from matplotlib.figure import Figure

    sizes = sorted({row["train_patients"] for row in rows if row["train_patients"]})
    figure = Figure(figsize=(10, 4.2), layout="constrained", facecolor="white")
    for axes, name in zip(figure.subplots(1, 2), ("mae_gy", "dvh_gy"), strict=True):
        for arm in _arms(rows):
            still = _at(rows, arm, 0, 1.0)
            if still:
                level = bootstrap_seeds(values_of(still, name)).mean
                axes.axhline(level, color=COLOURS.get(arm, "black"), ls=":", label=arm)
            else:
                ends = [(size, group) for size in sizes if (group := _at(rows, arm, size, 1.0))]
                _line(axes, arm, {size: bootstrap_seeds(values_of(group, name)) for size, group in ends})
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("training patients of the second clinic", fontsize=9)
        axes.set_ylabel(f"{FIGURES[name][0]} on held patients, lower is better", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8)
    figure.savefig(path, dpi=130, format="png")


def _line(axes: Any, arm: str, at: Mapping[int, Interval]) -> None:
    """One arm's means with their intervals, by number of patients."""
    means = [interval.mean for interval in at.values()]
    below = [interval.mean - interval.low for interval in at.values()]
    above = [interval.high - interval.mean for interval in at.values()]
    colour = COLOURS.get(arm, "black")
    axes.errorbar(list(at), means, yerr=[below, above], color=colour, label=arm, marker="o", ms=4, capsize=2)


def values_of(group: Sequence[Row], name: str) -> NDArray[np.float64]:
    """One figure of a group of rows, one a seed: (seeds, patients)."""
    return np.array([[row["cases"][case][name] for case in sorted(row["cases"])] for row in group])


def _arms(rows: Sequence[Row]) -> list[str]:
    found = {row["arm"] for row in rows}
    return [name for name in COLOURS if name in found] + sorted(found - COLOURS.keys())


def _at(rows: Sequence[Row], arm: str, size: int, share: float) -> list[Row]:
    wanted = (arm, size, share)
    found = [row for row in rows if (row["arm"], row["train_patients"], row["share"]) == wanted]
    return sorted(found, key=lambda row: row["seed"])


def _cell(values: NDArray[np.float64], digits: int) -> str:
    found = bootstrap_seeds(values)
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _gap(group: Sequence[Row], others: Sequence[Row]) -> str:
    """The paired difference in MAE over the seeds that both have."""
    theirs = {row["seed"]: row for row in others}
    pairs = [(row, theirs[row["seed"]]) for row in group if row["seed"] in theirs]
    if not pairs or pairs[0][0]["arm"] == pairs[0][1]["arm"]:
        return ""
    ours, other = (values_of(each, "mae_gy") for each in zip(*pairs, strict=True))
    found = bootstrap_seeds(ours - other)
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
