"""A hard limit: what a plan has to keep, whatever its points."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anydose.score.metrics import parse, text

SMALLEST = 0.01  # a limit of 0 is broken in units of this


@dataclass(frozen=True)
class HardLimit:
    """What a plan has to keep, whatever its points. ValueError for a metric that is none, and unless exactly
    one of at_least and at_most is given."""

    structure: str
    """Name of the structure, matched like that of an item."""
    metric: str
    """As clinics write it: 'D95%[Gy]'."""
    at_least: float | None = None
    """In the metric's unit."""
    at_most: float | None = None
    """In the metric's unit."""

    def __post_init__(self) -> None:
        parse(self.metric)
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.structure} {self.metric}: one of AtLeast and AtMost is needed")

    @property
    def text(self) -> str:
        """'at least 66.5 Gy'."""
        side, value = ("at most", self.at_most) if self.at_least is None else ("at least", self.at_least)
        return f"{side} {value:g} {parse(self.metric).output or ''}".strip()

    def excess(self, value: float) -> float:
        """By how much of the limit `value` lies beyond it; 0 within."""
        if self.at_least is not None:
            return max(0.0, (self.at_least - value) / max(abs(self.at_least), SMALLEST))
        assert self.at_most is not None
        return max(0.0, (value - self.at_most) / max(abs(self.at_most), SMALLEST))

    def scaled(self, factor: float) -> HardLimit:
        """A limit with the doses in it, the bound's or the metric's own, multiplied by `factor`."""
        limit, of = self, parse(self.metric)
        if of.unit in ("Gy", "cGy") and of.value is not None:
            limit = replace(self, metric=text(replace(of, value=of.value * factor)))
        if of.output not in ("Gy", "cGy"):
            return limit
        if limit.at_least is not None:
            return replace(limit, at_least=limit.at_least * factor)
        assert limit.at_most is not None
        return replace(limit, at_most=limit.at_most * factor)
