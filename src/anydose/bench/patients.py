"""Settings that most benchmarks share: whose patients, and which model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anydose.case.case import Case
from anydose.io import openkbp
from anydose.model.options import Options
from anydose.model.registry import DEFAULT


@dataclass(frozen=True)
class Patients:
    """The validation patients of an OpenKBP dataset."""

    cohort: Path
    """OpenKBP dataset folder (with provided-data)."""
    limit: int = 0
    """Only the first N validation patients; 0 for all."""

    def folders(self) -> list[Path]:
        """Their folders. ValueError if there is none."""
        return openkbp.patients(self.cohort, "validation")[: self.limit or None]

    def cases(self) -> Iterator[Case]:
        """Their cases, one after the other."""
        return (openkbp.read_case(folder) for folder in self.folders())


@dataclass(frozen=True)
class Modelled(Patients):
    """Patients, and a model that predicts them."""

    model: str = DEFAULT
    """A shipped model's name or a .safetensors file."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    options: Options = field(default_factory=Options)
    """How it predicts."""
