"""A dose does not depend on what the clinic calls its structures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from patients import phantom_of

from anydose.case.case import Case
from anydose.case.names import NameMap, apply_names
from anydose.cli.app import app
from anydose.io import openkbp
from anydose.predict import predict

TG263 = (
    "External", "Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "Esophagus", "Larynx", "Bone_Mandible",
)  # fmt: skip
TARGETS = ("PTV_5600", "PTV_6300", "PTV_7000")
CLINICS = {
    "german": (
        ("Außenkontur", "Hirnstamm", "Rückenmark", "Parotis re", "Ohrspeicheldrüse links"),
        ("Ösophagus", "Kehlkopf", "Unterkiefer"),
        ("PTV 56 Gy", "PTV 63,0 Gy", "PTV 70 Gy"),
    ),
    "french": (
        ("Contour externe", "Tronc cérébral", "Moelle épinière", "Parotide D", "Parotide G"),
        ("Œsophage", "Larynx", "Mandibule"),
        ("PTV56", "PTV63", "PTV70"),
    ),
    "messy": (
        ("BODY", "Brain Stem", "CORD (max 45Gy)", "rt. parotid", "LParotid"),
        ("OESOPHAGUS", "larynx", "MANDIBLE 70 Gy"),
        ("ptv-56", "PTV_6300cGy", "PTV7000"),
    ),
}
HELPERS = ("PTV70_Ring", "zCord+5mm", "Parotid_L-PTV", "Brainstem_PRV", "Hilfsstruktur")


def renamed(case: Case, spelled: tuple[str, ...]) -> Case:
    """The phantom under other names, with helpers of planning beside its structures."""
    ours = ("possible_dose_mask", *openkbp.ORGANS, "PTV56", "PTV63", "PTV70")
    theirs = dict(zip(ours, spelled, strict=True))
    masks = {theirs[name]: mask for name, mask in case.structures.items()}
    masks |= {name: case.structures["PTV70"] for name in HELPERS}
    levels = {theirs[name]: gy for name, gy in case.prescription.levels_gy.items()}
    return replace(
        case, structures=masks, prescription=replace(case.prescription, levels_gy=levels), naming=()
    )


@pytest.mark.slow
def test_the_dose_is_the_same_bit_for_bit_under_any_clinic_s_names():
    case = phantom_of(0)
    spelled = {"tg263": (*TG263, *TARGETS)} | {
        clinic: (*first, *second, *targets) for clinic, (first, second, targets) in CLINICS.items()
    }
    dose = {clinic: predict(renamed(case, each)).mean for clinic, each in spelled.items()}
    assert dose["tg263"].max() > 60
    for clinic in CLINICS:
        assert np.array_equal(dose[clinic], dose["tg263"]), clinic


def test_names_that_nobody_understands_are_told_and_answered(tmp_path, invoke):
    from anydose.io.nifti import write_case

    case = phantom_of(0)
    odd = {"LeftParotid": "Speichel A", "SpinalCord": "Strang"}
    masks = {odd.get(name, name): mask for name, mask in case.structures.items()}
    write_case(replace(case, structures=masks, naming=()), tmp_path / "pt")
    clinic = tmp_path / "clinic.yaml"
    rows = {
        row["roi"]: row for row in json.loads(invoke("names", tmp_path / "pt", "--save", clinic, "--json"))
    }
    assert rows["Strang"]["role"] == "unknown" and rows["RightParotid"]["tg263"] == "Parotid_R"
    text = clinic.read_text()
    assert '"Strang":' in text and '"Speichel A":' in text and "RightParotid" not in text
    clinic.write_text(text.replace('"Strang":', '"Strang": SpinalCord  #'))
    answered = {
        row["roi"]: row
        for row in json.loads(
            invoke("names", tmp_path / "pt", "--names", clinic, "--name", "Speichel A=Parotid_L", "--json")
        )
    }
    assert answered["Strang"]["channel"] == "SpinalCord" and answered["Speichel A"]["channel"] == "Parotid_L"


def test_a_map_of_the_odd_names_draws_what_their_right_names_draw():
    from anydose.case.modality import render

    case = phantom_of(1)
    masks = {("Strang" if name == "SpinalCord" else name): mask for name, mask in case.structures.items()}
    odd = replace(case, structures=masks, naming=())
    mapped = apply_names(odd, NameMap({"Strang": "SpinalCord"}))
    assert not np.array_equal(render(odd, ["oar"])["oar"], render(case, ["oar"])["oar"])
    assert np.array_equal(render(mapped, ["oar"])["oar"], render(case, ["oar"])["oar"])


@pytest.fixture
def invoke():
    """Run the command; what it printed on standard output. A refusal fails the test."""
    from typer.testing import CliRunner

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    return run
