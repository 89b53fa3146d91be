"""Files that appear whole, and what dead processes left."""

import errno
import subprocess
import sys

import pytest
from patients import write_openkbp

from anydose.io.files import file_name, whole


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
    from anydose.io.sources import is_cohort

    write_openkbp(0, tmp_path / "cohort" / "pt_1")
    assert is_cohort(tmp_path / "cohort")
    assert not is_cohort(tmp_path / "cohort" / "pt_1")
    (tmp_path / "empty").mkdir()
    assert not is_cohort(tmp_path / "empty")
    assert not is_cohort(tmp_path / "nowhere")


def test_only_its_owner_reads_a_file_that_is_half_written(tmp_path):
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    with whole(tmp_path / "patient.json") as scratch:
        scratch.write_text("half")
        assert scratch.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "patient.json").stat().st_mode == plain.stat().st_mode


def test_a_full_disk_is_said_with_the_file_and_the_former_one_stays(tmp_path):
    path = tmp_path / "dose.txt"
    path.write_text("former")
    code = (
        "import resource, signal, sys; from pathlib import Path; from anydose.io.files import whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99))\n"
        "try:\n"
        "    with whole(Path(sys.argv[1])) as scratch: scratch.write_text('x' * 1000)\n"
        "except OSError as error: print(error.errno, error.filename, error.strerror)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True).stdout
    assert said.split()[:2] == [str(errno.EFBIG), str(path)], said
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_name_is_a_file_of_its_own(tmp_path):
    one, two = ("\u00e4" * 5000 + end for end in ("1", "2"))
    assert file_name(one) != file_name(two)
    for name in (file_name(one), file_name("x" * 5000), "short"):
        with whole(tmp_path / f"{name}.nii.gz") as scratch:
            scratch.write_text("x")
    with pytest.raises(ValueError, match="a letter or digit"):
        file_name(". " * 5000)
