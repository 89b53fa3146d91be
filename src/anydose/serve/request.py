"""What can be asked of one prediction, as the HTTP API takes it."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from anydose.atomic.files import whole
from anydose.serve.upload import Refused

Short = Annotated[str, StringConstraints(max_length=120)]
RoiName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
SCORECARDS = (".json", ".csv")
MOST_SCORECARDS = 200
MODALITIES = ("ct", "ptv", "oar", "body", "beam", "angle")


class Strict(BaseModel):
    """A body of a request: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


class NewPatient(Strict):
    """A patient that is about to be uploaded, or one that lies on the server."""

    stored: Short | None = None
    """The name of a stored case, as GET /api/stored lists them; without one, files are going to be sent."""


class Wanted(Strict):
    """One prediction: of whom, by what, how."""

    patient: Identifier
    """From POST /api/patients."""
    model: Short = "compact-hn"
    """The name of a model, as GET /api/models lists them."""
    steps: int = Field(default=0, ge=0, le=50)
    """Network evaluations a sample; 0: as the model was trained for."""
    looks: int = Field(default=2)
    """Augmented looks averaged: 1, 2 or 4."""
    samples: int = Field(default=1, ge=1, le=16)
    """Doses to draw; more than one gives a mean and a standard deviation."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Every seed starts from other noise."""
    given: list[Short] = Field(default_factory=list, max_length=len(MODALITIES))
    """Modalities to show: ct, ptv, oar, body, beam, angle; none: all that the case has."""
    beams: Annotated[str, StringConstraints(max_length=200)] = ""
    """Beams instead of the plan's: a number of equispaced ones, or angles as 0,40,80."""
    rx: list[Annotated[str, StringConstraints(max_length=240)]] = Field(default_factory=list, max_length=20)
    """Prescriptions, as PTV70=70, replacing what the source states."""
    names: dict[RoiName, Short] = Field(default_factory=dict, max_length=300)
    """What structures are: ROI -> TG-263 name, PTV, CTV, GTV, External or ignore."""
    scorecard: Short = ""
    """The name of a scorecard, as GET /api/scorecards lists them; '': the packaged one that fits the case."""
    uncertainty: bool = False
    """With calibrated 80 % intervals, where the model has been calibrated."""

    @field_validator("looks")
    @classmethod
    def _looks(cls, value: int) -> int:
        if value not in (1, 2, 4):
            raise ValueError("1, 2 or 4 looks are accepted")
        return value

    @field_validator("given")
    @classmethod
    def _given(cls, value: list[str]) -> list[str]:
        if not set(value) <= set(MODALITIES):
            raise ValueError(f"modalities among {', '.join(MODALITIES)} are accepted")
        return value

    @field_validator("names")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        from anydose.case.names import NameMap

        NameMap(value)
        return value

    def reading(self) -> dict[str, Any]:
        """Keywords of `read_case`."""
        from anydose.case.names import NameMap

        names = NameMap(self.names) if self.names else None
        return {"beams": self.beams or None, "rx": tuple(self.rx), "names": names}


class Release(Strict):
    """Who says that a result may be used."""

    by: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    """A person's name; it stays in the result's record."""

    @field_validator("by")
    @classmethod
    def _plain(cls, value: str) -> str:
        if any(unicodedata.category(character)[0] == "C" for character in value):
            raise ValueError("a name without control characters is accepted")
        return value


def models(folder: Path) -> dict[str, Path]:
    """Name -> file of the models that come with the package and of the clinic's in `folder`."""
    from anydose.model.registry import shipped

    return {**{path.stem: path for path in sorted(folder.glob("*.safetensors"))}, **shipped()}


def scorecards(folder: Path) -> dict[str, Path]:
    """Name -> file of the scorecards that come with the package and of the clinic's in `folder`."""
    from anydose.score.scorecard import templates

    own = sorted(path for path in folder.glob("*") if path.suffix in SCORECARDS)
    return {**{path.stem: path for path in own}, **templates()}


def keep_scorecard(folder: Path, name: str, content: bytes) -> str:
    """Keep a clinic's scorecard, of any kind that `importers.read_any` knows, under the name of its file;
    returns what it is called from now on. Raises Refused for one that is none, whose name is taken, or that
    is one too many."""
    from anydose.score import importers

    stem, there = Path(name).stem, scorecards(folder)
    if stem in there:
        raise Refused(f"scorecard {ascii(stem)}: there is one of that name; another name is accepted", 409)
    if len(there) >= MOST_SCORECARDS:
        raise Refused(f"{len(there)} scorecards are there; no more are accepted", 429)
    with whole(folder / name) as scratch:
        scratch.write_bytes(content)
        try:
            importers.read_any(scratch)
        except ValueError as error:
            raise Refused(str(error).replace(str(scratch), name)) from error
    return stem
