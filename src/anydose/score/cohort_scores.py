"""The scores of a cohort: a row a case, figures with intervals, two models paired, and as files."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anydose.score import challenge
from anydose.score.dvh_bands import Curves
from anydose.score.metric_sets import DVH_ERROR
from anydose.score.spreadsheet import write_csv
from anydose.score.statistics import bootstrap, paired

if TYPE_CHECKING:
    from pandas import DataFrame

LOWER_IS_BETTER = ("_gy", "lpips")  # endings of such figures


@dataclass(frozen=True)
class CaseScore:
    """One case."""

    case: str
    """Its name."""
    figures: Mapping[str, float]
    """By name, with the unit in it."""
    seconds: float = 0.0
    """For the prediction."""
    has_ct: bool = True
    """Whether the case holds a CT."""
    notes: tuple[str, ...] = ()
    """What could not be computed, and why."""
    split: str = ""
    """The part of a cross-validation that the case belongs to."""
    curves: Curves = field(default_factory=dict)
    """DVH curves by structure, where they were asked for."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A model on a cohort."""

    about: Mapping[str, Any]
    """The model, how it was sampled, the cohort and the metrics."""
    cases: tuple[CaseScore, ...]
    """A row a case."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Case -> why there is no row of it."""

    def names(self) -> list[str]:
        """The figures that a table shows: all but the single DVH metrics."""
        every = dict.fromkeys(name for case in self.cases for name in case.figures)
        return [name for name in every if DVH_ERROR not in name]

    def values(self, figure: str) -> list[float]:
        """One figure of every case; not a number where a case has none."""
        return [case.figures.get(figure, math.nan) for case in self.cases]

    def summary(self) -> dict[str, Any]:
        """The cohort's figures: the mean of each with its 95 % interval, and OpenKBP's two official scores,
        whose DVH score averages over every metric of every patient. Raises ValueError for no case."""
        if not self.cases:
            raise ValueError("no case with a reference dose: nothing to evaluate")
        found: dict[str, Any] = {"patients": len(self.cases), "failed": len(self.failed)}
        found["patients_without_ct"] = sum(not case.has_ct for case in self.cases)
        if "openkbp_dose_gy" in self.names():
            dose, dvh = challenge.cohort_scores(self._dose_errors(), self._dvh_errors())
            found |= {"dose_score": round(dose, 4), "dvh_score": round(dvh, 4)}
        for name in self.names():
            interval = bootstrap(self.values(name))
            found[name] = round(interval.mean, 4)
            found[f"{name}_interval"] = [round(interval.low, 4), round(interval.high, 4)]
        return found | {"seconds_per_case": round(float(np.mean([c.seconds for c in self.cases])), 2)}

    def splits(self) -> dict[str, Evaluation]:
        """The parts of a cross-validation by name, in order; empty without one."""
        names = sorted({case.split for case in self.cases if case.split}, key=lambda name: (len(name), name))
        return {
            name: replace(self, cases=tuple(c for c in self.cases if c.split == name), failed={})
            for name in names
        }

    def of(self, cases: Collection[str]) -> Evaluation:
        """The evaluation of these cases alone."""
        return replace(self, cases=tuple(case for case in self.cases if case.case in cases))

    def _dose_errors(self) -> list[float]:
        return [c.figures["openkbp_dose_gy"] for c in self.cases if "openkbp_dose_gy" in c.figures]

    def _dvh_errors(self) -> list[dict[str, float]]:
        return [{k: v for k, v in c.figures.items() if DVH_ERROR in k} for c in self.cases]

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row a case."""
        of_split = bool(self.splits())
        return [
            {"case": c.case, **({"split": c.split} if of_split else {})}
            | {"seconds": c.seconds, "has_ct": c.has_ct, **c.figures}
            for c in self.cases
        ]

    def to_dataframe(self) -> DataFrame:
        """`to_rows` as a pandas table. Raises ValueError where pandas is not installed."""
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ValueError("to_dataframe needs pandas: pip install 'anydose[tables]'") from error
        return DataFrame(self.to_rows())

    def worst_first(self, figure: str) -> list[CaseScore]:
        """The cases that have the figure, the worst first."""
        sign = -1 if figure.endswith(LOWER_IS_BETTER) else 1
        having = [case for case in self.cases if math.isfinite(case.figures.get(figure, math.nan))]
        return sorted(having, key=lambda case: sign * case.figures[figure])

    def to_json(self) -> dict[str, Any]:
        """Everything but the DVH curves, as plain values."""
        cases = [asdict(replace(case, curves={})) for case in self.cases]
        parts = {name: part.summary() for name, part in self.splits().items()}
        whole = {"about": dict(self.about), "summary": self.summary(), "cases": cases, "failed": self.failed}
        return whole | ({"splits": parts} if parts else {})

    def __repr__(self) -> str:
        return f"Evaluation({self.about.get('model')}: {len(self.cases)} cases, {len(self.failed)} failed)"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(str(k))}<td>{escape(str(v))}" for k, v in self.summary().items())
        return f"<table>{rows}</table>"


def paired_models(first: Evaluation, second: Evaluation) -> dict[str, dict[str, float]]:
    """Two models on the same cases: for each figure both means, the mean difference (second minus first)
    with its 95 % interval, and Wilcoxon's p. Raises ValueError for other cases."""
    if [c.case for c in first.cases] != [c.case for c in second.cases]:
        raise ValueError("the two models were evaluated on different cases; the same are needed")
    out = {}
    for name in first.names():
        if name not in second.names():
            continue
        a, b = first.values(name), second.values(name)
        test = paired(a, b)
        out[name] = {
            "first": float(np.nanmean(a)),
            "second": float(np.nanmean(b)),
            "difference": test.difference.mean,
            "low": test.difference.low,
            "high": test.difference.high,
            "p": test.p,
        }
    return out


def write_table(evaluation: Evaluation, path: Path) -> None:
    """Write a row a case as CSV or, by its ending, parquet (extra: tables). Raises ValueError for another
    ending, or without what parquet needs."""
    rows = evaluation.to_rows()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".csv":
        write_csv(path, columns, ([row.get(name, "") for name in columns] for row in rows))
    elif path.suffix == ".parquet":
        try:
            evaluation.to_dataframe().to_parquet(path)
        except ImportError as error:
            raise ValueError("parquet needs pyarrow: pip install 'anydose[tables]'") from error
    else:
        raise ValueError(f"{path}: a table ending in .csv or .parquet is accepted")
