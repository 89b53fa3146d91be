"""What a format of patients is: how it is recognised, read and written. The table of them: formats.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anydose.case import names
from anydose.case.case import Case
from anydose.case.volume import Volume


@dataclass(frozen=True)
class ReadOptions:
    """What a reader is told beside the path; each format takes what it knows."""

    series: tuple[str, ...] = ()
    """SeriesInstanceUIDs or SOPInstanceUIDs to use where a DICOM folder holds several."""
    fill_gaps: bool = False
    """Interpolate one or two missing CT slices of a DICOM series."""


@dataclass(frozen=True, eq=False)
class DVHCurve:
    """The cumulative DVH of one structure, for formats that hold it beside the dose."""

    step_gy: float
    """Width of a bin."""
    volume_cc: NDArray[np.float64]
    """(bins,): the volume that receives the lower end of the bin or more."""
    min_gy: float
    """Lowest dose."""
    max_gy: float
    """Highest dose."""
    mean_gy: float
    """Mean dose."""

    @property
    def at_gy(self) -> NDArray[np.float64]:
        """(bins,): the lower ends of the bins."""
        return np.arange(len(self.volume_cc), dtype=np.float64) * self.step_gy

    @property
    def percent(self) -> NDArray[np.float64]:
        """(bins,): the volume in percent of the structure's."""
        return 100 * self.volume_cc / float(self.volume_cc[0])


@dataclass(frozen=True)
class Beside:
    """What is known of a predicted dose beside its voxels; each format takes what it has room for."""

    model: str = ""
    """The model's name."""
    sha256: str = ""
    """The hash of its weights."""
    dvhs: Mapping[str, DVHCurve] = field(default_factory=dict)
    """Structure -> its DVH."""


@dataclass(frozen=True)
class DoseOptions:
    """How a predicted dose is written; each format takes what it knows."""

    grid: str = ""
    """Grid of an RTDOSE: 'ct', 'reference', a spacing in mm, or '' for the reference's or the CT's voxels."""
    bits: int = 32
    """Bits a voxel of an RTDOSE, 16 or 32."""
    anonymize: bool = False
    """Other identifiers than the patient's."""
    placeholder_plan: bool = False
    """Refer to a beamless plan written beside the dose."""
    beside: Beside = field(default_factory=Beside)
    """What is known of the dose; whoever predicted it fills it in."""


@dataclass(frozen=True)
class Generated:
    """What of a case a model made, for formats that can say so."""

    target: str
    """The modality: 'ct', 'ptv', 'oar', 'body' or 'dose'."""
    structures: tuple[str, ...] = ()
    """The structures that were made."""
    model: str = ""
    """The model's name."""
    sha256: str = ""
    """The hash of its weights."""


class Format(ABC):
    """One form that patients come in. A subclass overrides what its format can do."""

    name: str
    """What the format is called in refusals and on the command line."""
    accepts: str
    """What a case of it looks like, for the sentence on what is accepted."""
    dose_suffixes: tuple[str, ...] = ()
    """Endings of the dose files that `read_dose` takes."""
    submission: str = ""
    """The dose file that its challenge takes, as '{name}_pred.npy'; '' for a format of no challenge."""
    states_dose_unit: bool = False
    """True if its doses are known to be in Gy; else the user may say that they are in cGy."""
    organ_names: Sequence[str] = names.ORGAN_CHANNELS
    """What the format calls the organs of `names.ORGAN_CHANNELS`, in that order."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """True if the file or folder at `path` looks like a case of this format."""

    def is_one_case(self, path: Path) -> bool:
        """False if what is recognised at `path` is a folder of cases rather than one."""
        return True

    @abstractmethod
    def read_case(self, path: Path, options: ReadOptions) -> Case:
        """The case at `path`. ValueError (file, found, accepted) for anything that is not exactly one."""

    def read_dose(self, path: Path, case: Case) -> Volume:
        """The dose file at `path`, on its own grid, its numbers taken for Gy where it states no unit.
        ValueError if it is none."""
        raise ValueError(f"{path}: no dose file of {self.name} can be read")

    def side_files(self, path: Path) -> list[Path]:
        """Files outside `path` that the case is read from too."""
        return []

    def write_dose(self, dose: Volume, case: Case, folder: Path, options: DoseOptions) -> list[str]:
        """Write the prediction of `case` into `folder` as this format has it; returns the files' names, none
        for a format that has no dose file."""
        return []

    def holds(self, case: Case) -> bool:
        """True if `write_case` can hold such a case."""
        return False

    def write_case(self, case: Case, path: Path, made: Generated | None = None) -> None:
        """Write a case as `path`, a folder or a file as the format has it, with marks on what a model made of
        it where the format has room for them. ValueError for what it cannot hold."""
        raise ValueError(f"{case.name}: no case can be written as {self.name}")
