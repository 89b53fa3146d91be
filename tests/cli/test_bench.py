"""Benchmarks are a table: each is a command with its own options, rows appear whole, old names work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from patients import write_openkbp
from typer.testing import CliRunner

from anydose.bench.patients import Patients
from anydose.bench.registry import Benchmark, benchmark, benchmarks
from anydose.cli.app import app
from anydose.cli.bench import run
from anydose.train.settings import settings_of

RUN = CliRunner()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for seed in (0, 1):
        write_openkbp(seed, tmp_path / "provided-data" / "validation-pats" / f"pt_{201 + seed}")
    return tmp_path


def test_list_names_every_benchmark_and_each_has_help_of_its_own() -> None:
    listed = json.loads(RUN.invoke(app, ["bench", "list", "--json"]).stdout)
    assert {row["bench"] for row in listed} == benchmarks().keys()
    assert {"predict", "fast", "mimicking", "posttrain", "transfer", "masks"} <= benchmarks().keys()
    assert all(row["measures"] for row in listed)
    helped = RUN.invoke(app, ["bench", "candidates", "-h"]).stdout
    assert "--candidates" in helped and "--seeds" not in helped


def test_every_setting_of_every_benchmark_says_what_it_is() -> None:
    silent = [
        f"{b.name} {s.name}" for b in benchmarks().values() for s in settings_of(b.settings) if not s.says
    ]
    assert not silent


def test_a_benchmark_measures_prints_and_writes_its_rows(dataset: Path, tmp_path: Path) -> None:
    line = ["bench", "beams", "--cohort", str(dataset), "--limit", "1"]
    done = RUN.invoke(app, [*line, "--json", "--out", str(tmp_path / "rows.json")])
    assert done.exit_code == 0, done.output
    printed = [json.loads(text) for text in done.stdout.splitlines()]
    assert [row["patient"] for row in printed] == ["pt_201"]
    assert json.loads((tmp_path / "rows.json").read_text()) == printed


def test_rows_are_a_table_where_no_json_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"bench": "counts", "patient": "pt_201", "n": 3}]
    counting = Benchmark(name="counts", measure=lambda settings: rows, settings=Patients, says="Counts.")
    run(counting, Patients(tmp_path), None, as_json=False)
    assert capsys.readouterr().out == "| patient | n |\n| --- | --- |\n| pt_201 | 3 |\n\n"


def test_names_and_options_of_the_last_release_work_and_are_said(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    done = RUN.invoke(app, ["bench", "reach", "--cohort", str(dataset), "--json", str(file)])
    assert isinstance(done.exception, ValueError) and "no case with a dose" in str(done.exception)
    assert "bench reach is deprecated" in done.stderr and "bench mimicking" in done.stderr
    assert "--out FILE" in done.stderr and not file.exists()


def test_rows_that_are_there_stay_whole_when_a_benchmark_fails(tmp_path: Path) -> None:
    def measure(settings):
        yield {"bench": "fails", "n": 1}
        yield {"bench": "fails", "n": 2}
        raise ValueError("the third")

    failing = Benchmark(name="fails", measure=measure, settings=Patients, says="Fails.")
    with pytest.raises(ValueError, match="the third"):
        run(failing, Patients(tmp_path), tmp_path / "rows.json", as_json=True)
    assert [row["n"] for row in json.loads((tmp_path / "rows.json").read_text())] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_two_files_cannot_have_one_name() -> None:
    name = next(iter(benchmarks()))
    with pytest.raises(ValueError, match="has that name already"):
        benchmark(name, settings=object, says="Another.")(lambda settings: [])
