"""Where a metric may be asked for: D at a volume that a patient has, V at a dose that a plan could give."""

from __future__ import annotations

HIGHEST: dict[tuple[str, str | None], float] = {
    ("DoseAtVolume", "%"): 100,
    ("DoseAtVolume", "cc"): 1_000_000,
    ("VolumeAtDose", "%"): 1_000,
    ("VolumeAtDose", "Gy"): 1_000,
    ("VolumeAtDose", "cGy"): 100_000,
}
"""(metric, unit) -> the most that there is."""


def refuse_impossible(metric: str, value: float | None, unit: str | None) -> None:
    """Raises ValueError for a value that no patient or plan has. Metrics without an abscissa have no such."""
    most = HIGHEST.get((metric, unit))
    if most is not None and value is not None and not 0 <= value <= most:
        raise ValueError(f"{metric} at {value:g} {unit}; 0 to {most:g} is accepted")
