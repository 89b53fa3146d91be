"""Many patients in, a folder of predictions out: one folder a case, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from anydose.deliver.dose import asked, predict_to
from anydose.deliver.record import input_hashes
from anydose.engine.engine import Done, Engine, each
from anydose.io import run_folder
from anydose.io.files import file_name
from anydose.io.format import DoseOptions
from anydose.io.sources import sources
from anydose.model import registry
from anydose.model.any2any import Any2Any, pick_device
from anydose.model.options import Options


@dataclass(frozen=True)
class Request:
    """What is asked of every case."""

    model: str = registry.DEFAULT
    """A shipped model's name or a checkpoint's path."""
    options: Options = field(default_factory=Options)
    """How to predict."""
    device: str = "auto"
    """'auto', 'cpu' or 'cuda:0'."""
    read: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of `read_case`."""
    dicom: DoseOptions = field(default_factory=DoseOptions)
    """How an RTDOSE is written."""
    intervals: bool = False
    """With calibrated uncertainty."""
    overwrite: bool = False
    """Replace what a case's folder holds, whatever it is."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    case: str
    """Its name, which is that of its folder too."""
    state: str
    """'written', 'kept' (there already, of the same files, model and options) or 'failed'."""
    why: str = ""
    """Of a failure, in a sentence."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The run record without the hashes of the inputs, which are many; empty for a failure."""

    def line(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {"case": self.case, "state": self.state, "why": self.why} | {"run": dict(self.record)}


def cases_of(places: Sequence[Path]) -> dict[str, Path]:
    """Name -> path of every case at or below `places`. Raises ValueError where two cases would have one
    folder."""
    found: dict[str, Path] = {}
    for place in places:
        for name, path in sources(place):
            key = file_name(name)
            if key in found:
                raise ValueError(f"{path} and {found[key]}: both would be called {key}; give them one by one")
            found[key] = path
    return found


def predict_cohort(
    places: Sequence[Path],
    out: Path,
    request: Request | None = None,
    *,
    engine: Engine | None = None,
    on_case: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Predict every case at or below `places`, each into its own folder of `out`.

    What is there already, complete and of the same files, model and options, is kept. A case that fails is
    reported, and the others go on.

    Args:
        places: patients in any format, folders of them, or cohort stores.
        out: where the folders go.
        request: what is asked of every case; the default is what ships.
        engine: where they are worked on; each worker holds the model. The default is this process.
        on_case: told each outcome as it comes.

    Raises:
        ValueError: there is no case, two have one name, or the model is not found.
    """
    request, jobs = request or Request(), list(cases_of(places).items())
    request = replace(request, options=registry.options_for(request.options, request.model))
    engine = (engine or Engine()).on_device(pick_device(request.device).type)
    outcomes = []
    for done in each(partial(_predict, out=out, request=request), jobs, engine):
        outcomes.append(_outcome(done))
        if on_case:
            on_case(outcomes[-1])
    return outcomes


def _predict(job: tuple[str, Path], out: Path, request: Request) -> tuple[str, dict[str, Any]]:
    """(state, run record without hashes) of one case."""
    name, source = job
    folder = out / name
    kept = _kept(folder, source, request)
    if kept is not None:
        return "kept", _short(kept)
    run = predict_to(
        source,
        folder,
        _loaded(request.model, request.device),
        request.options,
        read=request.read,
        dicom=request.dicom,
        intervals=request.intervals,
        overwrite=request.overwrite,
    )
    return "written", _short(run)


def _short(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "inputs"}


def _kept(folder: Path, source: Path, request: Request) -> dict[str, Any] | None:
    """The record of a prediction that need not be made again."""
    record = run_folder.read_record(folder)
    wanted = asked(request.read, request.dicom, request.intervals)
    if record is None or record.get("options") != _plain(request.options) or record.get("asked") != wanted:
        return None
    model = run_folder.hash_of(registry.find(request.model))
    same = record["model"]["sha256"] == model and record.get("inputs") == input_hashes(source)
    return record if same and not run_folder.damage(folder) else None


def _plain(options: Options) -> dict[str, Any]:
    """The options as a run record holds them."""
    return asdict(options) | {"given": list(options.given)}


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> Any2Any:
    """The model, once a process."""
    return registry.load(model, device)


def _outcome(done: Done) -> Outcome:
    name, _ = done.job
    if done.why:
        return Outcome(name, "failed", done.why)
    state, record = done.result
    return Outcome(name, state, record=record)


def counts(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """'12 written', '3 kept' and so on, what there is none of left out."""
    for state in ("written", "kept", "failed"):
        number = sum(outcome.state == state for outcome in outcomes)
        if number:
            yield f"{number} {state}"
