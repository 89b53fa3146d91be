"""Patients in a zip file or on a medium with a DICOMDIR are read as those in a folder; a zip that could do
harm is refused before anything is unpacked."""

import shutil
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet
from tiny_cohort import small_case

from anydose.io import archive, nifti
from anydose.io.dicom.write import write_study
from anydose.io.read import read_case, read_dose
from anydose.io.sources import is_cohort, sources


def patient(seed):
    case = small_case(seed)
    return replace(case, structures={name: mask for name, mask in case.structures.items() if mask.any()})


def same(one, other):
    assert one.grid == other.grid and list(one.structures) == list(other.structures)
    for name, mask in one.structures.items():
        assert np.array_equal(mask, other.structures[name])
    assert np.array_equal(one.dose.array, other.dose.array)
    assert one.prescription == other.prescription


@pytest.mark.parametrize("write", [nifti.write_case, write_study])
def test_a_zip_is_the_patient_in_it_however_deep(write, tmp_path):
    write(patient(1), tmp_path / "in" / "deep" / "patient")
    (tmp_path / "in" / "__MACOSX").mkdir()
    shutil.make_archive(str(tmp_path / "clinic" / "one"), "zip", tmp_path / "in")
    case = read_case(tmp_path / "clinic" / "one.zip")
    plain = read_case(tmp_path / "in" / "deep" / "patient")
    same(case, plain)
    assert case.name == "one" and case.source.format == plain.source.format
    assert sources(tmp_path / "clinic") == [("one", tmp_path / "clinic" / "one.zip")]
    assert not list(tmp_path.glob("anydose-*"))


def test_a_dicomdir_is_the_medium_that_it_lies_on(tmp_path):
    write_study(patient(1), tmp_path / "in")
    files = FileSet()
    for path in sorted(path for path in (tmp_path / "in").rglob("*") if path.is_file()):
        dataset = dcmread(path)
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260101", "120000", "1"
        files.add(dataset)  # the index states when a study was made
    files.write(tmp_path / "disk")
    index = tmp_path / "disk" / "DICOMDIR"
    assert index.is_file() and not is_cohort(index)
    same(read_case(index), read_case(tmp_path / "in"))
    assert [path for _, path in sources(index)] == [tmp_path / "disk"]


def zipped(path, names, mode=0):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            file.writestr(member, "x")
    return path


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\x", "\\\\server\\x"])
def test_a_name_that_leaves_the_folder_is_refused(name, tmp_path):
    with (
        pytest.raises(ValueError, match="would leave the folder"),
        archive.unpacked(zipped(tmp_path / "a.zip", ["good", name])),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_links_and_files_that_stand_twice_are_refused(tmp_path):
    link = zipped(tmp_path / "link.zip", ["x"], stat.S_IFLNK | 0o777)
    with pytest.raises(ValueError, match="is a link"):
        read_case(link)
    twice = zipped(tmp_path / "twice.zip", ["a/x", "A/x"])
    with pytest.raises(ValueError, match="stands twice"):
        read_case(twice)


def test_the_size_is_judged_before_anything_is_unpacked(tmp_path, monkeypatch):
    """A bomb: 64 MB of zeros in 64 kB. The limit is lowered, so that the test needs no 8 GB."""
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(2**26))
    monkeypatch.setattr(archive, "MOST_BYTES", 2**25)
    extracted = []
    monkeypatch.setattr(zipfile.ZipFile, "extract", lambda *given: extracted.append(given))
    with pytest.raises(ValueError, match=r"0.1 GB in 1 files once unpacked"):
        read_case(bomb)
    assert not extracted


def test_a_damaged_zip_is_said(tmp_path):
    path = zipped(tmp_path / "a.zip", ["x" * 100])
    path.write_bytes(path.read_bytes()[:40] + bytes(30) + path.read_bytes()[70:])
    with pytest.raises(ValueError, match="a.zip"):
        read_case(path)


def test_a_dose_in_a_zip_is_taken_from_its_case(tmp_path):
    case = patient(2)
    nifti.write_case(case, tmp_path / "two")
    shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path / "two")
    dose = read_dose(tmp_path / "two.zip", case)
    assert np.array_equal(dose.array, case.dose.array)
