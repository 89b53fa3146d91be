"""What no patient has: numbers that say that a file was misread or is none of a patient. They are refused,
with the way to say otherwise where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.beams import Beam
from anydose.case.case import Case, Mask, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume, block, bounding_box

VOXEL_MM = (0.1, 20.0)
EXTENT_MM = 3000.0
FURTHEST_MM = 20000.0  # scanners count from the middle of their bore or from the end of the table
HOT, COLD = 1.3, 0.9  # maximum and target median against the prescription: no clinical plan is beyond
TRIVIAL_GY = 1.0
WATER_HU = (-250.0, 300.0)  # mean CT number of a body: lungs included, metal excluded
FAR_MM = 500.0  # an isocentre this far outside the scan belongs to something else
NO_AIR_HU = -700.0  # of the lowest CT number, and of the median around the body
LESS_THAN_AIR_HU = -1300.0  # of that median: padding may lie there, air does not
FEW_AROUND = 1000  # voxels: fewer around a body say nothing
LARGE_VOXELS = 16_000_000
HU = (-40000.0, 70000.0)  # CT stores 16 bits; padding and metal reach far, nothing reaches further
BELOW_ZERO_GY = -0.01  # rounding of an interpolated dose; a dose is never negative
OVER_RX = 3.0  # times the highest prescription: beyond any hot spot of a plan
NO_RX_GY = 300.0  # the limit where no prescription is known
UNITS = {"Gy": 1.0, "cGy": 0.01}


@dataclass(frozen=True)
class DoseReading:
    """What the user says of a dose that its file does not."""

    unit: str = "Gy"
    """Unit of the numbers in a file that states none: 'Gy' or 'cGy'."""
    allow_above_gy: float | None = None
    """Accept doses up to here, in Gy; None for 3 times the highest prescription."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"--dose-unit {self.unit}: {' or '.join(UNITS)} is accepted")


def in_gy(dose: Volume, reading: DoseReading) -> Volume:
    """A dose whose file states no unit, in Gy."""
    return dose if reading.unit == "Gy" else replace(dose, array=dose.array * np.float32(UNITS[reading.unit]))


def check_grid(grid: Grid, where: str) -> None:
    """ValueError for voxels or an extent that no scan of a patient has."""
    low, high = VOXEL_MM
    if not all(low <= spacing <= high for spacing in grid.spacing_mm):
        found = " x ".join(f"{spacing:g}" for spacing in grid.spacing_mm)
        raise ValueError(f"{where}: voxels of {found} mm; {low:g} to {high:g} mm is accepted")
    furthest = float(np.abs(grid.origin_mm).max())
    if not furthest <= FURTHEST_MM:
        raise ValueError(
            f"{where}: begins {furthest:g} mm from the origin; up to {FURTHEST_MM:g} is accepted"
        )
    extent = np.multiply(grid.spacing_mm, grid.shape[::-1])
    if extent.max() > EXTENT_MM:
        raise ValueError(f"{where}: {extent.max():.0f} mm long; up to {EXTENT_MM:.0f} mm is accepted")


def check_ct(ct: Volume, where: str) -> None:
    """ValueError for CT numbers that are none."""
    low, high = float(ct.array.min()), float(ct.array.max())
    if not (HU[0] <= low and high <= HU[1]):
        raise ValueError(
            f"{where}: CT numbers from {low:g} to {high:g} HU; {HU[0]:g} to {HU[1]:g} HU is accepted"
        )


def check_beams(beams: Sequence[Beam], grid: Grid, where: str) -> None:
    """ValueError for a beam whose isocentre lies far from the scan."""
    for beam in beams:
        index = grid.to_index(beam.isocentre_mm)
        beyond = np.maximum(np.maximum(-index, index - np.array(grid.shape) + 1), 0)
        mm = float((beyond * grid.spacing_zyx_mm).max())
        if not mm <= FAR_MM:
            raise ValueError(
                f"{where}: the isocentre of beam {beam.name!r} lies {mm:.0f} mm outside the scan; up to "
                f"{FAR_MM:g} mm is accepted"
            )


def check_dose(dose: Volume, prescription: Prescription, reading: DoseReading, where: str) -> None:
    """ValueError for a dose that is negative, infinite, nowhere known, or beyond what a plan with this
    prescription has. Voxels that are not a number are unknown: beyond the dose's own grid."""
    gy = dose.in_unit("Gy")
    known = gy[~np.isnan(gy)]
    if not known.size or not np.isfinite(known).all():
        raise ValueError(f"{where}: a dose with values that are no finite number; finite ones are accepted")
    low, high = float(known.min()), float(known.max())
    if low < BELOW_ZERO_GY:
        raise ValueError(f"{where}: a dose of {low:g} Gy; a dose is never negative, 0 or more is accepted")
    highest = max(prescription.levels_gy.values(), default=None)
    limit = NO_RX_GY if highest is None else OVER_RX * highest
    if high <= (limit if reading.allow_above_gy is None else reading.allow_above_gy):
        return
    of_what = "without a prescription" if highest is None else f"for {highest:g} Gy prescribed"
    units = ""
    if reading.unit == "Gy" and high / 100 <= limit:
        units = "; --dose-unit cGy reads centigray"
    raise ValueError(
        f"{where}: a dose of {high:g} Gy {of_what}; up to {reading.allow_above_gy or limit:g} Gy is accepted"
        f"{units}; --allow-dose-above {np.ceil(high):.0f} accepts this one"
    )


def on_case(dose: Volume, case: Case, where: str) -> Volume:
    """The dose on the grid of `case`, not a number where the dose's own grid does not reach: there it is
    unknown. ValueError for a dose that reaches no voxel of the case's structures."""
    if dose.grid.matches(case.grid):
        return dose
    moved = dose.resample(case.grid, outside=np.nan)
    known = ~np.isnan(moved.array)
    inside = np.zeros_like(known)
    for mask in case.structures.values():
        inside |= mask
    if not known.any() or (inside.any() and not (known & inside).any()):
        corner = ", ".join(f"{mm:.0f}" for mm in dose.grid.to_mm(np.subtract(dose.grid.shape, 1) / 2))
        own = ", ".join(f"{mm:.0f}" for mm in case.grid.to_mm(np.subtract(case.grid.shape, 1) / 2))
        raise ValueError(
            f"{where}: the dose's grid, centred at ({corner}) mm, does not meet the case, centred at ({own}) "
            "mm; a dose in the patient's own coordinates is accepted"
        )
    return moved


def suspicious(case: Case) -> Iterator[str]:
    """Sentences on CT numbers and doses that a patient could have but hardly ever has."""
    bodies = list(case.of_role("body").values())
    if case.ct is not None:
        lowest = float(case.ct.array.min())
        if lowest > NO_AIR_HU and case.source.format != "store":  # which is cropped to the patient
            yield f"ct: no air found (lowest value {lowest:g} HU): check the rescale of the series"
        mean = float(case.ct.array[bodies[0]].mean()) if len(bodies) == 1 and bodies[0].any() else 0.0
        if not WATER_HU[0] <= mean <= WATER_HU[1]:
            yield f"ct: mean of {mean:.0f} HU in the body"
        around = _around(case.ct.array, bodies[0]) if len(bodies) == 1 else np.empty(0)
        if around.size > FEW_AROUND and np.median(around) > NO_AIR_HU:
            yield f"ct: median of {np.median(around):.0f} HU around the body, which is no air"
        if around.size > FEW_AROUND and np.median(around) < LESS_THAN_AIR_HU:
            yield f"ct: median of {np.median(around):.0f} HU around the body, which is less than air has"
    still = [(*beam.gantry_deg, beam.couch_deg, beam.isocentre_mm) for beam in case.beams if not beam.is_arc]
    if len(set(still)) < len(still):
        yield f"beams: {len(still) - len(set(still))} of {len(still)} come from where another one does"
    if case.dose is not None:
        yield from unusual_dose(case.dose, case)


def _around(ct: NDArray[Any], body: Mask) -> NDArray[Any]:
    """CT numbers outside of the body: of all voxels, or of every second one along each axis of a large CT."""
    every = 1 if ct.size <= LARGE_VOXELS else 2
    thinned = (slice(None, None, every),) * 3
    return np.asarray(ct[thinned][~body[thinned]])


def unusual_dose(dose: Volume, case: Case) -> Iterator[str]:
    """Sentences on a dose on the case's grid that does not look like one of its prescription."""
    highest, lowest = float(np.nanmax(dose.array)), float(np.nanmin(dose.array))
    if lowest < 0:
        yield f"dose: {np.count_nonzero(dose.array < 0)} voxels below 0 Gy, down to {lowest:g} Gy"
    if highest < TRIVIAL_GY:
        yield f"dose: at most {highest:g} Gy"
    elif case.prescription.levels_gy:
        ratio = highest / case.rx_max_gy
        if not COLD <= ratio <= HOT:
            yield f"dose: maximum {highest:.1f} Gy is {ratio:.0%} of the highest prescription"
        for name, level in case.prescription.levels_gy.items():
            known = dose.array[case.structures[name]]
            known = known[~np.isnan(known)]
            if known.size and np.median(known) < COLD * level:
                yield f"{name}: median {np.median(known):.1f} Gy for {level:g} Gy prescribed"


def covered_in_part(case: Case) -> list[str]:
    """One sentence on the structures that the case's dose grid covers in part; none where it covers all."""
    if case.dose is None:
        return []
    known = ~np.isnan(case.dose.array)
    if known.all():
        return []
    parts = {name: float(known[mask].mean()) for name, mask in case.structures.items() if mask.any()}
    short = [f"{100 * part:.1f} % of {name}" for name, part in parts.items() if part < 1]
    return [f"dose: its grid covers {', '.join(short)}; beyond it the dose is unknown"] if short else []


def known_part(dose: Volume) -> Volume:
    """The block of a dose in which it is known. ValueError if some of it is unknown within."""
    known = ~np.isnan(dose.array)
    if known.all():
        return dose
    start, shape = bounding_box(known)
    part = Volume(block(dose.array, start, shape, np.nan), dose.grid.crop(start, shape), dose.unit)
    if np.isnan(part.array).any():
        raise ValueError(
            "a dose that is unknown in the middle of its grid; one on a grid along the CT's is accepted"
        )
    return part
