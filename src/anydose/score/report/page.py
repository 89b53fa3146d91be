"""One page of a dose: axial, coronal and sagittal dose wash with target outlines, and the DVH."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case, Mask
from anydose.case.volume import Volume, bounding_box
from anydose.score.dvh import dvh
from anydose.score.report.embed import figure_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_WARNINGS = 4
LONGEST_TITLE = 160
WASH_FROM = 0.1  # of the reference dose: below it the wash is transparent
SOFT_TISSUE_HU = (-200.0, 300.0)
COLOURS = (
    "#d62728", "#ff7f0e", "#e6c700", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#e377c2",
    "#7f7f7f",
)  # fmt: skip


def write_page(
    case: Case,
    dose: Volume,
    path: Path,
    title: str,
    warnings: Sequence[str] = (),
    bands: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of a dose in Gy on the case's grid. Radiological convention: the patient's right is on
    the left of axial and coronal slices, superior is up. The case's own dose, if any, is the dashed DVH.
    warnings: sentences on what makes the case unusual; bands: rows of calibration.bands, shaded at 80 %. The
    format is that of the suffix (.png, .pdf)."""
    draw_page(case, dose, title, warnings, bands).savefig(path, dpi=110)


def draw_page(
    case: Case,
    dose: Volume,
    title: str,
    warnings: Sequence[str] = (),
    bands: Sequence[Mapping[str, Any]] = (),
) -> Figure:
    """The page of `write_page` as a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.2), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 0.95))
    target = np.logical_or.reduce(list(case.targets.values())) if case.targets else case.body
    assert target is not None
    centre = np.rint(np.argwhere(target).mean(axis=0)).astype(int)
    washes = [
        _slice(figure.add_subplot(grid[0, axis]), case, dose, axis, int(centre[axis]), name)
        for axis, name in enumerate(("axial", "coronal", "sagittal"))
    ]
    figure.colorbar(washes[0], ax=figure.axes[:3], label="dose (Gy)", shrink=0.9)
    _histogram(figure.add_subplot(grid[1, :]), case, dose, bands)
    said = figure_text(title, LONGEST_TITLE)
    figure.suptitle(f"{said}\nAI prediction for research, not for clinical use", fontsize=11)
    if warnings:
        lines = [textwrap.shorten(w, 190).replace("$", r"\$") for w in warnings[:SHOWN_WARNINGS]]
        more = len(warnings) - SHOWN_WARNINGS
        lines += [f"and {more} more in run.json"] if more > 0 else []
        figure.supxlabel("\n".join(lines), fontsize=9, color="#b00000", x=0.01, ha="left")
    return figure


def _slice(axes: Any, case: Case, dose: Volume, axis: int, index: int, name: str) -> Any:
    """Draw one slice; returns the dose image."""
    shown = [upright(a, axis, index) for a in (anatomy(case), dose.in_unit("Gy"))]
    z, y, x = case.grid.spacing_zyx_mm
    aspect = {0: y / x, 1: z / x, 2: z / y}[axis]
    low, high = SOFT_TISSUE_HU
    axes.imshow(shown[0], cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    top = 1.1 * case.rx_max_gy
    floor = WASH_FROM * case.rx_max_gy
    wash = axes.imshow(
        np.ma.masked_less(shown[1], floor), cmap="jet", vmin=0, vmax=top, alpha=0.5, aspect=aspect
    )
    for colour, (_, mask) in zip(COLOURS, sorted(_targets(case).items(), reverse=True), strict=False):
        cut = upright(mask, axis, index)
        if cut.any():
            axes.contour(cut.astype(float), levels=[0.5], colors=[colour], linewidths=1.2)
    frame(axes, case, axis, index, name)
    return wash


def frame(axes: Any, case: Case, axis: int, index: int, name: str) -> None:
    """Zoom to the body, name the slice and mark the sides."""
    if case.body is not None:
        start, shape = bounding_box(case.body)
        low, high = np.array(start) - 2, np.array(start) + np.array(shape) + 2
        rows, columns = {0: (1, 2), 1: (0, 2), 2: (0, 1)}[axis]
        vertical = (high[rows], low[rows])
        if axis:
            vertical = (case.grid.shape[0] - 1 - low[0], case.grid.shape[0] - 1 - high[0])
        axes.set(xlim=(low[columns], high[columns]), ylim=vertical)
    sides = {0: ("R", "L"), 1: ("R", "L"), 2: ("A", "P")}[axis]
    for side, place in zip(sides, (0.02, 0.95), strict=True):
        axes.text(place, 0.5, side, transform=axes.transAxes, color="white", fontsize=11, weight="bold")
    place_mm = case.grid.to_mm(np.where(np.arange(3) == axis, index, 0))[2 - axis]
    axes.set_title(f"{name}, {'zyx'[axis]} = {place_mm:.0f} mm", fontsize=10)
    axes.set(xticks=[], yticks=[], facecolor="black")


def upright(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """A slice with its rows from the top: anterior first in axial slices, superior first in the others."""
    cut = np.take(array, index, axis=axis)
    upright: NDArray[Any] = cut if axis == 0 else cut[::-1]
    return upright


def anatomy(case: Case) -> NDArray[Any]:
    """What lies behind a wash, in HU: the CT, or the body as water, or nothing."""
    if case.ct is not None:
        return case.ct.in_unit("HU")
    return np.zeros(case.grid.shape) if case.body is None else np.where(case.body, 0.0, -1000.0)


def _targets(case: Case) -> dict[str, Mask]:
    return case.targets or case.of_role("ptv")


def _histogram(axes: Any, case: Case, dose: Volume, bands: Sequence[Mapping[str, Any]]) -> None:
    structures = {**dict(sorted(_targets(case).items(), reverse=True)), **case.of_role("oar")}
    at_gy = np.linspace(0, 1.15 * case.rx_max_gy, 300)
    for number, (name, mask) in enumerate(structures.items()):
        colour = COLOURS[number % len(COLOURS)]
        if not mask.any():
            continue
        axes.plot(
            at_gy, dvh(dose, mask, case.grid).curve(at_gy), color=colour, lw=1.6, label=figure_text(name)
        )
        steps = [row for row in bands if row["structure"] == name and row["point"][2:].isdigit()]
        if steps:
            percent = [int(row["point"][2:]) for row in steps]
            edges = [[row[side] for row in steps] for side in ("low_80", "high_80")]
            axes.fill_betweenx(percent, *edges, color=colour, alpha=0.15, lw=0)
        if case.dose is not None:
            axes.plot(at_gy, dvh(case.dose, mask, case.grid).curve(at_gy), color=colour, lw=1, ls="--")
    note = "solid: predicted, dashed: reference" if case.dose is not None else "predicted"
    note += ", shaded: 80 % interval" if bands else ""
    axes.set(
        xlabel="dose (Gy)", ylabel="volume (%)", xlim=(0, at_gy[-1]), ylim=(0, 102), title=f"DVH ({note})"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
