"""The cohort store: nothing is lost, doubled or half there."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import zarr
from linear_patient import patient

from anydose.case.volume import Volume
from anydose.io import nifti, openkbp
from anydose.io.check import check
from anydose.io.convert import convert
from anydose.io.dicom.write import write_study
from anydose.io.read import read_case
from anydose.io.sources import sources
from anydose.io.store import cropped, names, read_stored, write_stored


def same(a, b):
    for volume, other in ((a.ct, b.ct), (a.dose, b.dose)):
        assert (volume is None) == (other is None)
        assert volume is None or (volume.array == other.array).all()
    assert a.structures.keys() == b.structures.keys()
    assert all((a.structures[n] == b.structures[n]).all() for n in a.structures)
    assert (a.grid, a.beams, a.prescription) == (b.grid, b.beams, b.prescription)
    assert (a.patient_position, a.inferred) == (b.patient_position, b.inferred)


def test_a_case_comes_back_cropped_and_unchanged(tmp_path):
    case = patient("FFDL")
    path = write_stored(case, tmp_path / "cohort", "one")
    back = read_stored(path)
    same(back, cropped(case))
    assert back.grid.shape == (12, 34, 26)
    z, y, x = np.rint(back.grid.to_index(case.grid.to_mm([7, 20, 15]))).astype(int)
    assert back.dose.array[z, y, x] == case.dose.array[7, 20, 15]
    same(read_case(path), back)
    assert names(tmp_path / "cohort") == ["one"]
    same(read_stored(f"file://{path}"), back)


def test_a_case_of_fractional_hu_loses_nothing(tmp_path):
    case = patient()
    case.ct.array[3, 3, 3] = 12.25
    same(read_stored(write_stored(case, tmp_path / "cohort", "one")), cropped(case))


def test_real_patients_come_back(openkbp_root, tmp_path):
    for name in ("pt_1", "pt_8", "pt_153"):  # with everything, without CT, without CT and dose
        folder = openkbp_root / "provided-data" / "train-pats" / name
        case = openkbp.read_case(folder)
        same(read_stored(write_stored(case, tmp_path / "cohort", folder.name)), cropped(case))


def test_what_is_no_stored_case_is_refused(tmp_path):
    write_stored(patient(), tmp_path / "cohort", "one")
    with pytest.raises(ValueError, match="COHORT/name"):
        read_case(tmp_path / "cohort")
    with pytest.raises(ValueError, match="no Zarr group"):
        read_stored(tmp_path)
    with pytest.raises(ValueError, match="no cohort store"):
        names(tmp_path / "cohort" / "one")
    zarr.open_group(tmp_path / "cohort" / "one").attrs["schema"] = 99
    with pytest.raises(ValueError, match="schema 99"):
        read_stored(tmp_path / "cohort" / "one")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ValueError, match="holds other files"):
        write_stored(patient(), tmp_path / "other", "one")


def clinic(folder, count=3):
    """Patients in three forms: DICOM in a folder each, and a NIfTI one."""
    for k in range(count):
        write_study(patient(), folder / f"p_{k}" / "export")
    nifti.write_case(patient(), folder / "p_10")
    (folder / "readme.txt").write_text("export of a clinic")


def test_the_patients_of_a_clinic_are_told_apart(tmp_path):
    clinic(tmp_path, 2)
    assert [name for name, _ in sources(tmp_path)] == ["p_0", "p_1", "p_10"]
    assert [name for name, _ in sources(tmp_path / "p_0")] == ["p_0"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no case found"):
        sources(tmp_path / "empty")


def test_convert_keeps_what_is_there_and_names_what_it_refuses(tmp_path):
    clinic(tmp_path / "in", 2)
    (tmp_path / "in" / "p_1" / "export" / "RTSTRUCT.dcm").write_bytes(b"torn")
    first = {o.name: o for o in convert(tmp_path / "in", tmp_path / "out")}
    assert {name: o.state for name, o in first.items()} == {
        "p_0": "written",
        "p_1": "refused",
        "p_10": "written",
    }
    assert "RTSTRUCT.dcm" in first["p_1"].why
    again = {o.name: o.state for o in convert(tmp_path / "in", tmp_path / "out")}
    assert again == {"p_0": "kept", "p_1": "refused", "p_10": "kept"}
    (tmp_path / "in" / "p_10" / "dose.nii.gz").unlink()
    changed = {o.name: o.state for o in convert(tmp_path / "in", tmp_path / "out")}
    assert changed["p_10"] == "written"
    assert read_stored(tmp_path / "out" / "p_10").dose is None


def test_a_killed_convert_goes_on_and_loses_nothing(tmp_path):
    nifti.write_case(patient(), tmp_path / "in" / "p_0")
    for k in range(1, 40):
        shutil.copytree(tmp_path / "in" / "p_0", tmp_path / "in" / f"p_{k}")
    command = [
        sys.executable,
        "-m",
        "anydose.cli",
        "data",
        "convert",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    cohort = tmp_path / "out"
    for _ in range(600):
        if cohort.is_dir() and len(list(cohort.glob("p_*"))) >= 3:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2.5)  # the workers see that their parent is gone
    stamps = {p.name: p.stat().st_mtime_ns for p in cohort.glob("p_*")}
    assert 3 <= len(stamps) <= 40
    (cohort / f".{process.pid}.p_39").mkdir(exist_ok=True)  # a scrap, whether or not the kill left one
    states = {o.name: o.state for o in convert(tmp_path / "in", cohort)}
    assert sorted(states) == sorted(f"p_{k}" for k in range(40))
    assert all(states[name] == "kept" for name in stamps)
    assert all((cohort / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    assert names(cohort) == [f"p_{k}" for k in range(40)]
    assert not [p for p in cohort.iterdir() if p.name.startswith(".")]
    for k in (0, 17, 39):
        same(read_stored(cohort / f"p_{k}"), cropped(nifti.read_case(tmp_path / "in" / f"p_{k}")))


def test_check_says_what_is_missing_and_suspicious(tmp_path):
    even = Volume(np.full(patient().grid.shape, 60.0, dtype=np.float32), patient().grid, "Gy")
    case = replace(patient(), dose=even)
    write_study(case, tmp_path / "good")
    nifti.write_case(case, tmp_path / "bad")
    for name in ("ct.nii.gz", "segmentations/External.nii.gz"):
        (tmp_path / "bad" / name).unlink()
    text = (tmp_path / "bad" / "case.json").read_text().replace('"PTV_60": 60.0', '"PTV_60": 20.0')
    (tmp_path / "bad" / "case.json").write_text(text)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "ct.nii").write_bytes(b"no volume")
    rows = {row.name: row for row in check(tmp_path)}
    assert rows["good"].findings == ("no organ at risk",)
    assert rows["good"].levels_gy == (60.0,)
    assert rows["bad"].findings == (
        "no ct",
        "no organ at risk",
        "no body",
        "dose: maximum 60.0 Gy is 300% of the highest prescription",
    )
    assert "ct.nii" in rows["torn"].findings[0]
