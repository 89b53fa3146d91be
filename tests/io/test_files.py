"""Files that appear whole, and what dead processes left."""

import subprocess
import sys

from anydose.io.files import whole


def test_scratch_of_the_dead_is_removed_and_of_the_living_is_kept(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = tmp_path / f".{process.pid}.scores.json"
    living = tmp_path / ".1.scores.json"
    other = tmp_path / f".{process.pid}.other.json"
    for path in (dead, living, other):
        path.write_text("half")
    with whole(tmp_path / "scores.json") as scratch:
        scratch.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"scores.json", living.name, other.name}


def test_a_cohort_is_told_from_a_case_and_from_nothing(tmp_path):
    from anydose.io.phantom import write_phantom
    from anydose.io.sources import is_cohort

    write_phantom(0, tmp_path / "cohort" / "pt_1", "openkbp")
    assert is_cohort(tmp_path / "cohort")
    assert not is_cohort(tmp_path / "cohort" / "pt_1")
    (tmp_path / "empty").mkdir()
    assert not is_cohort(tmp_path / "empty")
    assert not is_cohort(tmp_path / "nowhere")
