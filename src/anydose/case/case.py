"""A case: what the clinic knows of one patient, on one grid. Whatever it does not know is absent, never
zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from anydose.case.beams import Beam
from anydose.case.grid import Grid
from anydose.case.naming import evidence
from anydose.case.naming.meaning import Meaning
from anydose.case.volume import Volume, averaged, block, bounding_box

Mask = NDArray[np.bool_]
AIR_HU = -1000.0
MARGIN_VOXELS = 8
"""Kept around a structure that is resampled alone. Smoothing reaches as far as this for voxels seven times as
large (`volume.averaged`: 4 standard deviations)."""


@dataclass(frozen=True)
class Prescription:
    """What a case's targets shall have."""

    levels_gy: Mapping[str, float] = field(default_factory=dict)
    """Target structure -> prescribed dose in Gy."""
    fractions: int | None = None
    """Their number; None if unknown."""

    def __post_init__(self) -> None:
        for name, dose in self.levels_gy.items():
            if not (np.isfinite(dose) and 0 < dose <= 200):
                raise ValueError(f"prescription of {name}: {dose} Gy found, between 0 and 200 Gy accepted")

    @property
    def highest_gy(self) -> float:
        """The highest prescribed dose: the reference dose that dose volumes are divided by."""
        if not self.levels_gy:
            raise ValueError("the case has no prescription: give at least one target with its dose in Gy")
        return max(self.levels_gy.values())


@dataclass(frozen=True)
class Source:
    """Where a case came from. A format that must remember more for its writer subclasses this."""

    format: str = ""
    """Name of its row in the table of formats; '' for a case made in memory."""
    frame_of_reference_uid: str | None = None
    """DICOM frame of reference of the case's grid; None where the format has none."""
    structure_types: Mapping[str, str] = field(default_factory=dict)
    """Structure -> DICOM RTROIInterpretedType (3006,00A4), of those that state one."""
    structure_codes: Mapping[str, str] = field(default_factory=dict)
    """Structure -> code value of its RTROIIdentificationCodeSequence (3006,0086), of those that state one."""


@dataclass(frozen=True, eq=False)
class Edge:
    """The voxels that a structure covers in part, as its contours say."""

    mask: Mask
    """The structure's mask (d, h, w): the very array, so that an edge never stands for another one."""
    index: NDArray[np.int64]
    """Flat indices (n,) of those voxels."""
    part: NDArray[np.float32]
    """How much is covered, from 0 to 1, of each part (n, rows, columns) that those voxels are split into."""


@dataclass(frozen=True, repr=False)
class Case:
    """One patient. CT, dose and every mask lie on `grid`; absent things are None or not in the mapping."""

    name: str
    """What the patient or plan is called."""
    grid: Grid
    """Where its voxels are."""
    structures: Mapping[str, Mask]
    """Name as the source spells it -> boolean mask (d, h, w)."""
    prescription: Prescription = field(default_factory=Prescription)
    """The targets' doses."""
    beams: tuple[Beam, ...] = ()
    """The plan's beams, or those that were asked for."""
    ct: Volume | None = None
    """In HU."""
    dose: Volume | None = None
    """In Gy; not a number where it is unknown: beyond the grid that it was calculated on."""
    patient_position: str = "HFS"
    """DICOM (0018,5100)."""
    inferred: tuple[str, ...] = ()
    """Sentences on what the source did not state and the reader filled in by a documented rule."""
    source: Source = field(default_factory=Source)
    """Its format, and what a writer of that format needs to give the result back in the input's own form."""
    naming: tuple[Meaning, ...] = ()
    """What each structure is, in the order of `structures`. Rows that are not given are read from the
    names and from the source's types and codes; rows of absent structures fall away."""
    edges: tuple[Edge, ...] = ()
    """Of structures whose contours the source has; others are their masks alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "naming", self._named())
        for label, volume, unit in (("ct", self.ct, "HU"), ("dose", self.dose, "Gy")):
            if volume is None:
                continue
            unknown = np.isnan(volume.in_unit(unit)) if label == "dose" else False
            if not (np.isfinite(volume.in_unit(unit)) | unknown).all() or np.all(unknown):
                raise ValueError(f"{self.name}: {label} holds a value that is not a number")
            if not volume.grid.matches(self.grid):
                raise ValueError(f"{self.name}: {label} lies on another grid than the case")
        for name, mask in self.structures.items():
            if mask.dtype != np.bool_ or mask.shape != self.grid.shape:
                found, needed = f"{mask.dtype} {mask.shape}", f"bool {self.grid.shape}"
                raise ValueError(f"{self.name}: structure {name} is {found}, {needed} is needed")
        for name in self.prescription.levels_gy:
            if name not in self.structures:
                raise ValueError(f"{self.name}: prescription for {name}, but there is no such structure")

    def _named(self) -> tuple[Meaning, ...]:
        given = {meaning.roi: meaning for meaning in self.naming}
        types, codes = self.source.structure_types, self.source.structure_codes
        return tuple(
            given.get(roi) or evidence.read(roi, types.get(roi, ""), codes.get(roi, ""))
            for roi in self.structures
        )

    def __repr__(self) -> str:
        """One line: what there is of the patient."""
        there = [label for label in ("ct", "dose") if getattr(self, label) is not None]
        levels = ", ".join(f"{gy:g}" for gy in self.prescription.levels_gy.values())
        roles = [meaning.role for meaning in self.naming]
        counts = ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles))
        text = (
            f"Case({self.name!r:.60}, {self.grid.shape} voxels of {self.grid.spacing_mm} mm, "
            f"{' and '.join(there) or 'no volume'}, structures: {counts or 'none'}, {len(self.beams)} beams, "
            f"prescribed Gy: {levels or 'none'}"
        )
        return f"{text[:298]})"

    def meaning(self, name: str) -> Meaning:
        """What the structure of that name in this case is. Raises KeyError if there is none."""
        for meaning in self.naming:
            if meaning.roi == name:
                return meaning
        raise KeyError(name)

    def edge(self, name: str) -> Edge | None:
        """The edge of a structure as its contours say; None where the case keeps no contours of it."""
        mask = self.structures[name]
        return next((edge for edge in self.edges if edge.mask is mask), None)

    def covered(self, name: str) -> NDArray[np.float32] | Mask:
        """How much of every voxel a structure covers: float32 (d, h, w) in [0, 1] where the case keeps its
        contours' edge, else the boolean mask."""
        mask, edge = self.structures[name], self.edge(name)
        if edge is None:
            return mask
        part = np.array(mask, dtype=np.float32, order="C")
        part.reshape(-1)[edge.index] = edge.part.mean(axis=(1, 2))
        return part

    def of_role(self, role: str) -> dict[str, Mask]:
        """The structures of one role of names.py, in the case's own spelling."""
        return {meaning.roi: self.structures[meaning.roi] for meaning in self.naming if meaning.role == role}

    def find(self, tg263: str) -> Mask | None:
        """The mask of a structure by its TG-263 name, whatever the source calls it; None if absent."""
        for meaning in self.naming:
            if tg263 in (meaning.roi, meaning.tg263):
                return self.structures[meaning.roi]
        return None

    @property
    def body(self) -> Mask | None:
        """The external contour; None if absent, ValueError if the case has several."""
        bodies = self.of_role("body")
        if len(bodies) > 1:
            raise ValueError(f"{self.name}: several body structures ({', '.join(bodies)}), one is accepted")
        return next(iter(bodies.values()), None)

    @property
    def targets(self) -> dict[str, Mask]:
        """The structures that have a prescription."""
        return {name: self.structures[name] for name in self.prescription.levels_gy}

    @property
    def rx_max_gy(self) -> float:
        """The highest prescription in Gy."""
        return self.prescription.highest_gy

    def on(self, grid: Grid) -> Case:
        """The same case on another grid: volumes averaged where it is coarser, then interpolated; a voxel
        belongs to a structure if at least half of it does. A structure that no voxel holds by half is left
        out, and `inferred` says so."""
        moved = {
            name: _moved_mask(mask, self.grid, grid) for name, mask in self.structures.items() if mask.any()
        }
        kept = {name: mask for name, mask in moved.items() if mask.any()}
        lost = [
            f"{name}: too small for voxels of {grid.spacing_mm} mm, left out"
            for name in moved
            if name not in kept
        ]
        levels = {name: gy for name, gy in self.prescription.levels_gy.items() if name in kept}
        return replace(
            self,
            grid=grid,
            structures=kept,
            prescription=replace(self.prescription, levels_gy=levels),
            ct=None if self.ct is None else _moved(self.ct, grid, AIR_HU),
            dose=None if self.dose is None else _moved(self.dose, grid, _beyond(self.dose)),
            inferred=(*self.inferred, *lost),
        )

    def block(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Case:
        """The same case on the block of `shape` whose first voxel is index `start` (z, y, x) of this grid;
        where the block leaves the grid there is air, no structure and no dose."""
        grid = self.grid.crop(start, shape)

        def cut(volume: Volume | None, outside: float) -> Volume | None:
            return volume and Volume(block(volume.array, start, shape, outside), grid, volume.unit)

        masks = {name: block(mask, start, shape, False) for name, mask in self.structures.items()}
        ct, dose = cut(self.ct, AIR_HU), cut(self.dose, 0.0)
        return replace(self, grid=grid, structures=masks, ct=ct, dose=dose, edges=())


def _moved(volume: Volume, grid: Grid, outside: float) -> Volume:
    """A volume on another grid: averaged where that is coarser, then interpolated."""
    return averaged(volume, grid.spacing_mm).resample(grid, outside=outside)


def _moved_mask(mask: Mask, own: Grid, grid: Grid) -> Mask:
    """A structure on another grid: the voxels of which it holds at least half. Only the block around it is
    worked on."""
    start, shape = bounding_box(mask)
    low = tuple(s - MARGIN_VOXELS for s in start)
    size = tuple(n + 2 * MARGIN_VOXELS for n in shape)
    part = Volume(block(mask, low, size, False), own.crop(low, size), "1")
    return np.asarray(_moved(part, grid, 0.0).array >= 0.5)


def _beyond(dose: Volume) -> float:
    """What a dose is beyond its grid: unknown where it is unknown somewhere on it, else 0."""
    return np.nan if np.isnan(dose.array).any() else 0.0
