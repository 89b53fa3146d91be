"""One table of plan metrics: name, what it yields, how it is computed, and from where.

Every function is written in the few questions a histogram answers (`Histogram`), so the same row serves the
exact numpy `dvh.DVH` and the differentiable `soft.SoftDVH`; there is no second definition of a metric.
Doses are asked in Gy and volumes in cc; units are converted here alone. Source: PlanScoreCard's format."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from anydose.score.abscissa import refuse_impossible

Number = Any  # float with numpy, a scalar tensor with torch
GROUP = "anydose.metrics"
VOLUME_SLACK = 0.001  # of the input unit: the format's own tolerance on a volume


def as_float(number: Number) -> float:
    """A float or scalar tensor as a float, without its gradient."""
    return float(number.detach() if hasattr(number, "detach") else number)


class Histogram(Protocol):
    """What a metric may ask of a structure's dose: Gy and cc, floats or scalar tensors."""

    @property
    def volume_cc(self) -> float: ...  # noqa: D102
    @property
    def mean_gy(self) -> Number: ...  # noqa: D102
    @property
    def min_gy(self) -> Number: ...  # noqa: D102
    @property
    def max_gy(self) -> Number: ...  # noqa: D102
    def volume_at_gy(self, dose_gy: float) -> Number: ...  # noqa: D102
    def dose_at_cc(self, volume_cc: float) -> Number: ...  # noqa: D102
    def power_mean_gy(self, power: float) -> Number: ...  # noqa: D102


@dataclass(frozen=True)
class Definition:
    """What is asked of a structure's dose."""

    metric: str
    """A name of TABLE."""
    value: float | None = None
    """The abscissa, in `unit`."""
    unit: str | None = None
    """'Gy', 'cGy', 'cc' or '%'."""
    output: str | None = None
    """The unit of the answer; None for ratios."""
    high: float | None = None
    """Of homogeneity metrics in %, of gradient metrics in `target_unit`."""
    low: float | None = None
    """Like `high`."""
    target: float | None = None
    """The dose that homogeneity is relative to, in `target_unit`."""
    target_unit: str | None = None
    """'Gy', 'cGy' or '%'."""

    def __post_init__(self) -> None:
        refuse_impossible(self.metric, self.value, self.unit)


@dataclass(frozen=True)
class MetricInputs:
    """What a metric is computed from."""

    of: Definition
    """What is asked."""
    structure: Histogram
    """The dose of the structure."""
    body_or_none: Histogram | None = None
    """The dose of the body; None if the case has not exactly one."""
    total_or_none: float | None = None
    """The plan's prescription in Gy; None where it is not known."""

    @property
    def body(self) -> Histogram:
        """The body's histogram; ValueError if the case has not exactly one body."""
        if self.body_or_none is None:
            raise ValueError(
                f"{self.of.metric} needs the body, and the case has not exactly one EXTERNAL structure"
            )
        return self.body_or_none

    @property
    def value(self) -> float:
        """The abscissa; ValueError if the definition has none."""
        if self.of.value is None:
            raise ValueError(f"{self.of.metric} needs an InputValue, none is given")
        return self.of.value

    def gy(self, value: float, unit: str | None) -> float:
        """A dose in `unit` ('Gy', 'cGy', '%' of the plan's total dose) as Gy."""
        return value * self.gy_per(unit)

    def gy_per(self, unit: str | None) -> float:
        """Gy of one `unit`; ValueError for a unit that is not one of dose."""
        if unit == "%":
            if self.total_or_none is None:
                raise ValueError(f"{self.of.metric} in % needs the plan's prescription, which is not known")
            return self.total_or_none / 100.0
        if unit not in ("Gy", "cGy"):
            raise ValueError(f"{self.of.metric}: unit {unit!r} is no dose; Gy, cGy or % is accepted")
        return 1.0 if unit == "Gy" else 0.01

    def cc_per(self, unit: str | None) -> float:
        """Cubic centimetres of one `unit` ('cc', 'CC', '%' of the structure)."""
        if unit == "%":
            return self.structure.volume_cc / 100.0
        if unit not in ("cc", "CC"):
            raise ValueError(f"{self.of.metric}: unit {unit!r} is no volume; cc, CC or % is accepted")
        return 1.0

    @property
    def level_gy(self) -> float:
        """The abscissa as a dose in Gy."""
        return self.gy(self.value, self.of.unit)

    def as_dose(self, dose_gy: Number) -> Number:
        """A dose in Gy in the unit of the answer."""
        return dose_gy / self.gy_per(self.of.output)

    def as_volume(self, volume_cc: Number) -> Number:
        """A volume in cc in the unit of the answer."""
        return volume_cc / self.cc_per(self.of.output)


def _dose_at_volume(a: MetricInputs) -> Number:
    # the format's quirk: 0 and 100 mean maximum and minimum, in cc as well as in %
    if abs(a.value - 100) <= VOLUME_SLACK:
        return a.as_dose(a.structure.min_gy)
    if abs(a.value) <= VOLUME_SLACK:
        return a.as_dose(a.structure.max_gy)
    return a.as_dose(a.structure.dose_at_cc((a.value + VOLUME_SLACK) * a.cc_per(a.of.unit)))


def _dose_at_sub_volume(a: MetricInputs) -> Number:
    if a.of.unit not in ("cc", "CC"):
        raise ValueError(f"DoseAtSubVolume: unit {a.of.unit!r}; cc is accepted")
    rest = a.structure.volume_cc - a.value
    if rest < 0:
        raise ValueError(
            f"DoseAtSubVolume: {a.value:g} cc asked of a structure of {a.structure.volume_cc:.3g} cc"
        )
    return a.as_dose(a.structure.dose_at_cc(rest))


def _conformation_number(a: MetricInputs) -> Number:
    covered, irradiated = a.structure.volume_at_gy(a.level_gy), a.body.volume_at_gy(a.level_gy)
    return _ratio(a, covered * covered, irradiated * a.structure.volume_cc)


def _homogeneity(a: MetricInputs) -> Number:
    if a.of.output == "%":
        raise ValueError("HomogeneityIndex with OutputUnit % divides by (target - total dose): not supported")
    if a.of.target is None:
        raise ValueError("HomogeneityIndex needs HI_Target, none is given")
    high, low = (1.0 if a.of.high is None else a.of.high), (99.0 if a.of.low is None else a.of.low)
    return _ratio(a, _at_percent(a, high) - _at_percent(a, low), a.gy(a.of.target, a.of.target_unit))


def _modified_gradient(a: MetricInputs) -> Number:
    if a.of.low is None or a.of.high is None:
        raise ValueError("ModifiedGradientIndex needs HI_LowValue and HI_HiValue")
    unit = a.of.target_unit or a.of.unit or "Gy"
    low, high = (a.structure.volume_at_gy(a.gy(v, unit)) for v in (a.of.low, a.of.high))
    return _ratio(a, low, high)


def _at_percent(a: MetricInputs, percent: float) -> Number:
    return a.structure.dose_at_cc(percent / 100.0 * a.structure.volume_cc)


def _ratio(a: MetricInputs, above: Number, below: Number) -> Number:
    if not as_float(below) or not as_float(above):
        raise ValueError(f"{a.of.metric}: a factor of the ratio is zero")
    return above / below


def _undefined(a: MetricInputs) -> Number:
    raise ValueError("a metric of type Undefined is ignored")


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str
    """What a scorecard calls it."""
    yields: str
    """'dose', 'volume' or 'ratio'."""
    abscissa: str
    """What InputValue is: 'dose', 'volume', 'number' or ''."""
    function: Callable[[MetricInputs], Number]
    """Its value in the unit of the answer."""
    source: str = "PlanScoreCard"
    """The formula's paper, or the format that it belongs to."""
    with_body: bool = False
    """Whether it compares the structure with the whole body."""


PADDICK = "Paddick, J Neurosurg 93 suppl 3, 2000"
TABLE: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("MinDose", "dose", "", lambda a: a.as_dose(a.structure.min_gy)),
        Metric("MaxDose", "dose", "", lambda a: a.as_dose(a.structure.max_gy)),
        Metric("MeanDose", "dose", "", lambda a: a.as_dose(a.structure.mean_gy)),
        Metric("DoseAtVolume", "dose", "volume", _dose_at_volume),
        Metric("VolumeAtDose", "volume", "dose", lambda a: a.as_volume(a.structure.volume_at_gy(a.level_gy))),
        Metric("Volume", "volume", "", lambda a: 0.0),  # declared by the format, never computed
        Metric(
            "VolumeOfRegret",
            "volume",
            "dose",
            lambda a: a.as_volume(a.body.volume_at_gy(a.level_gy) - a.structure.volume_at_gy(a.level_gy)),
            with_body=True,
        ),
        Metric("ConformationNumber", "ratio", "dose", _conformation_number, with_body=True),
        Metric(
            "ConformityIndex",
            "ratio",
            "dose",
            lambda a: a.body.volume_at_gy(a.level_gy) / a.structure.volume_cc,
            with_body=True,
        ),
        Metric("HomogeneityIndex", "ratio", "", _homogeneity),
        Metric(
            "InhomogeneityIndex",
            "ratio",
            "",
            lambda a: _ratio(a, a.structure.max_gy - a.structure.min_gy, a.structure.mean_gy),
        ),
        Metric("ModifiedGradientIndex", "ratio", "", _modified_gradient),
        Metric("DoseAtSubVolume", "dose", "volume", _dose_at_sub_volume),
        Metric("Undefined", "ratio", "", _undefined),
        # beyond the format
        Metric("PaddickConformity", "ratio", "dose", _conformation_number, PADDICK, with_body=True),
        Metric(
            "RtogConformity",
            "ratio",
            "dose",
            lambda a: a.body.volume_at_gy(a.level_gy) / a.structure.volume_cc,
            "Shaw et al., IJROBP 27, 1993",
            with_body=True,
        ),
        Metric(
            "IcruHomogeneity",
            "ratio",
            "",
            lambda a: _ratio(a, _at_percent(a, 2) - _at_percent(a, 98), _at_percent(a, 50)),
            "ICRU report 83, 2010: (D2% - D98%) / D50%",
        ),
        Metric(
            "GradientIndex",
            "ratio",
            "dose",
            lambda a: _ratio(a, a.body.volume_at_gy(a.level_gy / 2), a.body.volume_at_gy(a.level_gy)),
            "Paddick and Lippitz, J Neurosurg 105 suppl, 2006: V(half the level) / V(level)",
            with_body=True,
        ),
        Metric(
            "EquivalentUniformDose",
            "dose",
            "number",
            lambda a: a.as_dose(a.structure.power_mean_gy(a.value)),
            "Niemierko, Med Phys 26, 1999: (sum v_i D_i^a)^(1/a), a = InputValue",
        ),
    )
}


def register(row: Metric) -> None:
    """Add a metric to this process; an installed package adds its own by an entry point of the group
    `anydose.metrics`, whose object is the row. ValueError for a name that another metric has."""
    if TABLE.setdefault(row.name, row) is not row:
        raise ValueError(f"metric {row.name!r}: the name is taken")


def find(name: str) -> Metric | None:
    """The metric of this name: of the table, or of an installed package; None if there is none."""
    for entry in entry_points(group=GROUP) if name not in TABLE else ():
        if entry.name == name:
            register(entry.load())
    return TABLE.get(name)


def evaluate(
    of: Definition, structure: Histogram, body: Histogram | None = None, total_gy: float | None = None
) -> Number:
    """The value of one metric in its OutputUnit (ratios have none). total_gy: the plan's prescribed dose,
    which % of dose refers to. Raises ValueError with one sentence for an unknown metric, a unit that does
    not fit, and a body, prescription or parameter that is missing."""
    row = find(of.metric)
    if row is None:
        raise ValueError(f"metric {of.metric!r} is not known; {', '.join(TABLE)} are")
    return row.function(MetricInputs(of, structure, body, total_gy))


def needs_body(of: Definition) -> bool:
    """True if the metric compares the structure with the whole body."""
    row = find(of.metric)
    return row is not None and row.with_body


_TEXT = re.compile(
    r"^\s*(?:(?P<kind>[DV])\s*(?P<value>\d*\.?\d+)\s*(?P<unit>%|cc|Gy|cGy)|(?P<plain>mean|max|min)(?:\s*dose)?)"
    r"\s*\[\s*(?P<output>%|cc|Gy|cGy)\s*\]\s*$",
    re.IGNORECASE,
)
_UNITS = {"%": "%", "cc": "cc", "gy": "Gy", "cgy": "cGy"}


def parse(text: str) -> Definition:
    """A metric as clinics write it, with the unit of the answer: 'D0.03cc[Gy]', 'V20Gy[%]', 'Mean[Gy]'.
    ValueError for anything else."""
    found = _TEXT.match(text)
    if found is None:
        raise ValueError(f"metric {text!r}; D0.03cc[Gy], V20Gy[%], Mean[Gy] and the like are accepted")
    output = _UNITS[found["output"].lower()]
    if found["plain"]:
        return Definition(f"{found['plain'].capitalize()}Dose", output=output)
    name = "DoseAtVolume" if found["kind"].upper() == "D" else "VolumeAtDose"
    return Definition(name, float(found["value"]), _UNITS[found["unit"].lower()], output)


def text(of: Definition) -> str:
    """A definition as clinics write it: 'D95%[Gy]', 'V20Gy[%]', 'MeanDose[Gy]', 'ConformityIndex 60Gy'."""
    letter = {"DoseAtVolume": "D", "VolumeAtDose": "V"}.get(of.metric)
    abscissa = "" if of.value is None else f"{of.value:g}{of.unit or ''}"
    unit = f"[{of.output}]" if of.output else ""
    if letter:
        return f"{letter}{abscissa}{unit}"
    row = find(of.metric)
    uses = row is not None and row.abscissa
    return of.metric + (f" {abscissa}" if abscissa and uses else "") + unit


def ntcp(histogram: Histogram, td50_gy: float, m: float, n: float) -> float:
    """Lyman-Kutcher-Burman complication probability in [0, 1]: Phi((gEUD - TD50) / (m TD50)) with gEUD
    exponent 1 / n (Lyman, Radiat Res Suppl 8, 1985; Kutcher and Burman, IJROBP 16, 1989). The parameters
    are the user's."""
    deviate = (as_float(histogram.power_mean_gy(1 / n)) - td50_gy) / (m * td50_gy)
    return 0.5 * (1 + math.erf(deviate / math.sqrt(2)))
