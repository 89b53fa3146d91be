"""What may be uploaded: names that stay in their folder, and zips that are what they say; how a zip is judged
stands in tests/io/test_archive.py."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from anydose.serve.upload import Limits, Refused, safe_path, unpack_all

SMALL = Limits(max_files=10, max_unpacked_bytes=1_000_000)


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def contents(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_a_path_is_kept_or_refused_in_a_sentence() -> None:
    assert str(safe_path("CT/IM 0001")) == "CT/IM 0001"
    with pytest.raises(Refused, match="empty part") as refused:
        safe_path("../x")
    assert refused.value.status == 422


def test_zips_are_unpacked_in_their_place_and_removed(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", {"CT/1.dcm": b"\x00" * 5000, "inner.zip": b"PK"})
    zipped(tmp_path / "B .ZIP", {"plan.dcm": b"3"})
    unpack_all(tmp_path, SMALL)
    assert contents(tmp_path) == ["B/plan.dcm", "a/CT/1.dcm", "a/inner.zip"]
    assert (tmp_path / "a/CT/1.dcm").read_bytes() == b"\x00" * 5000


@pytest.mark.parametrize(
    ("files", "status", "why"),
    [
        ({"../x": b"1"}, 422, "zip: .*empty part"),
        ({f"{n}": b"1" for n in range(11)}, 413, "at most 10"),
        ({"big": b"\x00" * 1_000_001}, 413, "GB once unpacked"),
    ],
)
def test_zips_beyond_the_limits_leave_nothing(
    tmp_path: Path, files: dict[str, bytes], status: int, why: str
) -> None:
    zipped(tmp_path / "a.zip", files)
    with pytest.raises(Refused, match=why) as refused:
        unpack_all(tmp_path, SMALL)
    assert refused.value.status == status
    assert contents(tmp_path) == ["a.zip"]


def test_many_small_zips_are_no_way_around_the_limit(tmp_path: Path) -> None:
    for name in "abc":
        zipped(tmp_path / f"{name}.zip", {"zeros": b"\x00" * 400_000})
    with pytest.raises(Refused, match="0.0 GB once unpacked"):
        unpack_all(tmp_path, SMALL)
    assert contents(tmp_path) == ["a/zeros", "b/zeros", "c.zip"]
