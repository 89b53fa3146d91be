"""A cohort and a model in, a table of scores out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydose.case.case import Case
from anydose.case.names import NameMap
from anydose.case.volume import Volume
from anydose.engine.engine import Engine, each
from anydose.io import openkbp
from anydose.io.convert import files_hash, names_hash, source_hash
from anydose.io.files import file_name, write_json
from anydose.io.read import read_case, read_dose
from anydose.io.run_folder import hash_of
from anydose.io.sources import dose_of
from anydose.io.splits import EVERY, cases_of, splits_of
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.checkpoint import budget, describe
from anydose.model.options import Options
from anydose.predict import Prediction, predict
from anydose.score import binding, importers, metric_sets
from anydose.score.cohort_scores import CaseScore, Evaluation
from anydose.score.dvh_bands import curves_of
from anydose.score.openkbp_rows import Doses, Row, rows, summary
from anydose.score.scoring import Score
from anydose.score.scoring import score as score_dose

__all__ = ["Doses", "Row", "evaluate", "openkbp_split", "rows", "score", "summary"]

SPLIT_OF_MODEL = "{split}"


def from_folder(folder: Path) -> Doses:
    """Doses that somebody else predicted: `folder`/pt_N.csv in OpenKBP's form, one a case."""

    def read(case: Case) -> NDArray[np.float32]:
        path = folder / f"{case.name}.csv"
        if not path.is_file():
            raise ValueError(f"{path}: no prediction for {case.name}; one pt_N.csv a patient is needed")
        return openkbp.read_dose(path, case.grid).array

    return read


def from_model(path: Path, options: Options, device: str) -> Doses:
    """Doses of a checkpoint."""
    network = registry.load(path, device)
    return lambda case: predict(replace(case, dose=None), network, options).mean[0]


@dataclass(frozen=True)
class Request:
    """What is asked of every case of a cohort."""

    model: str = registry.DEFAULT
    """A shipped model's name or a checkpoint's path."""
    predictions: Path | None = None
    """Doses that were predicted already, named by case, instead of a model's."""
    metrics: tuple[str, ...] = ("openkbp",)
    """Names of score.metric_sets.TABLE."""
    options: Options = field(default_factory=Options)
    """How to predict."""
    device: str = "auto"
    """'auto', 'cpu' or 'cuda:0'."""
    lpips: tuple[Path, Path] | None = None
    """Weights of LPIPS' trunk and heads, which adds LPIPS to the figures."""
    names: NameMap | None = None
    """What structures are, above what their names say."""
    split: str = ""
    """The part of a cross-validation; `{split}` in the model's path stands for it."""
    curves: bool = False
    """With the DVH curves of each case."""

    def identity(self) -> dict[str, Any]:
        """What a score depends on beside the case; the doses of `predictions` go into each case's own."""
        model = None if self.predictions else hash_of(registry.find(self.model))
        options = asdict(self.options) | {"given": list(self.options.given)}
        lpips = {"lpips": [hash_of(path) for path in self.lpips]} if self.lpips else {}
        named = {"names": found} if (found := names_hash(self.names)) else {}
        return {"model": model, "metrics": list(self.metrics), "options": options, **lpips, **named}

    def of(self, split: str) -> Request:
        """The same of one part of a cross-validation, the options as its model was trained for."""
        model = self.model.replace(SPLIT_OF_MODEL, split)
        return replace(
            self, split=split, model=model, options=_filled_in(self.options, model, self.predictions)
        )


def _openkbp_row(folder: Path, request: Request) -> Row | None:
    """One patient's scores; None without a reference dose."""
    doses = from_folder(request.predictions) if request.predictions else partial(_predicted, request=request)
    return next(rows([openkbp.read_case(folder)], doses), None)


def openkbp_split(
    cohort: Path,
    split: str,
    model: str,
    predictions: Path | None,
    options: Options,
    device: str,
    limit: int,
    on_case: Callable[[str], None],
    engine: Engine | None = None,
) -> list[dict[str, Any]]:
    """Score a model (or the files in `predictions`) on one split: the cohort's scores and how they came
    about, then each patient's. `on_case` is told a line a patient. Raises ValueError for a patient that
    cannot be read."""
    folders = openkbp.patients(cohort, split)[: limit or None]
    path = registry.find(model) if predictions is None else None
    options = _filled_in(options, model, predictions)
    request = Request(model=model, predictions=predictions, options=options, device=device)
    engine = (engine or Engine()).on_device(pick_device(device).type if path else "cpu")
    found: dict[Path, Row] = {}
    for done in each(partial(_openkbp_row, request=request), folders, engine):
        if done.why:
            raise ValueError(done.why)
        if done.result is not None:
            found[done.job] = row = done.result
            errors = f"dose {row.dose_error:.3f} Gy, DVH {row.dvh_error:.3f} Gy"
            on_case(f"{row.patient}: {errors}, {row.seconds:.1f} s")
    table = [found[folder] for folder in folders if folder in found]
    how: dict[str, Any] = {
        "model": path.parent.name if path and path.stem == "model" else str(path and path.stem or predictions)
    }
    if path:
        how |= {"sampler": options.sampler, "steps": options.steps, "samples": options.samples}
        how |= {
            "looks": options.looks,
            "mimic": options.mimic,
            "seed": options.seed,
            "given": list(options.given),
        }
        how |= budget(describe(path)["record"])
    patients = [
        {"patient": r.patient, "dose_error": r.dose_error, "dvh_errors": r.dvh_errors, "has_ct": r.has_ct}
        for r in table
    ]
    return [{**how, "split": split, **summary(table)}, *patients]


def evaluate(
    cohort: str | Path,
    model: str | Path = registry.DEFAULT,
    *,
    metrics: Sequence[str] = ("openkbp",),
    split: str = "",
    splits: str | Path | None = None,
    predictions: str | Path | None = None,
    options: Options | None = None,
    device: str = "auto",
    lpips: tuple[Path, Path] | None = None,
    limit: int = 0,
    folder: str | Path | None = None,
    names: NameMap | None = None,
    engine: Engine | None = None,
    on_case: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a model, or somebody's predictions, on the cases of a cohort that hold a reference dose.

    Args:
        cohort: an OpenKBP dataset, a cohort store, or a folder of patients in any format.
        model: a shipped model's name or a checkpoint's path; `{split}` in it is the split of each case.
        metrics: any of 'openkbp', 'gdphmm' and 'paper'.
        split: of an OpenKBP dataset 'train', 'validation' (the default) or 'test'; with `splits`, its name
            there, or 'all' for a cross-validation.
        splits: a CSV file with the columns case and split, or a YAML file of split: [cases].
        predictions: a folder of doses named by case, instead of a model.
        options: how to predict; the default is what ships.
        device: 'auto', 'cpu' or 'cuda:0'.
        lpips: weight files of LPIPS' AlexNet and heads, which adds LPIPS; ST-LPIPS comes with 'paper'.
        limit: only the first so many cases; 0 for all.
        folder: where each case's scores are kept, from which a stopped evaluation goes on, with the tables
            and the page.
        names: what structures are, above what their names say.
        engine: where the cases are worked on; the default is this process.
        on_case: told a sentence a case.

    Raises:
        ValueError: no case, an unknown set of metrics, split or model; what concerns one case alone is in
            `Evaluation.failed`.
    """
    request = Request(
        model=str(model),
        predictions=Path(predictions) if predictions else None,
        metrics=tuple(metrics),
        options=options or Options(),
        device=device,
        lpips=lpips,
        names=names,
        curves=folder is not None,
    )
    unknown = [name for name in request.metrics if name not in metric_sets.TABLE]
    if unknown or not request.metrics:
        raise ValueError(f"metrics {', '.join(unknown)!r}: {', '.join(metric_sets.TABLE)} are accepted")
    jobs = cases_of(Path(cohort), split, Path(splits) if splits else None)[: limit or None]
    kept = Path(folder) / "cases" if folder else None
    found: dict[str, CaseScore] = {}
    failed: dict[str, str] = {}
    parts = splits_of(Path(splits)) if splits and split == EVERY else {}
    requests = {part: (own := request.of(part), own.identity()) for part in {*parts.values()} or {""}}
    engine = (engine or Engine()).on_device(pick_device(device).type)
    work = partial(_score_case, requests=requests, parts=parts, kept=kept)
    for done in each(work, sorted(jobs, key=lambda job: parts.get(job[0], "")), engine):
        name = done.job[0]
        if done.why:
            failed[name] = done.why
        else:
            found[name] = done.result
        (on_case or _ignore)(f"{name}: {done.why or _words(found[name])}")
    how: dict[str, Any] = {"model": str(predictions) if predictions else Path(model).stem, "split": split}
    if parts:
        how["models"] = {part: identity["model"] for part, (_, identity) in sorted(requests.items())}
    ordered = tuple(found[name] for name, _ in jobs if name in found)
    return Evaluation({**next(iter(requests.values()))[1], **how}, ordered, failed)


def _filled_in(options: Options, model: str | Path, predictions: str | Path | None) -> Options:
    """The options as the model was trained for, where a model predicts."""
    return options if predictions else registry.options_for(options, model)


def score(
    dose: Prediction | Volume | str | Path, case: Case | str | Path, scorecard: str | Path | None = None
) -> Score:
    """Score a dose with a scorecard: a prediction, a dose in Gy, or any file that `read_dose` takes. Without
    a scorecard, with the packaged one that fits the case. Raises ValueError if none fits."""
    case = case if isinstance(case, Case) else read_case(case)
    if isinstance(dose, Prediction):
        dose = dose.dose
    elif not isinstance(dose, Volume):
        dose = read_dose(dose, case)
    card = importers.read_any(Path(scorecard)) if scorecard else binding.own_template(case)
    return score_dose(binding.bind(case, card), dose)


def _ignore(sentence: str) -> None:
    """Nobody listens."""


def _words(row: CaseScore) -> str:
    shown = [
        f"{name} {value:.3f}" for name, value in row.figures.items() if metric_sets.DVH_ERROR not in name
    ]
    return f"{', '.join(shown)}, {row.seconds:.1f} s"


def _score_case(
    job: tuple[str, Path],
    requests: Mapping[str, tuple[Request, dict[str, Any]]],
    parts: Mapping[str, str],
    kept: Path | None,
) -> CaseScore:
    """One case's scores, from `kept` where they are there of the same bytes. requests: of each part of a
    cross-validation; parts: case -> its part."""
    name, path = job
    request, identity = requests[parts.get(name, "")]
    dose_path = dose_of(request.predictions, name, False) if request.predictions else None
    own = {**identity, "case": source_hash(path), "dose": files_hash(dose_path) if dose_path else None}
    file = kept / f"{file_name(name)}.json" if kept else None
    if file is not None and file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before.get("identity") == own:
            return CaseScore(**{**before["score"], "notes": tuple(before["score"]["notes"])})
    case = replace(read_case(path, names=request.names), name=name)
    begin = time.monotonic()
    dose = _dose(case, request, dose_path)
    seconds = time.monotonic() - begin
    distances = _perceptual(request.metrics, request.lpips)
    found, notes = metric_sets.figures(case, dose, request.metrics, distances)
    assert case.dose is not None
    curves = curves_of(case, Volume(dose, case.grid, "Gy"), case.dose) if request.curves else {}
    row = CaseScore(
        case=name,
        figures=found,
        seconds=round(seconds, 3),
        has_ct=case.ct is not None,
        notes=tuple(notes),
        split=request.split,
        curves=curves,
    )
    if file is not None:
        write_json({"identity": own, "score": asdict(row)}, file)
    return row


def _dose(case: Case, request: Request, dose_path: Path | None) -> NDArray[np.float32]:
    if case.dose is None or case.body is None:
        raise ValueError(f"{case.name}: no {'reference dose' if case.dose is None else 'body'}")
    if dose_path is not None:
        return read_dose(dose_path, case).array
    return _predicted(case, request)


def _predicted(case: Case, request: Request) -> NDArray[np.float32]:
    """The model's dose (d, h, w) in Gy, made without the reference."""
    network = _network(request.model, request.device)
    dose: NDArray[np.float32] = predict(replace(case, dose=None), network, request.options).mean[0]
    return dose


@lru_cache(maxsize=1)
def _network(model: str, device: str) -> Any2Any:
    """The model, once a process."""
    return registry.load(model, device)


@lru_cache(maxsize=1)
def _perceptual(
    metrics: tuple[str, ...], weights: tuple[Path, Path] | None
) -> dict[str, metric_sets.Distance]:
    """ST-LPIPS for the paper's set, where its weights are installed, and LPIPS where its own are given."""
    from anydose.model import perceptual

    found = {"lpips": perceptual.lpips(*weights)} if weights else {}
    try:
        return found | ({"st_lpips": perceptual.st_lpips()} if "paper" in metrics else {})
    except ValueError:
        return found
