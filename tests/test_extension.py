"""A laboratory's own package adds a backbone, a format, a metric and a benchmark: one file outside of this
repository, four lines of entry points, and no line of ours touched. Every command of ours then knows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from patients import slice_of, write_openkbp

from anydose.case.volume import Volume
from anydose.io.openkbp import write_dose

STAND_INS = Path(__file__).parent / "stand_ins"
LAB = '''
"""All that a laboratory adds."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from anydose.bench.registry import benchmark
from anydose.case.case import Case, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.format import Format
from anydose.model.network.backbone import VoxelNetwork
from anydose.score.metrics import Metric


@dataclass(frozen=True)
class Settings:
    numbers: tuple[int, ...] = (1, 2)
    """Which numbers are squared."""
    cohort: Path | None = None
    """Not needed."""


@benchmark("squares", settings=Settings, says="Squares of numbers.")
def squares(settings):
    for number in settings.numbers:
        yield {"bench": "squares", "number": number, "square": number**2}


MID_DOSE = Metric(
    name="MidDose",
    yields="dose",
    abscissa="",
    function=lambda a: a.as_dose((a.structure.min_gy + a.structure.max_gy) / 2),
    source="nobody",
)


class Text(Format):
    """One JSON file a case: its dose on a grid of 2 mm, all of it target."""

    name, accepts = "text", "a .textcase file"

    def recognises(self, path):
        return path.suffix == ".textcase"

    def read_case(self, path, options):
        dose = np.array(json.loads(path.read_text()), dtype=np.float32)
        grid = Grid(dose.shape, (2.0, 2.0, 2.0))
        everything = np.ones(dose.shape, dtype=bool)
        volume = Volume(dose, grid, "Gy")
        return Case(path.stem, grid, {"PTV60": everything}, dose=volume, source=Source("text"))


@dataclass(frozen=True)
class Wire:
    """A network of one convolution."""

    kind: str = "wire"

    @property
    def multiple(self):
        return 1

    def build(self, channels, codec):
        return WireNet(self, channels)


class WireNet(VoxelNetwork):
    """The target's own latent, convolved."""

    def __init__(self, config, channels):
        super().__init__()
        self.config, self.channels = config, dict(channels)
        self.wire = nn.Conv3d(channels["dose"], channels["dose"], 1)

    def forward(self, latents, times, target, spacing_mm, body):
        return self.wire(latents[target])
'''
ENTRY_POINTS = """[anydose.backbones]
wire = lab:Wire

[anydose.formats]
text = lab:Text

[anydose.metrics]
MidDose = lab:MID_DOSE

[anydose.benchmarks]
lab = lab
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip leaves it: a file, and the metadata of its entry points."""
    folder = tmp_path_factory.mktemp("site")
    about = folder / "lab-1.0.dist-info"
    about.mkdir()
    (folder / "lab.py").write_text(LAB)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


# A Python that has the package runs every command, and builds, stores and loads a model of its backbone.
COMMANDS = """
import json, sys
from commands import anydose
print(json.dumps([vars(anydose(*line)) for line in json.loads(sys.argv[1])]))
"""
MODEL = """
import torch
from pathlib import Path
from lab import Wire, WireNet
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import load_model, save_model
model = Any2Any(ModelConfig(Wire(), "identity:2"))
assert isinstance(model.backbone, WireNet)
save_model(model, Path(sys.argv[2]), {})
again = load_model(Path(sys.argv[2]))
assert isinstance(again.backbone, WireNet)
assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read and write: a patient whose target has 40 Gy in one half and 60 in the other, a
    scorecard, a case of the added format."""
    folder = tmp_path_factory.mktemp("work")
    write_scored(folder)
    (folder / "p1.textcase").write_text(json.dumps(np.full((2, 3, 4), 60.0).tolist()))
    return folder


@pytest.fixture(scope="module")
def printed(site: Path, folder: Path) -> dict[str, str]:
    """What each command prints, in one Python that has the package: starting one takes seconds."""
    score = ("score", folder / "dose.csv", "--case", folder / "pt_1", "--scorecard", folder / "card.json")
    lines = {
        "list": ("bench", "list", "--json"),
        "squares": ("bench", "squares", "--numbers", "3,5", "--json", "--out", folder / "rows.json"),
        "score": (*score, "--json"),
        "check": ("data", "check", folder / "p1.textcase", "--json"),
    }
    paths = os.pathsep.join([str(site), str(STAND_INS), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = json.dumps([[str(word) for word in line] for line in lines.values()])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS + MODEL, words, str(folder / "model.safetensors")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    each = json.loads(done.stdout)
    assert not any(one["returncode"] for one in each), each
    return {name: one["stdout"] for name, one in zip(lines, each, strict=True)}


def test_a_benchmark_is_listed_and_run_with_its_own_options(printed: dict[str, str], folder: Path) -> None:
    assert {"bench": "squares", "measures": "Squares of numbers."} in json.loads(printed["list"])
    rows = [json.loads(row) for row in printed["squares"].splitlines()]
    assert [row["square"] for row in rows] == [9, 25]
    assert json.loads((folder / "rows.json").read_text()) == rows


def write_scored(folder: Path) -> None:
    case = slice_of(0)
    write_openkbp(0, folder / "pt_1")
    target = max(case.targets, key=lambda name: case.prescription.levels_gy[name])
    places = np.argwhere(case.structures[target])
    dose = np.full(case.grid.shape, 40.0, dtype=np.float32) * case.body
    dose[tuple(places[len(places) // 2 :].T)] = 60.0
    write_dose(Volume(dose, case.grid, "Gy"), case, folder / "dose.csv")
    points = [{"PointX": gy, "Score": gy / 10, "Variation": False, "Colors": [0, 0, 0]} for gy in (0, 100)]
    item = {"Structure": {"StructureId": target, "TemplateStructureId": target}, "Rank": 1}
    item |= {"MetricType": "MidDose", "OutputUnit": "Gy", "ScorePoints": points}
    card = {"TemplateName": "Lab", "DosePerFraction": 2.0, "NumberOfFractions": 35, "ScoreTemplates": [item]}
    (folder / "card.json").write_text(json.dumps(card))


def test_a_metric_is_scored_by_a_scorecard(printed: dict[str, str]) -> None:
    """Half of the target at 40 Gy, half at 60: the mid dose is 50, half way between 0 and 100."""
    found = json.loads(printed["score"])
    assert found["items"][0]["value"] == pytest.approx(50.0, abs=0.01), found
    assert found["total"] == pytest.approx(5.0, abs=0.001)


def test_a_format_is_read_by_every_command(printed: dict[str, str]) -> None:
    (row,) = json.loads(printed["check"])
    assert (row["name"], row["kind"], row["shape"]) == ("p1.textcase", "text", [2, 3, 4])


def test_a_backbone_is_built_stored_and_loaded_by_its_name(printed: dict[str, str], folder: Path) -> None:
    """The process that printed would have failed otherwise."""
    assert printed and (folder / "model.safetensors").is_file()
