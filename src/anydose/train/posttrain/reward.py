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
from anydose.score import binding, importers, metrics, scoring
from anydose.score.binding import BoundScorecard
from anydose.score.dvh import DVH
from anydose.score.metrics import Histogram, Number, as_float
from anydose.score.scorecard import Item, Point, Scorecard, templates
from anydose.score.scoring import Score
from anydose.score.structures import StructureReference

REWARDS = Path(__file__).parent / "rewards"
ENDLESS = 1e4  # units: a hinge's curve is straight to there
MEANS = ("reward", "scored", "hinge", "anchor", "mae_gy", "growth")  # what a log keeps of a reward


@dataclass(frozen=True)
class Constraint:
    """A hard limit on a metric. ValueError unless exactly one of `at_least` and `at_most` is given."""

    structure: str
    """The structure's TG-263 name or the scorecard's own."""
    metric: str
    """As a scorecard writes it: 'D95%[Gy]'."""
    weight: float
    """Reward lost per unit of the metric beyond the limit."""
    at_least: float | None = None
    """The lowest value that loses nothing."""
    at_most: float | None = None
    """The highest value that loses nothing."""

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
        return Item(StructureReference(template_id=self.structure), metrics.parse(self.metric), points)


@dataclass(frozen=True)
class Anchor:
    """Keeps the error in place: what is lost where MAE / the base model's MAE exceeds 1 + tolerance."""

    tolerance: float = 0.01
    """Growth of the error that loses nothing."""
    weight: float = 1.0
    """Reward lost per unit of growth beyond it."""


@dataclass(frozen=True)
class StopRule:
    """When post-training stops itself; both over the mean of the last `window` checks."""

    mae_growth: float = 0.02
    """Most that the watched patients' mean error may grow, as a share of the base model's."""
    constraint_loss: float = 0.01
    """Most reward that they may lose to the hard constraints."""
    window: int = 3
    """Checks that are averaged."""


@dataclass(frozen=True)
class RewardConfig:
    """What a reward file says."""

    name: str
    """The file's name without its suffix."""
    card: Scorecard
    """The scorecard whose share of points is the reward's main part."""
    constraints: tuple[Constraint, ...] = ()
    """Hard limits."""
    anchor: Anchor | None = None
    """The anchor on the error; None for none."""
    stop_rule: StopRule = StopRule()  # noqa: RUF009 (frozen)
    """When a run stops itself."""

    def bare(self) -> RewardConfig:
        """The scorecard without constraints and anchor: what a model would hack."""
        return RewardConfig(f"{self.name}, bare", self.card, stop_rule=self.stop_rule)


@dataclass(frozen=True)
class Reward:
    """A dose's reward and how it is made up."""

    total: Number
    """scored + hinge + anchor; a tensor if the dose was one."""
    scored: float
    """Total / maximum of the scorecard."""
    hinge: float
    """Lost to the hard constraints, <= 0."""
    anchor: float
    """Lost to the growth of the error, <= 0."""
    mae_gy: float | None
    """Mean absolute error to the reference dose within the body, in Gy; None without a reference."""
    growth: float | None
    """MAE / the base model's MAE - 1; None where either is not known."""
    score: Score
    """The scorecard, item by item."""
    limits: Score
    """The hard constraints, item by item."""

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
class RewardOnCase:
    """A reward held on one case: structures are found once, every dose after that is a page of sums. body:
    flat indices of the body; reference: the reference dose there (n,) in Gy, None if the case has none."""

    config: RewardConfig
    score: BoundScorecard
    limits: BoundScorecard
    body: Any
    reference: Any | None

    def moved(self, convert: Callable[[NDArray[Any]], Any]) -> RewardOnCase:
        """The same with `convert` (torch.from_numpy) applied to every array, for doses that are tensors."""
        reference = None if self.reference is None else convert(self.reference)
        parts = (self.score.moved(convert), self.limits.moved(convert), convert(self.body), reference)
        return RewardOnCase(self.config, *parts)

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
        score = scoring.score(self.score, dose, histogram)
        limits = scoring.score(self.limits, dose, histogram)
        scored = score.total / score.maximum if score.maximum else score.total
        mae = self.mae_gy(dose)
        growth = mae / base_mae_gy - 1 if mae is not None and base_mae_gy else None
        lost = self._lost_to_anchor(growth)
        return Reward(
            total=scored + limits.total + lost,
            scored=as_float(scored),
            hinge=as_float(limits.total),
            anchor=as_float(lost),
            mae_gy=None if mae is None else as_float(mae),
            growth=None if growth is None else as_float(growth),
            score=score,
            limits=limits,
        )

    def _lost_to_anchor(self, growth: Number | None) -> Number:
        """What the error's growth beyond the anchor's tolerance costs, <= 0; 0 where it is not known."""
        anchor = self.config.anchor
        if anchor is None or growth is None or as_float(growth) <= anchor.tolerance:
            return 0.0
        return -anchor.weight * (growth - anchor.tolerance)


def bind_reward(case: Case, config: RewardConfig) -> RewardOnCase:
    """Hold a reward on a case. ValueError for a case without a body."""
    if case.body is None:
        raise ValueError(f"{case.name}: no body structure; the error is measured within it")
    limits = Scorecard("hard constraints", tuple(c.item() for c in config.constraints))
    body = np.flatnonzero(case.body)
    reference = None if case.dose is None else case.dose.in_unit("Gy").reshape(-1)[body]
    return RewardOnCase(config, binding.bind(case, config.card), binding.bind(case, limits), body, reference)


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
        raise ValueError(f"{path}: a mapping with scorecard, constraints, anchor and stop_rule is needed")
    raw = {"stop_rule" if key == "guard" else key: value for key, value in raw.items()}  # its former name
    unknown = set(raw) - {"scorecard", "constraints", "anchor", "stop_rule"}
    if unknown:
        raise ValueError(f"{path}: {sorted(unknown)[0]!r} is not scorecard, constraints, anchor or stop_rule")
    card = templates().get(str(raw["scorecard"]), path.parent / str(raw["scorecard"]))
    rows = enumerate(raw.get("constraints") or (), start=1)
    constraints = tuple(_made(Constraint, row, f"{path}: constraint {n}") for n, row in rows)
    anchor = raw.get("anchor")
    return RewardConfig(
        path.stem,
        importers.read_any(card),
        constraints,
        None if anchor is None else _made(Anchor, anchor, f"{path}: anchor"),
        _made(StopRule, raw.get("stop_rule") or {}, f"{path}: stop_rule"),
    )


def own_reward(case: Case) -> RewardConfig:
    """The packaged reward whose scorecard is the packaged one that fits the case best; ValueError if none
    does."""
    wanted = binding.own_template(case).name
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
