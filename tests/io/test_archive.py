"""Patients in a zip file or on a medium with a DICOMDIR are read as those in a folder; a zip that could do
harm is refused before anything is unpacked."""

import io
import shutil
import stat
import struct
import zipfile
from dataclasses import replace
from types import SimpleNamespace

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


@pytest.mark.parametrize("text", ["a.dcm", "CT/IM 0001", "pt_1/ct.csv", "Ötzi/ßä.dcm", "1.2.840.10008"])
def test_ordinary_paths_are_kept(text):
    assert str(archive.safe_path(text)) == text


LEAVING = ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\x", "\\\\server\\x"]


@pytest.mark.parametrize(
    "text",
    [
        *LEAVING, "", "a//b", "./a", "a/.", "C:/x", "a\x00b", "a\nb", "CON", "nul.dcm", "a/aux/b", " a", "a ",
        "a.", "\u202eexe.dcm", "x" * 181, "/".join("abcdefghijklm"), "a/b:c",
    ],
)  # fmt: skip
def test_paths_that_could_leave_or_hide_are_refused(text):
    with pytest.raises(ValueError, match="path"):
        archive.safe_path(text)


@pytest.mark.parametrize("name", LEAVING)
def test_a_zip_with_such_a_path_leaves_nothing(name, tmp_path):
    with (
        pytest.raises(ValueError, match=r"a\.zip: path .*accepted"),
        archive.unpacked(zipped(tmp_path / "a.zip", ["good", name])),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_devices_and_files_that_stand_twice_are_refused(kind, tmp_path):
    link = zipped(tmp_path / "link.zip", ["x"], kind | 0o777)
    with pytest.raises(ValueError, match="is a link or a device"):
        read_case(link)
    twice = zipped(tmp_path / "twice.zip", ["a/x", "A/x"])
    with pytest.raises(ValueError, match="stands twice"):
        read_case(twice)


def compressed(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"zeros": bytes(2**26)}, "0.1 GB once unpacked; 0.0 GB are accepted"),
        ({"a": bytes(2**25 - 1), "b": b"12"}, "GB once unpacked"),
        ({f"{n}": b"" for n in range(11)}, "11 files found, at most 10"),
    ],
)
def test_the_size_is_judged_before_anything_is_unpacked(files, why, tmp_path):
    """A bomb: 64 MB of zeros in 64 kB. The limit is lowered, so that the test needs no 8 GB."""
    bomb = compressed(tmp_path / "bomb.zip", files)
    with pytest.raises(archive.TooLarge, match=why):
        archive.unpack(bomb, tmp_path / "out", archive.Limits(2**25, 10))
    assert not (tmp_path / "out").exists()


def test_more_than_the_disk_has_free_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(ValueError, match="the disk has free"):
        read_case(compressed(tmp_path / "a.zip", {"zeros": bytes(11)}))


def test_a_zip_that_understates_its_sizes_is_stopped(tmp_path):
    """A bomb that says 10 bytes and holds 50 MB: the table of contents and the local header both lie."""
    made = compressed(tmp_path / "a.zip", {"ct": bytes(50_000_000)})
    made.write_bytes(made.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 10)))
    with pytest.raises(ValueError, match="no zip that can be unpacked"):
        archive.unpack(made, tmp_path / "out", archive.Limits())
    assert sum(file.stat().st_size for file in tmp_path.rglob("out/*")) <= 10


def test_files_that_overlap_are_refused(tmp_path):
    """Fifield's bomb without recursion: many entries in the table that share one kernel."""
    kernel = compressed(tmp_path / "k.zip", {"a": bytes(90_000)}).read_bytes()
    with zipfile.ZipFile(io.BytesIO(kernel)) as source:
        start = source.start_dir
    central = kernel[start : kernel.index(b"PK\x05\x06")]
    table = b"".join(central.replace(b"a", bytes([97 + k])) for k in range(9))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(table), start, 0)
    (tmp_path / "bomb.zip").write_bytes(kernel[:start] + table + end)
    with pytest.raises(ValueError, match="overlap"):
        archive.unpack(tmp_path / "bomb.zip", tmp_path / "out", archive.Limits())


def test_a_zip_with_a_password_is_refused(tmp_path):
    made = zipped(tmp_path / "a.zip", ["x"])
    data = bytearray(made.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= archive.ENCRYPTED
    made.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="password"):
        read_case(made)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all"])
def test_what_is_no_zip_is_one_sentence(content, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="no zip that can be unpacked"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out", archive.Limits())


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
