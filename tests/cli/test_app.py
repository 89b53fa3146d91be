"""The command as a user starts it: instant help, one sentence for a bad input, one exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import anydose


def started(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "anydose.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_help_needs_neither_torch_nor_any_reader() -> None:
    program = (
        "import sys; from anydose.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pydicom', 'nibabel', 'numpy', 'scipy', 'matplotlib', 'zarr', 'safetensors'}\n"
        "sys.stderr.write(','.join(sorted(heavy & sys.modules.keys())))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "phantom" in done.stdout
    assert done.stderr == ""


def test_the_help_says_that_it_is_research_software() -> None:
    done = started("--help")
    assert done.returncode == 0
    assert "not for clinical use" in done.stdout


def test_phantom_writes_a_patient_that_reads_back(tmp_path: Path) -> None:
    from patients import phantom_of

    from anydose.io.openkbp import read_case

    done = anydose("phantom", tmp_path / "pt_3", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    case, drawn = read_case(tmp_path / "pt_3"), phantom_of(3)
    assert case.structures.keys() == drawn.structures.keys()
    assert all((case.structures[name] == mask).all() for name, mask in drawn.structures.items())
    assert not list(tmp_path.glob(".*")), "a scratch folder was left behind"


def test_phantom_leaves_a_folder_that_holds_something_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = started("phantom", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr and "empty" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_format_is_named_with_those_accepted(tmp_path: Path) -> None:
    done = anydose("phantom", tmp_path / "new", "--format", "dcm")
    assert done.returncode == 2
    assert "dcm" in done.stderr and "openkbp" in done.stderr
    assert not (tmp_path / "new").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = started("phantom", tmp_path, "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "ValueError" in done.stderr


@pytest.mark.parametrize("command", [("predict", "--out"), ("evaluate", "--out", "--cohort")])
def test_an_empty_folder_is_one_sentence_with_its_name_and_leaves_no_output(tmp_path: Path, command) -> None:
    name, output, *option = command
    (tmp_path / "empty").mkdir()
    done = anydose(name, *option, tmp_path / "empty", output, tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"anydose: {tmp_path / 'empty'}: ") and "accepted" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_folder_of_two_formats_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    for file in ("voxel_dimensions.csv", "ct.nii.gz"):
        (tmp_path / "mixed" / file).touch()
    done = anydose("predict", tmp_path / "mixed", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "openkbp and nifti found together" in done.stderr


def test_info_as_json_is_one_object_that_lists_models_and_versions() -> None:
    done = anydose("info", "--json")
    assert done.returncode == 0
    value = json.loads(done.stdout)
    assert value["versions"]["torch"].startswith("2.13.0")
    assert all(row["name"] for row in value["models"])
