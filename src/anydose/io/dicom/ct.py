"""A CT series to a volume in HU. Slices are placed by their own positions along the series' normal; whatever
is not a plain stack is either resampled from its true positions and told, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.grid import Floats, Grid
from anydose.case.volume import Volume, layers_at
from anydose.io.dicom.files import (
    MAX_VOXELS,
    Found,
    axes,
    load,
    naming,
    number,
    numbers,
    pixel_spacing,
    pixels,
    text,
)

Stack = NDArray[np.float32]

SAME_MM = 0.01  # two slices closer than this stand at the same place
OFF_MM = 0.05  # a slice this near its place in a uniform stack stands there
OFF_PART = 0.01  # ... or within this part of the slice spacing
AIR_HU, LOWEST_HU = -1000.0, -1024.0


def read_ct(found: Sequence[Found], fill_gaps: bool = False) -> tuple[Volume, list[str]]:
    """The volume in HU of one series and sentences on what was not plain. ValueError (file, found, accepted)
    for fewer than two slices, slices that differ in size, spacing or orientation, two different slices at one
    place, a missing slice (unless `fill_gaps`), slices out of line, and pixels that are not rescaled CT
    numbers."""
    direction, size, spacing = _frame(found)
    places = np.array([_place(f, direction) for f in found])
    order = np.argsort(places[:, 2], kind="stable")
    kept, said = _distinct([found[i] for i in order], places[order])
    if len(kept) < 2:
        raise ValueError(f"{found[0].path}: a CT of {len(kept)} slice; two or more are accepted")
    if len(kept) * size[0] * size[1] > MAX_VOXELS:
        raise ValueError(
            f"{found[0].path}: a CT of {len(kept)} slices; up to {MAX_VOXELS:,} voxels are accepted"
        )
    places = np.array([_place(f, direction) for f in kept])
    stack = np.empty((len(kept), *size), dtype=np.float32)
    for k, slice_ in enumerate(kept):
        stack[k] = _hounsfield(slice_.path)
    said += _plausible(stack)
    stack, origin, more = _straighten(stack, places, spacing, kept)
    stack, step, rest = _even(stack, places[:, 2], kept, fill_gaps)
    x, y, z = direction @ np.array([*origin, places[0, 2]])
    grid = Grid(stack.shape, (spacing[1], spacing[0], step), (x, y, z), direction)  # type: ignore[arg-type]
    return Volume(stack, grid, "HU"), said + more + rest


def _frame(found: Sequence[Found]) -> tuple[Floats, tuple[int, int], tuple[float, float]]:
    """(direction, (rows, columns), (row, column) spacing) that all slices share."""
    shared: tuple[Floats, tuple[int, int], tuple[float, float]] | None = None
    for f in found:
        with naming(f.path):
            own = (
                axes(f.header),
                (int(number(f.header, "Rows")), int(number(f.header, "Columns"))),
                pixel_spacing(f.header),
            )
            shared = shared or own
            each: Any = zip(("orientation", "size", "PixelSpacing"), own, shared, strict=True)
            for what, a, b in each:
                if not np.allclose(a, b, atol=1e-3 if what == "orientation" else 1e-4):
                    raise ValueError(
                        f"{what} {np.round(a, 4).tolist()}, {np.round(b, 4).tolist()} in {found[0].path.name}"
                    )
    if shared is None:
        raise ValueError("no CT slice found; two or more are accepted")
    return shared


def _place(f: Found, direction: Floats) -> Floats:
    """Position of the first pixel in the series' own axes (along row, down column, along normal), mm."""
    with naming(f.path):
        return np.asarray(numbers(f.header, "ImagePositionPatient", 3) @ direction)


def _distinct(found: Sequence[Found], places: Floats) -> tuple[list[Found], list[str]]:
    """The slices, ascending, without exact doubles."""
    kept, doubles = [found[0]], 0
    for before, f, step in zip(found, found[1:], np.diff(places[:, 2]), strict=False):
        if step > SAME_MM:
            kept.append(f)
            continue
        if not np.array_equal(_hounsfield(f.path), _hounsfield(before.path)):
            raise ValueError(
                f"{f.path}: other pixels at the same place as {before.path.name}; one is accepted"
            )
        doubles += 1
    return kept, [f"ct: {doubles} slice(s) standing there twice taken once"] if doubles else []


def _hounsfield(path: Path) -> Stack:
    """The (rows, columns) HU of one slice; padding is air."""
    dataset = load(path)
    with naming(path):
        kind = text(dataset, "RescaleType", needed=False)
        if kind not in ("", "HU", "US"):
            raise ValueError(f"RescaleType {kind}; HU is accepted")
        stored = pixels(dataset)
        if len(stored) != 1:
            raise ValueError(f"{len(stored)} frames; one slice a file is accepted")
        slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
        if not (0 < slope <= 100 and abs(intercept) <= 1e5):
            raise ValueError(f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g} give no HU")
        hu = np.multiply(stored[0], np.float32(slope), dtype=np.float32)
        hu += np.float32(intercept)
        if isinstance(padding := dataset.get("PixelPaddingValue"), int):
            hu[stored[0] == padding] = AIR_HU
    return np.asarray(hu)


def _plausible(stack: Stack) -> list[str]:
    """Clip what lies below any CT number; say so, and say if there is no air."""
    said = []
    lowest = float(stack.min())
    if lowest < LOWEST_HU:
        low = int((stack < LOWEST_HU).sum())
        np.maximum(stack, LOWEST_HU, out=stack)
        said.append(f"ct: {low} voxels below {LOWEST_HU:g} HU (padding) set to it")
    if lowest > -300:
        said.append(f"ct: no air found (lowest value {lowest:g} HU): check the rescale of the series")
    return said


def _straighten(
    stack: Stack, places: Floats, spacing: tuple[float, float], found: Sequence[Found]
) -> tuple[Stack, Floats, list[str]]:
    """A stack whose slices are shifted sideways in proportion to their height (gantry tilt) on upright
    columns: (stack, in-plane origin (x, y) in mm, sentences). ValueError for any other sideways shift."""
    sideways, height = places[:, :2], places[:, 2]
    if np.ptp(sideways, axis=0).max() <= 2 * OFF_MM:
        return stack, sideways[0], []
    line = np.polynomial.polynomial.polyfit(height - height[0], sideways, 1)
    off = np.abs(sideways - line[0] - np.outer(height - height[0], line[1])).max(axis=1)
    if off.max() > OFF_MM:
        worst = found[int(off.argmax())].path
        raise ValueError(f"{worst}: {off.max():.2f} mm sideways of its series; slices in line are accepted")
    origin = sideways.min(axis=0)
    pixel = np.array([spacing[1], spacing[0]])
    extra = np.ceil(np.ptp(sideways, axis=0) / pixel - 1e-6).astype(int)
    out = np.full(
        (len(stack), stack.shape[1] + extra[1], stack.shape[2] + extra[0]), AIR_HU, dtype=np.float32
    )
    for k, layer in enumerate(stack):
        right, down = (sideways[k] - origin) / pixel
        wide = np.pad(layer, ((0, extra[1]), (0, extra[0])), constant_values=AIR_HU)
        out[k] = ndimage.shift(wide, (down, right), order=1, mode="constant", cval=AIR_HU)
    tilt = np.degrees(np.arctan(np.abs(line[1]).max()))
    return out, origin, [f"ct: gantry tilt of {tilt:.1f} degrees resampled to upright columns"]


def _even(
    stack: Stack, height: Floats, found: Sequence[Found], fill_gaps: bool
) -> tuple[Stack, float, list[str]]:
    """(stack, slice spacing, sentences) at even steps. Runs of two or more steps of one length (piecewise
    spacing) are resampled to the finest; a lone longer step is a gap of missing slices."""
    steps = np.diff(height)
    fit = np.linspace(height[0], height[-1], len(height))
    if np.abs(height - fit).max() <= max(OFF_MM, OFF_PART * float(steps.mean())):
        return stack, float(steps.mean()), []
    near = np.abs(np.diff(steps)) <= np.maximum(OFF_MM, OFF_PART * steps[:-1])
    in_run = np.concatenate([near, [False]]) | np.concatenate([[False], near])
    step = float(steps.min())
    missing = np.rint(steps / step) - 1
    if in_run.all():
        said = f"ct: slice steps of {_lengths(steps)} mm resampled to {step:g} mm"
    elif (
        fill_gaps
        and missing.max() <= 2
        and np.abs(steps / (missing + 1) - step).max() <= max(OFF_MM, OFF_PART * step)
    ):
        said = f"ct: {int(missing.sum())} missing slice(s) interpolated (--fill-gaps)"
    else:
        k = int(np.abs(steps - np.median(steps)).argmax())
        raise ValueError(
            f"{found[k].path}: {steps[k]:.3f} mm to the next slice ({found[k + 1].path.name}), elsewhere "
            f"{np.median(steps):.3f} mm; an even stack is accepted (--fill-gaps adds one or two slices)"
        )
    count = int((height[-1] - height[0]) / step + 1e-3) + 1
    at = np.interp(height[0] + step * np.arange(count), height, np.arange(len(height)))
    return layers_at(stack, at), step, [said]


def _lengths(steps: Floats) -> str:
    return " and ".join(f"{s:g}" for s in np.unique(np.round(steps, 1)))
