"""What may be uploaded: names that stay in their folder, and zips that are what they say."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from anydose.serve.upload import Limits, Refused, safe_path, unpack

SMALL = Limits(max_files=10, max_unpacked_bytes=1_000_000)


@pytest.mark.parametrize("text", ["a.dcm", "CT/IM 0001", "pt_1/ct.csv", "Ötzi/ßä.dcm", "1.2.840.10008"])
def test_ordinary_names_are_kept(text: str) -> None:
    assert str(safe_path(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "..\\x", "C:/x", "a\x00b", "a\nb",
        "CON", "nul.dcm", "a/aux/b", " a", "a ", "a.", "\u202eexe.dcm", "x" * 181, "/".join("abcdefghijklm"),
        ".anydose.lock", "a/b:c",
    ],
)  # fmt: skip
def test_names_that_could_leave_or_hide_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        safe_path(text)


def archive(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def unpacked(path: Path, folder: Path, limits: Limits = SMALL) -> list[str]:
    unpack(path, folder, limits)
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_a_zip_is_unpacked_byte_for_byte(tmp_path: Path) -> None:
    made = archive(tmp_path / "a.zip", {"CT/1.dcm": b"\x00" * 5000, "CT/2.dcm": b"two", "plan.dcm": b"3"})
    assert unpacked(made, tmp_path / "out") == ["CT/1.dcm", "CT/2.dcm", "plan.dcm"]
    assert (tmp_path / "out/CT/1.dcm").read_bytes() == b"\x00" * 5000


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"../x": b"1"}, "empty part"),
        ({"/x": b"1"}, "relative path"),
        ({"..\\x": b"1"}, "relative path"),
        ({f"{n}": b"1" for n in range(11)}, "at most 10"),
        ({"big": b"\x00" * 1_000_001}, "GB unpacked"),
        ({"a": b"\x00" * 600_000, "b": b"\x00" * 600_000}, "GB unpacked"),
    ],
)
def test_zips_beyond_the_limits_leave_nothing(tmp_path: Path, files: dict[str, bytes], why: str) -> None:
    with pytest.raises(Refused, match=why):
        unpack(archive(tmp_path / "a.zip", files), tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists() and not (tmp_path / "x").exists()


def test_a_zip_that_understates_its_sizes_is_stopped(tmp_path: Path) -> None:
    """A bomb that says 10 bytes and holds 50 MB: the table of contents and the local header both lie."""
    made = archive(tmp_path / "a.zip", {"ct": b"\x00" * 50_000_000})
    data = made.read_bytes()
    lied = data.replace(struct.pack("<I", 50_000_000), struct.pack("<I", 10))
    made.write_bytes(lied)
    with pytest.raises(Refused):
        unpack(made, tmp_path / "out", SMALL)
    assert sum(file.stat().st_size for file in tmp_path.rglob("out/*")) <= 10


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    """Fifield's bomb without recursion: many entries in the table that share one kernel."""
    kernel = archive(tmp_path / "k.zip", {"a": b"\x00" * 90_000}).read_bytes()
    with zipfile.ZipFile(io.BytesIO(kernel)) as source:
        entry, start = source.infolist()[0], source.start_dir
    central = kernel[start : kernel.index(b"PK\x05\x06")]
    table = b"".join(central.replace(b"a", bytes([97 + k])) for k in range(9))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(table), start, 0)
    (tmp_path / "bomb.zip").write_bytes(kernel[:start] + table + end)
    assert entry.compress_size * 9 > 0
    with pytest.raises(Refused):
        unpack(tmp_path / "bomb.zip", tmp_path / "out", Limits())


def test_links_devices_and_doubles_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("ct")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as target:
        target.writestr(link, "/etc/passwd")
    with pytest.raises(Refused, match="link"):
        unpack(tmp_path / "l.zip", tmp_path / "out", SMALL)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as target, pytest.warns(UserWarning):
        target.writestr("ct", b"1")
        target.writestr("ct", b"2")
    with pytest.raises(Refused, match="two files"):
        unpack(tmp_path / "d.zip", tmp_path / "out", SMALL)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", b"PK\x05\x06" + b"\x00" * 18])
def test_what_is_no_zip_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    if content.startswith(b"PK\x05\x06"):
        assert unpack(tmp_path / "a.zip", tmp_path / "out", SMALL) == 0
        return
    with pytest.raises(Refused, match="zip: cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out", SMALL)
