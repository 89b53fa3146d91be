"""The record beside a dose: what a report takes from it, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anydose.score.report.run_record import RunRecord, read_beside


def written(folder: Path, value: Any) -> Path:
    (folder / "run.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder / "dose.nii.gz"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([], "a list"),
        (5, "a number"),
        (None, "null"),
        ("nothing at all", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"warnings": 5}, "warnings: a list of sentences is needed, a number"),
        ({"warnings": [1]}, "warnings"),
        ({"model": "x"}, "model: an object is needed, text"),
        ({"options": []}, "options"),
        ({"used": {"ct": 1}}, "used"),
        ({"structures": {"Lt Parotid": "Parotid_L"}}, "structures: a list of objects is needed, an object"),
        ({"structures": ["Lt Parotid"]}, "structures"),
    ],
)
def test_what_is_no_record_is_one_sentence_with_the_file(tmp_path: Path, value: Any, found: str) -> None:
    with pytest.raises(ValueError, match="run.json") as error:
        read_beside(written(tmp_path, value))
    assert found in str(error.value) and "\n" not in str(error.value)


def test_a_dose_without_a_record_has_an_empty_one(tmp_path: Path) -> None:
    assert read_beside(tmp_path / "dose.dcm") == RunRecord()


def test_the_report_takes_model_options_and_what_was_shown(tmp_path: Path) -> None:
    record = {
        "warnings": ["unlike"],
        "model": {"file": "m.safetensors", "sha256": "ab"},
        "options": {"steps": 1, "mimic": True, "given": [], "sampler": "ddim"},
        "used": ["ct", "ptv"],
        "structures": [
            {"roi": "Lt P", "tg263": "Parotid_L", "role": "oar", "channel": "Parotid_L", "why": "a name"},
            {"roi": "Other", "role": "", "channel": "ignored"},
        ],
    }
    found = read_beside(written(tmp_path, record))
    assert found.warnings == ("unlike",)
    assert found.lines["Model"] == "file m.safetensors, sha256 ab"
    assert found.lines["Options"] == "steps 1, mimic yes, given all, sampler ddim"
    assert found.lines["Shown to the model"] == "ct, ptv"
    assert found.structures[0] == ("Lt P", "Parotid_L", "oar", "Parotid_L", "a name")
    assert found.structures[1] == ("Other", "", "", "ignored", "")
    assert read_beside(tmp_path) == found
