"""`anydose complete`: what is generated comes back as files that read as a patient again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import anydose
from patients import small_phantom_of, write_openkbp

from anydose.case import modality
from anydose.complete import answer, ask, completed, structures_of
from anydose.deliver.completion import complete_to, volumes
from anydose.deliver.measured import verdict
from anydose.io import nifti
from anydose.io.read import read_case
from anydose.model import registry
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.model.weights import WEIGHTS
from anydose.predict import Options

REPOSITORY = Path(__file__).parents[1]
UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))


def network(std=0.1):
    torch.manual_seed(0)
    model = Any2Any(UNET).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std) if p.abs().sum() == 0 else None
    return model


@pytest.fixture(scope="module")
def patient():
    return small_phantom_of(0)


@pytest.mark.parametrize("target", modality.NAMES)
def test_the_truth_as_an_answer_gives_the_case_back(patient, target):
    """Whatever is written of a perfect answer is what the case had."""
    from anydose.case.volume import Volume

    case = replace(patient, dose=Volume(np.full(patient.grid.shape, 3.0, np.float32), patient.grid, "Gy"))
    question, truth = ask(case, target), modality.TABLE[target].draw(case)
    again = completed(question, target, truth)
    for name, volume in volumes(question, target, truth).items():
        assert volume.grid is case.grid, name
    if target in ("beam", "angle"):
        assert again is None
        assert np.array_equal(next(iter(volumes(question, target, truth).values())).array, truth[0])
        return
    assert again.structures.keys() == case.structures.keys()
    assert all(np.array_equal(again.structures[n], m) for n, m in case.structures.items())
    assert np.array_equal(again.dose.array, case.dose.array)
    assert np.abs(again.ct.array - case.ct.array).max() <= 0.5


def test_what_was_hidden_is_not_seen(patient):
    """Another CT, and other organs, change nothing in the answer to a question for them."""
    from anydose.case.volume import Volume

    model, options = network(), Options(steps=1, target="ct", looks=1, mimic=False)
    noise = np.random.default_rng(0).normal(0, 300, patient.grid.shape).astype(np.float32)
    other = replace(patient, ct=Volume(noise, patient.grid, "HU"))
    assert np.array_equal(*(answer(model, ask(c, "ct"), options).mean for c in (patient, other)))
    assert not np.array_equal(
        *(answer(model, ask(c, "oar"), replace(options, target="oar")).mean for c in (patient, other))
    )


def test_targets_of_a_case_that_has_none_come_by_level(patient):
    bare = replace(
        patient,
        structures={n: m for n, m in patient.structures.items() if not n.startswith("PTV")},
        prescription=replace(patient.prescription, levels_gy={}),
    )
    with pytest.raises(ValueError, match="--levels"):
        ask(bare, "ptv")
    question = ask(bare, "ptv", (70.0, 56.0))
    found = answer(network(), question, Options(steps=1, target="ptv", looks=1, mimic=False))
    assert "beam" not in found.used and "ct" in found.used
    made = np.where(modality.TABLE["oar"].draw(patient).max(axis=0, keepdims=True) > 0, 69.0, 3.0).astype(
        np.float32
    )
    assert list(structures_of(question, "ptv", made)) == ["PTV70"]
    assert completed(question, "ptv", made).prescription.levels_gy == {"PTV70": 70.0}


def test_a_body_is_asked_for_in_the_box_of_the_ct(patient):
    bare = replace(
        patient, structures={n: m for n, m in patient.structures.items() if n != "possible_dose_mask"}
    )
    question = ask(bare, "body")
    assert any("box" in sentence for sentence in question.case.inferred)
    found = answer(network(), question, Options(steps=1, target="body", looks=1, mimic=False))
    assert "body" not in found.used
    with pytest.raises(ValueError, match="no CT to find one"):
        ask(replace(bare, ct=None), "body")


def test_files_of_an_openkbp_patient_read_as_one_again(tmp_path):
    write_openkbp(1, tmp_path / "pt_1")
    (tmp_path / "pt_1" / "ct.csv").unlink()
    save_model(network(std=0.001), tmp_path / "tiny.safetensors", {})
    options = Options(steps=1, target="ct", looks=1, mimic=False)
    for _ in range(2):  # a second time over the first
        run = complete_to(
            tmp_path / "pt_1", tmp_path / "out", str(tmp_path / "tiny.safetensors"), options, anyway=True
        )
    assert run["reliable"] is False and "UNRELIABLE" in run["warnings"][0]
    assert run["figures"] == {}
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == json.loads(json.dumps(run))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"ct.nii.gz", "patient", "page.png", "run.json"}
    again = read_case(tmp_path / "out" / "patient")
    written = nifti.read_volume(tmp_path / "out" / "ct.nii.gz", "HU")
    inside = again.body
    assert np.array_equal(again.ct.array[inside], np.maximum(written.array, -1024)[inside])
    assert again.ct.array[inside].std() > 1


def test_a_wrong_target_is_one_sentence_exit_code_2_and_no_output(tmp_path):
    write_openkbp(1, tmp_path / "pt_1")
    for extra, words in ((["--target", "mri"], "mri"), (["--target", "ct", "--levels", "a"], "as 70,63,56")):
        done = anydose("complete", tmp_path / "pt_1", "--out", tmp_path / "out", *extra)
        assert done.returncode == 2
        assert words in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_what_is_no_better_than_no_model_is_refused_before_any_work(tmp_path):
    """CT and angle of the shipped adapter, brainstem and oesophagus among its organs, an unmeasured model."""
    model, place = "compact-hn", tmp_path / "out"
    for target in ("ct", "angle"):
        with pytest.raises(ValueError, match=r"without a model.*--anyway"):
            complete_to(tmp_path / "nowhere", place, model, Options(target=target))
    any_file = registry.find(registry.completing(model, "oar"))
    organs = verdict(any_file, Options(target="oar"))
    assert organs.better and organs.poor_organs == ("Brainstem", "Esophagus")
    assert all(verdict(any_file, Options(target=t)).better for t in ("ptv", "body", "beam"))
    save_model(network(), tmp_path / "tiny.safetensors", {})
    with pytest.raises(ValueError, match="never measured"):
        complete_to(tmp_path / "nowhere", place, str(tmp_path / "tiny.safetensors"), Options(target="oar"))
    assert not place.exists()


def test_the_measured_figures_beside_the_weights_are_those_of_the_results():
    for shipped, result in (
        ("compact-hn-any.complete.json", "complete.json"),
        ("compact-hn-dit-any.complete.json", "complete-dit.json"),
        ("compact-hn.conditions.json", "conditions.json"),
    ):
        theirs = (REPOSITORY / "docs" / "results" / result).read_text()
        assert (WEIGHTS / shipped).read_text() == theirs
