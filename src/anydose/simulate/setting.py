"""How finely plans are simulated. Nothing heavy here, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How finely a plan is made. ValueError for what no plan can be made with."""

    bixel_mm: float = 12.0
    """Beamlet width at the isocentre, 2 to 30 mm."""
    grid_mm: float = 7.0
    """Voxels of the planner's dose, 2 to 15 mm."""
    iterations: int = 100
    """Steps of the fluence optimisation."""

    def __post_init__(self) -> None:
        if not (2 <= self.bixel_mm <= 30 and 2 <= self.grid_mm <= 15 and self.iterations >= 1):
            raise ValueError(f"{self}: bixels of 2 to 30 mm, a grid of 2 to 15 mm, iterations from 1 on")
