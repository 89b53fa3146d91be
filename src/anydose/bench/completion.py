"""Every modality completed from the others, beside what one would say without a model; and the dose as
conditions are taken away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from anydose.bench import averages
from anydose.bench.patients import Modelled
from anydose.bench.registry import Row, Rows, benchmark
from anydose.case import modality
from anydose.case.case import Case
from anydose.complete import answer, ask
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.checkpoint import load_model
from anydose.model.options import Options
from anydose.score import completion

ALL_GIVEN = "all"
# Which conditions a dose is predicted from, fewer and fewer; a beam's plate is the target's shadow.
GIVEN_FOR_DOSE = {
    ALL_GIVEN: ("ct", "ptv", "oar", "body", "beam", "angle"),
    "without ct": ("ptv", "oar", "body", "beam", "angle"),
    "without beam": ("ct", "ptv", "oar", "body", "angle"),
    "without beam, angle": ("ct", "ptv", "oar", "body"),
    "without oar": ("ct", "ptv", "body", "beam", "angle"),
    "without body": ("ct", "ptv", "oar", "beam", "angle"),
    "without ptv": ("ct", "oar", "body", "beam", "angle"),
    "ct, ptv, body": ("ct", "ptv", "body"),
    "ptv, body": ("ptv", "body"),
    "ptv alone": ("ptv",),
    "ct, oar, body (no target, no beam)": ("ct", "oar", "body"),
}
# The target without the plates that are its shadow, and the other way round: what the rest knows of it.
GIVEN_FOR_OTHERS = {
    "ptv": ("ct", "oar", "body", "angle", "dose"),
    "beam": ("ct", "oar", "body", "angle", "dose"),
}
WITH_A_NAIVE_ANSWER = ("ct", "body", "beam", "angle")
PLATES = ("beam", "angle")


@dataclass(frozen=True)
class Asked:
    """One question about a case."""

    target: str
    """The modality that is generated."""
    words: str
    """What is given, in words."""
    given: tuple[str, ...]
    """What is given; empty for all that is there."""


@benchmark(
    "complete",
    settings=Modelled,
    says="Every modality generated from all the others, beside an answer without a model, and the dose as "
    "conditions are taken away.",
    has_page=True,
)
def measure_completion(settings: Modelled) -> Rows:
    """A row for each question, means over the patients that have the modality."""
    device = pick_device(settings.device)
    names = {target: registry.completing(settings.model, target) for target in modality.NAMES}
    networks = {name: load_model(registry.find(name)).on(device) for name in set(names.values())}
    by_target = {target: networks[name] for target, name in names.items()}
    return completion_rows(settings.cases(), by_target, settings.options)


def completion_rows(cases: Iterable[Case], models: Mapping[str, Any2Any], options: Options) -> Rows:
    """The rows of cases; models: the one that generates each modality."""
    figures: dict[tuple[str, str], list[dict[str, float]]] = {}
    options = models["dose"].as_trained(options)
    for case in cases:
        for asked in questions(case):
            answer = _figures(case, asked, models[asked.target], options)
            figures.setdefault((asked.target, asked.words), []).append(answer)
    how = {"steps": options.steps, "looks": options.looks}
    rows: Rows = []
    for (target, given), of_cases in figures.items():
        about: Row = {"bench": "complete", "target": target, "given": given}
        rows.append({**about, **_means(of_cases), **how, "patients": len(of_cases)})
    return rows


def questions(case: Case) -> Iterator[Asked]:
    """Everything that is asked of one case."""
    have = _modalities(case)
    for target in have:
        if target == "dose":
            continue
        yield Asked(target=target, words=ALL_GIVEN, given=())
        if target in GIVEN_FOR_OTHERS:
            given = GIVEN_FOR_OTHERS[target]
            yield Asked(target=target, words=", ".join(given), given=_known(given, have))
    if "dose" in have:
        for words, names in GIVEN_FOR_DOSE.items():
            yield Asked(target="dose", words=words, given=_known(names, have))


def _modalities(case: Case) -> tuple[str, ...]:
    """What the case has, in the table's order. Plates are slow to draw: they are there if there are beams."""
    drawn = [
        name for name, row in modality.TABLE.items() if name not in PLATES and row.draw(case) is not None
    ]
    return modality.subset((*drawn, *(PLATES if case.beams else ())))


def _known(given: Iterable[str], have: Iterable[str]) -> tuple[str, ...]:
    there = set(have)
    return tuple(name for name in given if name in there)


def _figures(case: Case, asked: Asked, model: Any2Any, options: Options) -> dict[str, float]:
    """What one answer is worth against the truth."""
    truth, organs = model.table[asked.target].draw(case), model.config.organs
    assert truth is not None and case.body is not None
    options = replace(options, target=asked.target, given=asked.given)
    made = answer(model, ask(case, asked.target), options).mean
    levels_gy = tuple(case.prescription.levels_gy.values())
    found = completion.figures(asked.target, truth, made, body=case.body, levels_gy=levels_gy, organs=organs)
    if asked.words == ALL_GIVEN and asked.target in WITH_A_NAIVE_ANSWER:
        plain = completion.naive(asked.target, truth, case.body, organs)
        found |= {f"{name}_without_model": value for name, value in plain.items()}
    return found


def _means(of_cases: list[dict[str, float]]) -> dict[str, float]:
    names: dict[str, None] = {}
    for figures in of_cases:
        names |= dict.fromkeys(figures)
    return {name: round(averages.mean(of_cases, name), 4) for name in names}
