"""A generated modality beside the true one: masks from generated values, and one figure or two for each of
the seven. Arrays are (channels, d, h, w) in the modality's unit (case/modality.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Mask
from anydose.case.names import ORGAN_CHANNELS
from anydose.case.volume import bounding_box

Array = NDArray[np.float32]
HALF = 0.5  # a voxel belongs to a structure from here on
WATER_HU = 0.0


def snapped(level_gy: Array, levels_gy: Sequence[float]) -> Array:
    """Every voxel's target level (d, h, w) in Gy moved to the nearest of 0 and the prescribed `levels_gy`."""
    known = np.array(sorted({0.0, *levels_gy}), dtype=np.float32)
    nearest: Array = known[np.searchsorted((known[1:] + known[:-1]) / 2, level_gy, side="right")]
    return nearest


def dice(a: Mask, b: Mask) -> float:
    """2 |a and b| / (|a| + |b|); 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def figures(
    target: str,
    truth: Array,
    made: Array,
    body: Mask,
    levels_gy: Sequence[float] = (),
    organs: Sequence[str] = ORGAN_CHANNELS,
) -> dict[str, float]:
    """How far `made` is from `truth`, both (c, d, h, w), body (d, h, w): mean absolute errors in the unit
    named, inside the body; Dice of the masks that `made` stands for. levels_gy: the prescription, for ptv;
    organs: of the channels, for oar."""
    if target == "ptv":
        a, b = snapped(truth[0], levels_gy), snapped(made[0], levels_gy)
        each = [dice(a == gy, b == gy) for gy in sorted(set(levels_gy)) if (a == gy).any()]
        return {"ptv_dice": dice(a > 0, b > 0), "ptv_level_dice": float(np.mean(each))}
    if target == "oar":
        found = {
            name: dice(t >= HALF, m >= HALF)
            for name, t, m in zip(organs, truth, made, strict=True)
            if (t >= HALF).any()
        }
        return {
            "oar_dice": float(np.mean(list(found.values()))),
            **{f"{n}_dice": d for n, d in found.items()},
        }
    if target == "body":
        return {"body_dice": dice(truth[0] >= HALF, made[0] >= HALF)}
    error = float(np.abs(truth - made)[:, body].mean(dtype=np.float64))
    name = {"ct": "ct_mae_hu", "dose": "dose_mae_gy", "beam": "beam_mae", "angle": "angle_mae"}[target]
    if target == "angle":
        return {name: error, "angle_dice": dice(truth[0] >= HALF, made[0] >= HALF)}
    return {name: error}


def naive(target: str, truth: Array, body: Mask, organs: Sequence[str] = ORGAN_CHANNELS) -> dict[str, float]:
    """The same figures of what anybody would say without a model: water in the body, no plate, no structure,
    the whole box that just holds the body."""
    made = np.full_like(truth, WATER_HU if target == "ct" else 0.0)
    if target == "body":
        start, shape = bounding_box(body)
        z, y, x = (slice(s, s + n) for s, n in zip(start, shape, strict=True))
        made[0, z, y, x] = 1.0
    return figures(target, truth, made, body, [float(truth.max()) or 1.0], organs)


def masks(
    target: str, made: Array, names: Mapping[int, str], levels_gy: Mapping[str, float]
) -> dict[str, Mask]:
    """The structures that a generated ptv, oar or body (c, d, h, w) stands for, by name, none of them empty.
    names: organ channel -> structure; levels_gy: target structure -> Gy (one structure a level)."""
    found: dict[str, Any]
    if target == "ptv":
        level = snapped(made[0], list(levels_gy.values()))
        found = {name: level == np.float32(gy) for name, gy in levels_gy.items()}
    else:
        found = {name: made[channel] >= HALF for channel, name in names.items()}
    return {name: mask for name, mask in found.items() if mask.any()}
