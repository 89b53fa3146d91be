"""Two doses of one case side by side, and two models over a cohort: numbers, intervals, paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anydose.case.case import Case
from anydose.case.volume import Volume, bounding_box
from anydose.score import challenge, spreadsheet
from anydose.score.binding import bind, own_template
from anydose.score.dvh import known_percent, structure_dvh, unknown
from anydose.score.gamma import gamma
from anydose.score.limits import BROKEN, counts
from anydose.score.metrics import evaluate, parse
from anydose.score.scoring import score
from anydose.score.statistics import Interval, bootstrap, paired

Dose = NDArray[np.floating[Any]]
Distance = Callable[[Dose, Dose], float]  # two doses (d, h, w) scaled to [0, 1] -> a number
ISODOSES_PERCENT = (20, 50, 80, 95)
GAMMAS = ((3.0, 3.0), (2.0, 2.0))  # percent of the reference's maximum, mm
TARGET_METRICS = ("D99%[Gy]", "D95%[Gy]", "D50%[Gy]", "D1%[Gy]", "Mean[Gy]")
ORGAN_METRICS = ("D0.1cc[Gy]", "Mean[Gy]")
SSIM_WINDOW = 7
NEITHER_REACHES = "no number, neither dose reaches that level"
LABELS = {
    "dose_mae_gy": "mean absolute error in the body (Gy)",
    "gdp_hmm_mae_gy": "GDP-HMM MAE, the reference normalised to D97 % as the challenge does (Gy)",
    "normalised_mae_gy": "GDP-HMM MAE, both doses normalised to D97 % (Gy)",
    "openkbp_dose_gy": "OpenKBP dose score (Gy)",
    "openkbp_dvh_gy": "OpenKBP DVH score (Gy)",
    "psnr_db": "PSNR (dB)",
    "ssim": "SSIM, three-dimensional",
    **{
        f"gamma_{p:g}_{mm:g}_pass_percent": f"gamma {p:g} %/{mm:g} mm, 10 % threshold (% passing)"
        for p, mm in GAMMAS
    },
    **{f"dice_{level}_percent": f"Dice of the {level} % isodose" for level in ISODOSES_PERCENT},
    "score_reference_percent": "scorecard, reference (%)",
    "score_percent": "scorecard, this dose (%)",
    "limits_broken_reference": "hard limits broken, reference",
    "limits_broken": "hard limits broken, this dose",
    "lowest_v95_reference_percent": "lowest target coverage V95, reference (%)",
    "lowest_v95_percent": "lowest target coverage V95, this dose (%)",
    "st_lpips": "ST-LPIPS (not comparable with LPIPS)",
    "lpips": "LPIPS (AlexNet)",
}


def psnr(reference: Dose, prediction: Dose) -> float:
    """Peak signal to noise in dB: 10 log10(peak^2 / mean squared error), the peak the reference's maximum;
    infinite for equal doses."""
    error = float(np.mean((reference.astype(np.float64) - prediction) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(float(reference.max()) ** 2 / error))


def ssim(reference: Dose, prediction: Dose) -> float:
    """Mean structural similarity in three dimensions: uniform window of 7 voxels, data range the reference's
    maximum, sample covariance, borders of half a window left out (Wang et al., IEEE TIP 13, 2004, as
    scikit-image computes it). ValueError for a dose smaller than the window."""
    if min(reference.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} voxels along every axis, the dose has {reference.shape}")
    x, y = reference.astype(np.float64), prediction.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    count = SSIM_WINDOW**3
    unbiased = count / (count - 1)
    var_x = unbiased * (_windowed(x * x) - mean_x**2)
    var_y = unbiased * (_windowed(y * y) - mean_y**2)
    covariance = unbiased * (_windowed(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * x.max()) ** 2, (0.03 * x.max()) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    similarity = luminance * (2 * covariance + c2) / (var_x + var_y + c2)
    rim = SSIM_WINDOW // 2
    return float(similarity[rim:-rim, rim:-rim, rim:-rim].mean())


def _windowed(values: Dose) -> Dose:
    """The mean over the window about each voxel."""
    return np.asarray(ndimage.uniform_filter(values, SSIM_WINDOW))


def isodose_dice(reference: Dose, prediction: Dose, level_gy: float) -> float:
    """Dice overlap of the volumes that receive `level_gy` or more; not a number if neither reaches it."""
    a, b = reference >= level_gy, prediction >= level_gy
    both = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / both if both else float("nan")


def dvh_differences(
    case: Case, reference: Volume, prediction: Volume
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """(reference, prediction) in Gy for D99, D95, D50, D1 and the mean of every target, D0.1cc and the mean
    of every organ: {'PTV70 D95%[Gy]': (66.1, 65.8)}; and sentences on structures that have none because a
    dose is unknown there. Empty structures have none."""
    found: dict[str, tuple[float, float]] = {}
    notes = []
    organs = case.of_role("oar")
    for name, mask in case.structures.items():
        is_target = name in case.prescription.levels_gy
        if not mask.any() or not (is_target or name in organs):
            continue
        try:
            truth, guess = (structure_dvh(case, dose, name) for dose in (reference, prediction))
        except ValueError as error:
            notes.append(f"{name}: {error}")
            continue
        for text in TARGET_METRICS if is_target else ORGAN_METRICS:
            of = parse(text)
            found[f"{name} {text}"] = (float(evaluate(of, truth)), float(evaluate(of, guess)))
    return found, notes


@dataclass(frozen=True)
class Comparison:
    """One case. figures: name -> number, the units in the names; dvh: metric -> (reference, prediction) in
    Gy; notes: what could not be computed and why."""

    case: str
    figures: Mapping[str, float]
    dvh: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, float | str]:
        """One flat line of a table."""
        return {
            "case": self.case,
            **self.figures,
            **{f"{k} difference": b - a for k, (a, b) in self.dvh.items()},
        }


def compare(
    case: Case, reference: Volume, prediction: Volume, perceptual: Mapping[str, Distance] | None = None
) -> Comparison:
    """Compare a predicted dose with the reference.

    Args:
        case: whose structures and prescription are meant.
        reference: in Gy on the case's grid, not a number where it is unknown.
        prediction: likewise.
        perceptual: distances of two doses scaled by the reference's maximum, by name ('st_lpips', 'lpips').

    Returns:
        Errors over that part of the body where both doses are known, and what needs all of it where they are
        known everywhere. What cannot be computed is left out and noted.

    Raises:
        ValueError: another unit or grid, and doses that meet nowhere in the body.
    """
    truth, guess = reference.in_unit("Gy"), prediction.in_unit("Gy")
    for dose in (reference, prediction):
        if not dose.grid.matches(case.grid):
            raise ValueError(f"{case.name}: a dose on the case's own grid is needed; resample it first")
    body = case.body if case.body is not None else np.ones(case.grid.shape, dtype=bool)
    both = np.isfinite(truth) & np.isfinite(guess)
    share = known_percent(np.where(both, 0.0, np.nan)[body])
    if share == 0:
        raise ValueError(f"{case.name}: the two doses meet nowhere in the body")
    box = tuple(slice(s, s + n) for s, n in zip(*bounding_box(body), strict=True))
    differences, notes = dvh_differences(case, reference, prediction)
    if share < 100:
        notes.insert(0, f"body: {unknown(share)}; errors and gamma are those of that part")

    def whole(figure: Callable[[], float]) -> Callable[[], float]:
        """The figure, where both doses are known in the whole body."""
        return figure if share == 100 else partial(_refuse, unknown(share))

    parts: dict[str, Callable[[], float]] = {
        "dose_mae_gy": lambda: float(np.abs(truth - guess)[body & both].mean(dtype=np.float64)),
        "gdp_hmm_mae_gy": whole(lambda: _gdp_hmm(case, truth, guess, body)),
        "normalised_mae_gy": whole(lambda: _normalised_mae(case, truth, guess, body)),
        "openkbp_dose_gy": whole(lambda: challenge.dose_error(truth, guess, body)),
        "openkbp_dvh_gy": whole(lambda: _openkbp_dvh(case, truth, guess, body)),
        "psnr_db": whole(lambda: psnr(truth[box], guess[box])),
        "ssim": whole(lambda: ssim(truth[box], guess[box])),
    }
    for percent, mm in GAMMAS:
        parts[f"gamma_{percent:g}_{mm:g}_pass_percent"] = _gamma(reference, prediction, percent, mm)
    for level in ISODOSES_PERCENT:
        parts[f"dice_{level}_percent"] = whole(_dice(case, truth, guess, level))
    for name, distance in (perceptual or {}).items():
        top = float(np.nanmax(truth))
        parts[name] = whole(partial(distance, truth[box] / top, guess[box] / top))
    figures: dict[str, float] = {}
    for name, figure in parts.items():
        try:
            value = figure()
        except ValueError as error:
            notes.append(f"{name}: {error}")
            continue
        if np.isfinite(value):
            figures[name] = value
        else:
            notes.append(f"{name}: {'infinite, the doses are equal' if value > 0 else NEITHER_REACHES}")
    scored, said = scores(case, reference, prediction)
    return Comparison(case.name, figures | scored, differences, (*notes, *said))


def _refuse(why: str) -> float:
    raise ValueError(why)


def scores(case: Case, reference: Volume, prediction: Volume) -> tuple[dict[str, float], list[str]]:
    """Points, broken hard limits and the lowest target coverage of both doses with the packaged scorecard
    that fits, and sentences on what is left out."""
    try:
        bound = bind(case, own_template(case))
    except ValueError as error:
        return {}, [f"score_percent: {error}"]
    figures: dict[str, float] = {}
    notes = []
    for key, dose in (("_reference", reference), ("", prediction)):
        found = score(bound, dose)
        if found.withheld:
            notes.append(f"score{key}_percent: {found.withheld}")
        else:
            figures[f"score{key}_percent"] = found.percent
        figures[f"limits_broken{key}"] = counts(found.limits)[BROKEN]
        known = [row.v95_percent for row in found.targets if row.v95_percent is not None]
        if known:
            figures[f"lowest_v95{key}_percent"] = min(known)
    return figures, notes


def _highest_target(case: Case) -> NDArray[np.bool_]:
    levels = case.prescription.levels_gy
    if not levels:
        raise ValueError("no target with a prescription")
    return case.structures[max(levels, key=lambda name: levels[name])]


def _gdp_hmm(case: Case, truth: Dose, guess: Dose, body: NDArray[np.bool_]) -> float:
    """As the challenge counts: its reference is normalised to the prescription, a prediction is taken as it
    is."""
    target = _highest_target(case)
    normalised = challenge.normalise_to_d97(truth, target, case.rx_max_gy)
    return challenge.gdp_hmm_mae(normalised, guess, body)


def _normalised_mae(case: Case, truth: Dose, guess: Dose, body: NDArray[np.bool_]) -> float:
    target = _highest_target(case)
    truth, guess = (challenge.normalise_to_d97(dose, target, case.rx_max_gy) for dose in (truth, guess))
    return challenge.gdp_hmm_mae(truth, guess, body)


def _openkbp_dvh(case: Case, truth: Dose, guess: Dose, body: NDArray[np.bool_]) -> float:
    errors = challenge.dvh_errors(truth, guess, case.structures, body, 1000 * case.grid.voxel_cc)
    if not errors:
        raise ValueError("no structure of the OpenKBP metrics")
    return float(np.mean(list(errors.values())))


def _gamma(reference: Volume, prediction: Volume, percent: float, mm: float) -> Callable[[], float]:
    return lambda: gamma(reference, prediction, percent, mm).pass_percent


def _dice(case: Case, truth: Dose, guess: Dose, percent: int) -> Callable[[], float]:
    return lambda: isodose_dice(truth, guess, percent / 100 * case.rx_max_gy)


def cohort(first: Sequence[Comparison], second: Sequence[Comparison] = ()) -> dict[str, dict[str, float]]:
    """Per figure that a case has the mean and interval over the cases, and with a `second` model on the same
    cases its own, the mean difference and p. ValueError if the cases differ."""
    if second and [c.case for c in first] != [c.case for c in second]:
        raise ValueError("the two models were compared on different cases")
    out = {}
    for name in dict.fromkeys(n for c in first for n in c.figures):
        values = [c.figures.get(name, np.nan) for c in first]
        line = _line("", bootstrap(values))
        if second:
            others = [c.figures.get(name, np.nan) for c in second]
            line |= _versus(values, others) if np.isfinite(np.add(values, others)).any() else {}
        out[name] = line
    return out


def _versus(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """A second model's figure beside the first's, of the cases where both have one."""
    test = paired(values, others)
    return _line("versus_", bootstrap(others)) | _line("difference_", test.difference) | {"p": test.p}


def _line(prefix: str, interval: Interval) -> dict[str, float]:
    return {f"{prefix}{k}": getattr(interval, k) for k in ("mean", "low", "high", "n")}


def text(table: Mapping[str, Mapping[str, float]]) -> str:
    """The cohort table for a terminal, each figure with what it is. An interval stands there from two cases
    on."""
    lines = []
    for name, line in table.items():
        shown = f"{name:28} {_shown(line, ''):28}"
        if "p" in line:
            shown += f" versus {_shown(line, 'versus_')}, difference {_shown(line, 'difference_', '+')}"
            shown += f", p = {line['p']:.2g}"
        lines.append(f"{shown} {LABELS.get(name, '')}".rstrip())
    return "\n".join(lines)


def _shown(line: Mapping[str, float], prefix: str, sign: str = "") -> str:
    mean, low, high = (format(line[f"{prefix}{key}"], f"{sign}.3f") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if line["n"] > 1 else mean


def write_csv(table: Sequence[Comparison], path: Path) -> None:
    """One line a case; the columns are those of all cases together."""
    rows = [comparison.row() for comparison in table]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = []
    for row in rows:
        cells.append([row.get(column, "") for column in columns])
    spreadsheet.write_csv(path, columns, cells)
