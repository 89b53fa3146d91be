"""The table of formats: what it recognises, and that a package outside this one adds a row."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from linear_patient import patient

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io import formats
from anydose.io.format import DoseOptions, Format, ReadOptions
from anydose.io.read import read_case, read_dose
from anydose.io.sources import dose_of, sources

SOURCE = Path(__file__).parents[2] / "src"
FOREIGN = '''
import json
import numpy as np
from anydose.case.case import Case, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.format import Format

class Text(Format):
    """One JSON file a case: spacing and dose."""
    name, accepts, dose_suffixes = "text", "a text case (.textcase)", (".textdose",)

    def recognises(self, path):
        return path.suffix == ".textcase"

    def read_case(self, path, options):
        rows = np.array(json.loads(path.read_text()), dtype=np.float32)
        grid = Grid(rows.shape, (2.0, 2.0, 2.0))
        mask = {"PTV60": np.ones(rows.shape, dtype=bool)}
        return Case(path.stem, grid, mask, dose=Volume(rows, grid, "Gy"), source=Source("text"))

    def read_dose(self, path, case):
        return Volume(np.array(json.loads(path.read_text()), dtype=np.float32), case.grid, "Gy")

    def write_dose(self, dose, case, folder, options):
        (folder / f"{case.name}.textdose").write_text(json.dumps(dose.array.tolist()))
        return [f"{case.name}.textdose"]
'''


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A package of another author, with the metadata that pip leaves of its entry point."""
    site = tmp_path / "site"
    (site / "textcase-1.0.dist-info").mkdir(parents=True)
    (site / "textcase.py").write_text(FOREIGN)
    (site / "textcase-1.0.dist-info" / "METADATA").write_text("Name: textcase\nVersion: 1.0\n")
    entry = "[anydose.formats]\ntext = textcase:Text\n"
    (site / "textcase-1.0.dist-info" / "entry_points.txt").write_text(entry)
    return site


def test_a_package_outside_adds_a_format(foreign: Path, tmp_path: Path) -> None:
    """Its case is read, listed and checked, and its dose written and read back, in a process of its own."""
    (tmp_path / "p1.textcase").write_text(json.dumps(np.full((2, 3, 4), 60.0).tolist()))
    program = f"""
from pathlib import Path
from anydose.io import formats
from anydose.io.check import check
from anydose.io.format import DoseOptions
from anydose.io.read import read_case, read_dose
from anydose.io.sources import dose_of
here = Path({str(tmp_path)!r})
case = read_case(here / "p1.textcase")
assert case.source.format == "text" and case.prescription.levels_gy == {{"PTV60": 60.0}}, case
assert [row.kind for row in check(here)] == ["text"]
assert formats.write_dose(case.dose, case, here, DoseOptions()) == ["p1.textdose"]
assert (read_dose(dose_of(here, "p1", single=False), case).array == 60).all()
assert "a text case" in formats.accepted()
print("all of it")
"""
    path = f"{foreign}:{SOURCE}"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == "all of it\n", ran.stderr


class Numbers(Format):
    """A case as one .npy of HU."""

    name, accepts = "numbers", "a folder with hu.npy"

    def recognises(self, path: Path) -> bool:
        return (path / "hu.npy").is_file()

    def read_case(self, path: Path, options: ReadOptions) -> Case:
        hu = np.load(path / "hu.npy").astype(np.float32)
        grid = Grid(hu.shape, (1.0, 1.0, 1.0))
        return Case(path.name, grid, {}, ct=Volume(hu, grid, "HU"))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_TABLE", dict(formats._TABLE))
    formats.register(Numbers())


def test_register_adds_a_format_to_this_process(registered: None, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "hu.npy", np.zeros((2, 2, 2)))
    assert [name for name, _ in sources(tmp_path)] == ["a", "b"]
    assert read_case(str(tmp_path / "a")).grid.shape == (2, 2, 2)
    with pytest.raises(ValueError, match="a folder with hu.npy"):
        read_case(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'numbers': the name is taken"):
        formats.register(Numbers())


@pytest.mark.parametrize("row", formats.table().values(), ids=lambda row: row.name)
def test_what_a_format_writes_it_recognises(row: Format, phantom: Case, tmp_path: Path) -> None:
    case = phantom if row.name == "openkbp" else patient()
    place = tmp_path / "case"
    if not row.holds(case):
        with pytest.raises(ValueError, match="no case can be written"):
            row.write_case(case, place)
        return
    if row.name == "gdphmm":
        place = place.with_suffix(".npz")
    else:
        place.mkdir()
    row.write_case(case, place)
    assert formats.format_of(place) is row and row.is_one_case(place)
    again = read_case(str(place))
    assert again.source.format == row.name and formats.format_for(again) is row
    assert set(again.structures) == set(case.structures)


def test_a_changed_case_goes_where_its_format_holds_it(phantom: Case) -> None:
    assert formats.format_for(phantom).name == "openkbp"
    extra = {**phantom.structures, "Heart": phantom.structures["Brainstem"]}
    assert formats.format_for(replace(phantom, structures=extra)).name == "nifti"


def test_no_source_file_asks_for_a_format_by_text() -> None:
    """What differs between formats stands in their rows."""
    for path in (SOURCE / "anydose").rglob("*.py"):
        text = path.read_text()
        assert "case.meta" not in text and "source.format ==" not in text and 'format == "' not in text, path


def test_a_dose_comes_by_text_or_path(phantom: Case, tmp_path: Path) -> None:
    dose = Volume(np.where(phantom.structures["PTV70"], np.float32(70), np.float32(0)), phantom.grid, "Gy")
    names = formats.write_dose(dose, phantom, tmp_path, DoseOptions())
    assert names == ["phantom_0.csv"]
    assert dose_of(tmp_path, "phantom_0", single=False) == tmp_path / names[0]
    read = read_dose(str(tmp_path / names[0]), phantom)
    assert np.array_equal(read.array, dose.array)
