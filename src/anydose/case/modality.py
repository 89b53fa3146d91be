"""The modality table: for each of the seven modalities its unit, channels, how it is drawn from a case, how
its values map to and from the model's range, about [-1, 1], and how networks and augmentation treat it.
Everything else about modalities is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from anydose.case import beams
from anydose.case.case import AIR_HU, Case
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary

Array = NDArray[np.float32]
MOST_HU = 1000.0
DOSE_SPAN = 1.15  # a dose of DOSE_SPAN times the reference dose maps to +1


@dataclass(frozen=True)
class Modality:
    """One row."""

    name: str
    """What a model and the command line call it."""
    unit: str
    """Of its physical values."""
    draw: Callable[[Case], Array | None]
    """Case -> (channels, d, h, w) in `unit` on the case's grid, or None if the case lacks it."""
    low: float = 0.0
    """The physical value that maps to -1, in highest prescriptions where `by_reference`."""
    high: float = 1.0
    """The one that maps to +1."""
    outside: float = 0.0
    """The physical value where there is no patient."""
    clipped: bool = False
    """Whether values beyond low and high are brought to them, as those of CT are."""
    by_reference: bool = False
    """Whether values are seen in units of the case's highest prescription."""
    channels: int = 1
    """Their number."""
    mirror: tuple[int, ...] = (0,)
    """The source channel of each channel once left and right are exchanged."""
    interpolation: str = "nearest"
    """How values are interpolated in a rotated or deformed patient; labels stay what they are."""
    patch: int = 4
    """Edge of a transformer's token in latent voxels, where its config does not say another."""

    def to_range(self, values: Array, rx_max_gy: float) -> Array:
        """Physical values -> model range: linear, after `clipped`."""
        scale = rx_max_gy if self.by_reference else 1.0
        if self.clipped:
            values = np.clip(values, self.low * scale, self.high * scale)
        return ((values / scale - self.low) * (2 / (self.high - self.low)) - 1).astype(np.float32)

    def from_range(self, values: Array, rx_max_gy: float) -> Array:
        """Model range -> physical values, the exact inverse of `to_range`."""
        scale = rx_max_gy if self.by_reference else 1.0
        return ((values + 1) * ((self.high - self.low) / 2) + self.low).astype(np.float32) * np.float32(scale)

    def background(self, rx_max_gy: float) -> float:
        """The model-range value where there is no patient."""
        return float(self.to_range(np.array([self.outside], dtype=np.float32), rx_max_gy)[0])


def _ct(case: Case) -> Array | None:
    return None if case.ct is None else case.ct.in_unit("HU")[None].astype(np.float32)


def _ptv(case: Case) -> Array | None:
    out = np.zeros((1, *case.grid.shape), dtype=np.float32)
    for name, dose_gy in sorted(case.prescription.levels_gy.items(), key=lambda item: item[1]):
        out[0][case.structures[name]] = dose_gy
    return out if case.prescription.levels_gy else None


def _oar(vocabulary: Vocabulary, case: Case) -> Array | None:
    """A channel an organ of the vocabulary, 1 inside it."""
    places = {meaning.roi: vocabulary.channel(meaning) for meaning in case.naming}
    drawn = {roi: place for roi, place in places.items() if place is not None}
    out = np.zeros((len(vocabulary.organs), *case.grid.shape), dtype=np.float32)
    for roi, place in drawn.items():
        out[place][case.structures[roi]] = 1.0
    return out if drawn else None


def _body(case: Case) -> Array | None:
    return None if case.body is None else case.body[None].astype(np.float32)


def _beam(case: Case) -> Array | None:
    targets = list(case.targets.values())
    if not case.beams or not targets:
        return None
    target = np.logical_or.reduce(targets)
    return beams.draw_beams(
        beams.beams_eye_views(case.beams, case.patient_position), target, case.grid, density(case)
    )


def density(case: Case) -> Array:
    """Relative electron density (d, h, w) of what beams pass: couch and mask are not part of the planned path
    length, and without CT the body counts as water."""
    if case.ct is not None:
        found = beams.relative_density(case.ct.in_unit("HU"))
        return found if case.body is None else found * case.body
    return np.zeros(case.grid.shape, np.float32) if case.body is None else case.body.astype(np.float32)


def _angle(case: Case) -> Array | None:
    if not case.beams:
        return None
    drawn = beams.beams_eye_views(case.beams, case.patient_position)
    return beams.angle_plate(drawn, case.beams[0].isocentre_mm, case.grid)[None]


def _dose(case: Case) -> Array | None:
    """Where the dose is unknown there is none to learn: 0, as in air."""
    if case.dose is None:
        return None
    return np.nan_to_num(case.dose.in_unit("Gy")[None].astype(np.float32), nan=0.0)


@cache
def table(vocabulary: Vocabulary = HEAD_NECK) -> dict[str, Modality]:
    """The seven rows by name, the organs drawn by a vocabulary; one table for every equal vocabulary."""
    organs, mirror = len(vocabulary.organs), vocabulary.mirrored()
    rows = (
        Modality(
            "ct",
            "HU",
            _ct,
            low=AIR_HU,
            high=MOST_HU,
            outside=AIR_HU,
            clipped=True,
            interpolation="bicubic",
        ),
        Modality("ptv", "Gy", _ptv, by_reference=True, patch=2),
        Modality("oar", "1", partial(_oar, vocabulary), channels=organs, mirror=mirror),
        Modality("body", "1", _body),
        Modality(
            "beam",
            "1",
            _beam,
            channels=1 + beams.SECTORS,
            mirror=beams.mirrored_sectors(),
            interpolation="bilinear",
            patch=2,
        ),
        Modality("angle", "1", _angle),
        Modality(
            "dose",
            "Gy",
            _dose,
            high=DOSE_SPAN,
            by_reference=True,
            interpolation="bicubic",
            patch=2,
        ),
    )
    return {row.name: row for row in rows}


TABLE: dict[str, Modality] = table(HEAD_NECK)
"""The rows with the organs of head and neck; of another vocabulary only the organs' channels differ."""
NAMES = tuple(TABLE)


def subset(wanted: Iterable[str]) -> tuple[str, ...]:
    """The modality names in table order; ValueError names the first that is not in the table."""
    chosen = tuple(wanted)
    for name in chosen:
        if name not in TABLE:
            raise ValueError(f"modality {name!r}: one of {', '.join(NAMES)} is accepted")
    return tuple(name for name in NAMES if name in chosen)


def render(case: Case, wanted: Iterable[str] = NAMES, vocabulary: Vocabulary = HEAD_NECK) -> dict[str, Array]:
    """Draw the wanted modalities of a case in the model's range: {name: (channels, d, h, w) float32}, without
    those that the case lacks. Crop the case to its body first (`Case.block`): drawing costs by the voxel."""
    rows = table(vocabulary)
    drawn = {name: rows[name].draw(case) for name in subset(wanted)}
    return {
        name: rows[name].to_range(values, case.rx_max_gy if rows[name].by_reference else 1.0)
        for name, values in drawn.items()
        if values is not None
    }
