"""The examples run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples"
SAID = {
    "physicist.py": "SpinalCord",
    "extender.py": "Prediction(",
    "researcher.py": "mean absolute error",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_runs_and_says_what_it_found(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert SAID[name] in run.stdout


@pytest.mark.slow
def test_the_readme_s_python_lines_run_as_printed(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    patient = [sys.executable, "-m", "anydose.cli", "phantom", "out/pt_0", "--format", "dicom"]
    subprocess.run(patient, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    run = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "SpinalCord" in run.stdout
    assert (tmp_path / "out" / "page.png").stat().st_size > 10_000
