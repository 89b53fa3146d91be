"""The reward of post-training: a scorecard's total, hard constraints and an anchor on the error.

reward = total / maximum - sum of hinges - anchor. The total is that of `score.scoring.score`, the function
behind `anydose score`, and a hard constraint is one more scorecard item whose curve falls without end, so
both have gradients where the dose is a tensor. All weights and limits come from one YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.score import importers, metrics, scoring
from anydose.score.dvh import DVH
from anydose.score.metrics import Histogram, Number, as_float
from anydose.score.scorecard import Item, Point, Scorecard, templates
from anydose.score.scoring import Held, Score
from anydose.score.structures import Wanted

REWARDS = Path(__file__).parent / "rewards"
ENDLESS = 1e4  # units: a hinge's curve is straight to there
MEANS = ("reward", "scored", "hinge", "anchor", "mae_gy", "growth")  # what a log keeps of a reward


@dataclass(frozen=True)
class Constraint:
    """A hard limit: `metric` (as 'D95%[Gy]') of `structure` is at least or at most so much; weight: reward
    lost per unit of the metric beyond it. ValueError unless exactly one of the two limits is given."""

    structure: str
    metric: str
    weight: float
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        metrics.parse(self.metric)
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.structure} {self.metric}: one of at_least and at_most is needed")

    def item(self) -> Item:
        """The scorecard item that scores 0 within the limit and -weight per unit beyond it."""
        lost = Point(0.0, -self.weight * ENDLESS)
        limit, side = (self.at_least, -1) if self.at_least is not None else (self.at_most, 1)
        assert limit is not None
        points = (Point(limit, 0.0), Point(limit + side * ENDLESS, lost.score))
        return Item(Wanted(template_id=self.structure), metrics.parse(self.metric), points)


@dataclass(frozen=True)
class Anchor:
    """weight: reward lost per unit by which MAE / the base model's MAE exceeds 1 + tolerance."""

    tolerance: float = 0.01
    weight: float = 1.0


@dataclass(frozen=True)
class Guard:
    """When post-training stops itself: the watched patients' mean error grew by more than `mae_growth` (of
    the base model's), or they lost more than `constraint_loss` of reward to the hard constraints, both over
    the mean of the last `window` checks."""

    mae_growth: float = 0.02
    constraint_loss: float = 0.01
    window: int = 3


@dataclass(frozen=True)
class RewardConfig:
    """What a reward file says. anchor: None for no anchor."""

    name: str
    card: Scorecard
    constraints: tuple[Constraint, ...] = ()
    anchor: Anchor | None = None
    guard: Guard = Guard()  # noqa: RUF009 (frozen)

    def without_guards(self) -> RewardConfig:
        """The bare scorecard: what a model would hack."""
        return RewardConfig(f"{self.name}, unguarded", self.card, guard=self.guard)


@dataclass(frozen=True)
class Reward:
    """A dose's reward and how it is made up. total: a tensor if the dose was one; scored: total / maximum of
    the scorecard; hinge, anchor: what is lost, <= 0; mae_gy: to the reference dose within the body, None
    without one; growth: MAE / base MAE - 1, None where either is not known."""

    total: Number
    scored: float
    hinge: float
    anchor: float
    mae_gy: float | None
    growth: float | None
    score: Score
    limits: Score

    def parts(self) -> dict[str, Any]:
        """What it is made of, by the names of MEANS."""
        return {"reward": as_float(self.total)} | {k: getattr(self, k) for k in MEANS[1:]}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return {
            **self.parts(),
            "scorecard": self.score.to_json(),
            "constraints": [
                {"structure": r.structure, "metric": r.metric, "value": r.value, "reward": r.score}
                for r in self.limits.items
            ],
        }

    def text(self) -> str:
        """A table for a terminal."""
        lines = [self.score.text(), "", "hard constraints"]
        for r in self.limits.items:
            value = f"{r.value:10.2f} {r.unit or '':3}" if r.value is not None else f"{'-':>10}    "
            lost = f"{r.score:8.4f}" if r.score is not None else f"{'-':>8}  {r.why}"
            lines.append(f"{r.structure:20.20} {r.metric:24.24} {value} {lost}")
        error = "no reference dose" if self.mae_gy is None else f"MAE {self.mae_gy:.3f} Gy"
        grown = (
            "no base error to compare with" if self.growth is None else f"{self.growth:+.1%} of the base's"
        )
        lines += ["", f"anchor: {error}, {grown}", ""]
        parts = f"score {self.scored:.4f}, constraints {self.hinge:+.4f}, anchor {self.anchor:+.4f}"
        return "\n".join([*lines, f"reward {as_float(self.total):.4f} = {parts}"])


@dataclass(frozen=True)
class Judge:
    """A reward held on one case: structures are found once, every dose after that is a page of sums. body:
    flat indices of the body; reference: the reference dose there (n,) in Gy, None if the case has none."""

    config: RewardConfig
    score: Held
    limits: Held
    body: Any
    reference: Any | None

    def moved(self, convert: Callable[[NDArray[Any]], Any]) -> Judge:
        """The same with `convert` (torch.from_numpy) applied to every array, for doses that are tensors."""
        reference = None if self.reference is None else convert(self.reference)
        parts = (self.score.moved(convert), self.limits.moved(convert), convert(self.body), reference)
        return Judge(self.config, *parts)

    def mae_gy(self, dose: Any) -> Number | None:
        """Mean absolute error of a dose (d, h, w) in Gy to the reference, within the body."""
        if self.reference is None:
            return None
        return abs(dose.reshape(-1)[self.body] - self.reference).mean()

    def reward(
        self, dose: Any, base_mae_gy: float | None = None, histogram: Callable[[Any, float], Histogram] = DVH
    ) -> Reward:
        """The reward of a dose (d, h, w) in Gy on the case's grid. base_mae_gy: the base model's own error
        for this case, which the anchor is relative to; without it there is no anchor. histogram: as in
        `scoring.score`."""
        found = scoring.score(self.score, dose, histogram)
        limits = scoring.score(self.limits, dose, histogram)
        scored = found.total / found.maximum if found.maximum else found.total
        mae, lost, growth = self.mae_gy(dose), 0.0, None
        if mae is not None and base_mae_gy:
            excess = mae / base_mae_gy - 1
            growth, anchor = as_float(excess), self.config.anchor
            if anchor is not None and growth > anchor.tolerance:
                lost = -anchor.weight * (excess - anchor.tolerance)
        parts = (as_float(scored), as_float(limits.total), as_float(lost))
        total = scored + limits.total + lost
        return Reward(total, *parts, None if mae is None else as_float(mae), growth, found, limits)


def judge(case: Case, config: RewardConfig) -> Judge:
    """Hold a reward on a case. ValueError for a case without a body."""
    if case.body is None:
        raise ValueError(f"{case.name}: no body structure; the error is measured within it")
    limits = Scorecard("hard constraints", tuple(c.item() for c in config.constraints))
    body = np.flatnonzero(case.body)
    reference = None if case.dose is None else case.dose.in_unit("Gy").reshape(-1)[body]
    return Judge(config, scoring.hold(case, config.card), scoring.hold(case, limits), body, reference)


def packaged() -> dict[str, Path]:
    """The reward files that come with the package, by name."""
    return {path.stem: path for path in sorted(REWARDS.glob("*.yaml"))}


def read_reward(source: str | Path) -> RewardConfig:
    """A reward from a packaged one's name or a YAML file. ValueError with one sentence for a file that is
    none: an unknown key, a value that is no number, a metric or scorecard that is not known."""
    path = packaged().get(str(source), Path(source))
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{source}: no reward file; {', '.join(packaged())} or a .yaml is accepted"
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not a YAML file ({error})") from error
    if not isinstance(raw, dict) or "scorecard" not in raw:
        raise ValueError(f"{path}: a mapping with scorecard, constraints, anchor and guard is needed")
    unknown = set(raw) - {"scorecard", "constraints", "anchor", "guard"}
    if unknown:
        raise ValueError(f"{path}: {sorted(unknown)[0]!r} is not scorecard, constraints, anchor or guard")
    card = templates().get(str(raw["scorecard"]), path.parent / str(raw["scorecard"]))
    rows = enumerate(raw.get("constraints") or (), start=1)
    constraints = tuple(_made(Constraint, row, f"{path}: constraint {n}") for n, row in rows)
    anchor = raw.get("anchor")
    return RewardConfig(
        path.stem,
        importers.read_any(card),
        constraints,
        None if anchor is None else _made(Anchor, anchor, f"{path}: anchor"),
        _made(Guard, raw.get("guard") or {}, f"{path}: guard"),
    )


def own_reward(case: Case) -> RewardConfig:
    """The packaged reward whose scorecard is the packaged one that fits the case best; ValueError if none
    does."""
    wanted = scoring.own_template(case).name
    for path in packaged().values():
        config = read_reward(path)
        if config.card.name == wanted:
            return config
    raise ValueError(f"{case.name}: no packaged reward for the scorecard {wanted!r}; give one")


def _made(kind: Any, raw: Any, where: str) -> Any:
    """A dataclass from a YAML mapping."""
    known = {f.name: f.type for f in fields(kind)}
    if not isinstance(raw, Mapping) or set(raw) - set(known):
        raise ValueError(f"{where}: a mapping of {', '.join(known)} is needed, {raw!r} found")
    values = {}
    for key, value in raw.items():
        text = known[key] == "str"
        if isinstance(value, bool) or not isinstance(value, str if text else (int, float)):
            raise ValueError(f"{where}: {key} {value!r} found, {'text' if text else 'a number'} is needed")
        values[key] = value if text or known[key] == "int" else float(value)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
