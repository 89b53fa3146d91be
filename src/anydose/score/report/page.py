"""One page of a dose: axial, coronal and sagittal dose wash with target outlines, and the DVH."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anydose.atomic.files import whole
from anydose.case.case import Case, Mask
from anydose.case.volume import Volume, bounding_box
from anydose.score.dvh import structure_dvh
from anydose.score.report import palette
from anydose.score.report.embed import figure_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_WARNINGS = 4
LONGEST_TITLE = 160
WASH_FROM = 0.1  # of the reference dose: below it the wash is transparent
SOFT_TISSUE_HU = (-200.0, 300.0)
COLOURS = (*palette.TARGETS, *palette.OTHERS)
ISODOSES = ((107, "#ffffff"), (95, "#ffe600"), (50, "#4de1ff"))  # percent of the highest prescription
Curves = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]  # structure -> (dose in Gy, volume in percent)
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (9, 3))}


def write_page(
    case: Case,
    dose: Volume,
    path: Path,
    title: str,
    warnings: Sequence[str] = (),
    bands: Sequence[Mapping[str, Any]] = (),
    curves: Curves | None = None,
) -> None:
    """Write the page of a dose in Gy on the case's grid. Radiological convention: the patient's right is on
    the left of axial and coronal slices, superior is up. The case's own dose, if any, is the thin DVH.
    warnings: sentences on what makes the case unusual; bands: rows of calibration.bands, shaded at 80 %;
    curves: the dose's DVHs where they are known already. The format is that of the suffix (.png, .pdf)."""
    figure = draw_page(case, dose, title, warnings, bands, curves)
    with whole(path) as scratch:
        figure.savefig(scratch, dpi=110)


def draw_page(
    case: Case,
    dose: Volume,
    title: str,
    warnings: Sequence[str] = (),
    bands: Sequence[Mapping[str, Any]] = (),
    curves: Curves | None = None,
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
    _histogram(figure.add_subplot(grid[1, :]), case, dose, bands, curves or {})
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
    behind, inside = upright(anatomy(case), axis, index), upright(dose.in_unit("Gy"), axis, index)
    if case.body is not None:
        inside = np.where(upright(case.body, axis, index), inside, np.nan)
    square, (low, high) = aspect(case, axis), SOFT_TISSUE_HU
    axes.imshow(behind, cmap="gray", vmin=low, vmax=high, aspect=square, interpolation="nearest")
    top, floor = 1.1 * case.rx_max_gy, WASH_FROM * case.rx_max_gy
    seen = np.ma.masked_where(~(inside >= floor), inside)
    wash = axes.imshow(seen, cmap="jet", vmin=0, vmax=top, alpha=0.45, aspect=square)
    shades = palette.shades(case)
    for structure, mask in _shown_structures(case).items():
        cut = upright(mask, axis, index)
        if cut.any():
            colour, dash = shades[structure]
            width = 1.4 if structure in case.targets else 0.9
            axes.contour(
                cut.astype(float), levels=[0.5], colors=[colour], linewidths=width, linestyles=[DASHES[dash]]
            )
    _isodoses(axes, case, inside)
    frame(axes, case, axis, index, name)
    return wash


def _isodoses(axes: Any, case: Case, gy: NDArray[Any]) -> None:
    """The lines of ISODOSES with their doses beside them."""
    known = np.nan_to_num(gy)
    lines = [(percent / 100 * case.rx_max_gy, colour) for percent, colour in ISODOSES]
    there = sorted((level, colour) for level, colour in lines if known.min() < level < known.max())
    if there:
        levels, colours = zip(*there, strict=True)
        drawn = axes.contour(known, levels=levels, colors=colours, linewidths=1.0)
        axes.clabel(drawn, fmt="%.1f", fontsize=7)


def _shown_structures(case: Case) -> dict[str, Mask]:
    """Targets first, then organs; none of them empty."""
    named = {**dict(sorted(_targets(case).items(), reverse=True)), **case.of_role("oar")}
    return {name: mask for name, mask in named.items() if mask.any()}


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
    sides = {0: "RLAP", 1: "RLSI", 2: "APSI"}[axis]
    for side, (across, up) in zip(sides, ((0.03, 0.5), (0.97, 0.5), (0.5, 0.96), (0.5, 0.04)), strict=True):
        style = {"color": "white", "fontsize": 11, "weight": "bold", "ha": "center", "va": "center"}
        axes.text(across, up, side, transform=axes.transAxes, **style)
    place_mm = case.grid.to_mm(np.where(np.arange(3) == axis, index, 0))[2 - axis]
    axes.set_title(f"{name}, {'zyx'[axis]} = {place_mm:.0f} mm", fontsize=10)
    axes.set(xticks=[], yticks=[], facecolor="black")


def aspect(case: Case, axis: int) -> float:
    """How tall a pixel of a slice across `axis` is, by its width."""
    z, y, x = case.grid.spacing_zyx_mm
    return {0: y / x, 1: z / x, 2: z / y}[axis]


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


def _histogram(
    axes: Any, case: Case, dose: Volume, bands: Sequence[Mapping[str, Any]], curves: Curves
) -> None:
    at_gy = np.linspace(0, 1.15 * case.rx_max_gy, 300)
    shades = palette.shades(case)
    for name in _shown_structures(case):
        colour, dash = shades[name]
        try:
            known = curves.get(name) or (at_gy, structure_dvh(case, dose, name).curve(at_gy))
        except ValueError as error:
            axes.plot([], [], color=colour, label=figure_text(f"{name}: {error}"))
            continue
        axes.plot(*known, color=colour, lw=1.8, ls=DASHES[dash], label=figure_text(name))
        steps = [row for row in bands if row["structure"] == name and row["point"][2:].isdigit()]
        if steps:
            percent = [int(row["point"][2:]) for row in steps]
            low, high = [row["low_80"] for row in steps], [row["high_80"] for row in steps]
            axes.fill_betweenx(percent, low, high, color=colour, alpha=0.15, lw=0)
        if case.dose is not None:
            truth = structure_dvh(case, case.dose, name).curve(at_gy)
            axes.plot(at_gy, truth, color=colour, lw=0.8, ls=DASHES[dash])
    for level_gy in set(case.prescription.levels_gy.values()):
        axes.axvline(level_gy, color="#777777", lw=0.8, ls=":")
    note = "thick: predicted, thin: reference" if case.dose is not None else "predicted"
    note += ", shaded: 80 % interval" if bands else ""
    note += ", dotted: prescriptions" if case.prescription.levels_gy else ""
    axes.set(
        xlabel="dose (Gy)", ylabel="volume (%)", xlim=(0, at_gy[-1]), ylim=(0, 102), title=f"DVH ({note})"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
