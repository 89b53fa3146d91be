"""What a cohort store does about damage, names, and side files that change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_patient import patient

from anydose.io import gdphmm, nifti
from anydose.io.check import check
from anydose.io.convert import convert, source_hash
from anydose.io.sources import sources
from anydose.io.store import names, read_stored, stored_name, write_stored


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_stored(patient(), tmp_path / "cohort", "whole")
    return write_stored(patient(), tmp_path / "cohort", "case")


def chunk(place: Path, array: str) -> Path:
    return next(p for p in (place / array / "c").rglob("*") if p.is_file())


def spoilt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def reworded(place: Path) -> None:
    path = place / "zarr.json"
    text = json.loads(path.read_text())
    levels = text["attributes"]["case"]["prescription_gy"]
    levels[next(iter(levels))] = 6.0
    path.write_text(json.dumps(text))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "chunk of the CT lost": lambda p: chunk(p, "ct").unlink(),
    "chunk of the dose lost": lambda p: chunk(p, "dose").unlink(),
    "chunk of the masks cut off": lambda p: chunk(p, "structures").write_bytes(b"\1\2"),
    "bit of the CT": lambda p: spoilt(chunk(p, "ct")),
    "bit of the masks": lambda p: spoilt(chunk(p, "structures")),
    "CT lost": lambda p: shutil.rmtree(p / "ct"),
    "metadata of the CT lost": lambda p: (p / "ct" / "zarr.json").unlink(),
    "metadata of the CT no JSON": lambda p: (p / "ct" / "zarr.json").write_text("{"),
    "metadata of the case no JSON": lambda p: (p / "zarr.json").write_text(""),
    "prescription": reworded,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_an_error_that_names_the_case_and_check_goes_on(stored: Path, damage) -> None:
    damage(stored)
    with pytest.raises(ValueError, match=f"^{stored}"):
        read_stored(stored)
    rows = {row.name: row for row in check(stored.parent)}
    assert rows["whole"].structures


def test_a_store_of_schema_1_is_read(stored: Path) -> None:
    path = stored / "zarr.json"
    text = json.loads(path.read_text())
    text["attributes"] = {**text["attributes"], "schema": 1}
    del text["attributes"]["sha256"]
    path.write_text(json.dumps(text))
    assert set(read_stored(stored).structures) == set(patient().structures)
    chunk(stored, "ct").unlink()
    with pytest.raises(ValueError, match="its chunks are missing"):
        read_stored(stored)


def test_two_names_never_share_a_folder(tmp_path: Path) -> None:
    for name in ("a:b", "a?b", "a_b", "é" * 150, "é" * 151, " a_b"):
        nifti.write_case(patient(), tmp_path / "in" / name.replace("é" * 150, "e" * 150)[:200])
    outcomes = list(convert(tmp_path / "in", tmp_path / "out"))
    assert {o.state for o in outcomes} == {"written"}
    assert len(names(tmp_path / "out")) == len(outcomes) == len(sources(tmp_path / "in"))
    assert stored_name("pt_1") == "pt_1" and stored_name("a:b") != stored_name("a?b") != "a_b"
    assert len(stored_name("x" * 5000)) < 120


def test_convert_mends_what_is_damaged(tmp_path: Path) -> None:
    nifti.write_case(patient(), tmp_path / "in" / "one")
    assert [o.state for o in convert(tmp_path / "in", tmp_path / "out")] == ["written"]
    assert [o.state for o in convert(tmp_path / "in", tmp_path / "out")] == ["kept"]
    spoilt(chunk(tmp_path / "out" / "one", "ct"))
    assert [o.state for o in convert(tmp_path / "in", tmp_path / "out")] == ["written"]
    assert np.array_equal(read_stored(tmp_path / "out" / "one").structures["PTV_60"].any(), True)


def test_the_hash_of_a_source_covers_its_side_files(tmp_path: Path) -> None:
    plan = tmp_path / "train" / "7+A+MOS_1.npz"
    plan.parent.mkdir()
    gdphmm.write_case(patient(), plan)
    hashes = [source_hash(plan)]
    meta = tmp_path / "meta_files" / "PTV_DICT.json"
    meta.parent.mkdir()
    for dose in (60, 66):
        meta.write_text(json.dumps({"007": {"PTV_High": {"OPTName": "PTV_60", "PDose": dose}}}))
        hashes.append(source_hash(plan))
    assert len(set(hashes)) == 3


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    nifti.write_case(patient(), tmp_path / "in" / "one")
    for link in ("l1", "l2"):
        (tmp_path / "in" / "sub").mkdir(exist_ok=True)
        (tmp_path / "in" / "sub" / link).symlink_to(tmp_path / "in", target_is_directory=True)
    assert [name for name, _ in sources(tmp_path / "in")] == ["one"]
