"""The organ vocabulary of a cohort and of a model: drawn, trained on, kept by the checkpoint, and changed."""

import logging
import shutil
from dataclasses import replace

import challenge_names
import pytest
import torch
from tiny_cohort import small_case
from typer.testing import CliRunner

from anydose.case.naming.parse import parse
from anydose.case.naming.vocabulary import GDPHMM, HEAD_NECK, LUNG, PROSTATE, Vocabulary, named
from anydose.cli.app import app
from anydose.io import store
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import load_model, save_model
from anydose.model.network.dit import DiTConfig
from anydose.model.network.maisi import MaisiConfig
from anydose.model.network.unet import UNetConfig
from anydose.model.organs import with_organs
from anydose.model.sample import draw_sample
from anydose.predict import Options, predict
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.encode import EncodeConfig, encode
from anydose.train.latents import LatentCohort
from anydose.train.trainer import Trainer

UNET = UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16)
DIT = DiTConfig(dim=32, depth=2, heads=2, ffn=64)
BACKBONES = {
    "unet": ModelConfig(UNET, "identity:2"),
    "dit": ModelConfig(DIT, "identity:4"),
    "dit-head": ModelConfig(replace(DIT, head_width=8), "identity:4"),
    "maisi": ModelConfig(MaisiConfig(widths=(32, 64), attention=(False, True)), "maisi:4:8"),
}
OTHERS = ("Heart", "Parotid_L", "Brainstem", "Bladder", "other", "Parotid_R")


def randomised(config):
    torch.manual_seed(0)
    model = Any2Any(config).eval()
    for p in model.backbone.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model


def cuts(model):
    """The names of the model's organ channels: each as often as it has latent channels."""
    return [(organ, k) for organ in model.config.organs for k in range(model.codec.latent_channels)]


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_a_model_taught_other_organs_keeps_what_it_knew_of_those_it_had(name):
    before = randomised(BACKBONES[name])
    after = with_organs(before, OTHERS)
    assert after.config.organs == OTHERS and with_organs(after, OTHERS) is after
    d = 4
    generator = torch.Generator().manual_seed(1)
    known = {key: torch.randn(1, 1, d, d, d, generator=generator) for key in (*cuts(before), *cuts(after))}
    shared = set(OTHERS) & set(before.config.organs)
    for key in known:
        known[key] = known[key] if key[0] in shared else torch.zeros(1, 1, d, d, d)
    found = {}
    for model in (before, after):
        oar = torch.cat([known[key] for key in cuts(model)], dim=1)
        given = {"ct": torch.full((1, model.codec.latent_channels, d, d, d), 0.3)}
        body, spacing, t = torch.ones(1, 1, d, d, d, dtype=torch.bool), torch.ones(1, 3), torch.tensor([0.6])
        dose = torch.full((1, model.codec.latent_channels, d, d, d), -0.2)
        found[model, "dose"] = model.velocity(dose, t, "dose", {**given, "oar": oar}, spacing, body)
        found[model, "oar"] = model.velocity(oar, t, "oar", given, spacing, body)
    assert torch.allclose(found[before, "dose"], found[after, "dose"], atol=1e-5)
    if name not in ("unet", "dit"):
        return  # a noised target goes in by number, and convolutions see the other organs' estimates
    of_before, of_after = (dict(zip(cuts(m), found[m, "oar"][0], strict=True)) for m in (before, after))
    for key in of_before.keys() & of_after.keys():
        assert torch.allclose(of_before[key], of_after[key], atol=1e-5), key


def test_a_backbone_that_does_not_say_where_channels_lie_is_refused():
    from anydose.model.network.baselines import BaselineConfig

    model = Any2Any(ModelConfig(BaselineConfig(widths=(4, 8, 8)), "identity:4"))
    with pytest.raises(ValueError, match="settled by its first training"):
        with_organs(model, PROSTATE.organs)


def test_the_challenge_s_organs_are_all_drawn_and_its_rings_and_targets_are_not():
    organs = [*challenge_names.HEAD_NECK, *challenge_names.LUNG]
    assert None not in {GDPHMM.channel(parse(name)) for name in organs}
    assert set(Vocabulary.from_cohort([*organs, *challenge_names.TARGETS]).organs) == set(GDPHMM.organs)
    for name in (*challenge_names.RINGS, *challenge_names.TARGETS):
        assert GDPHMM.channel(parse(name)) is None


def test_a_vocabulary_is_a_file_too(tmp_path):
    path = tmp_path / "clinic.yaml"
    path.write_text("organs: [Rectum, Bladder, other]\n")
    assert named(str(path)).organs == ("Rectum", "Bladder", "other")
    assert named("lung") is LUNG
    for text, said in (
        ("organs: [Blase]", "'Blase' means Bladder"),
        ("organs: [Rectum, Rectum]", "each once"),
        ("organs: Rectum", "one table 'organs'"),
        ("{", "no YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            named(str(path))


@pytest.fixture(scope="module")
def two_phantoms(tmp_path_factory):
    """A store of two phantoms, one of them with organs of the pelvis drawn into it."""
    place = tmp_path_factory.mktemp("organs") / "store"
    first, second = small_case(0), small_case(1)
    organs = {
        "Blase": second.body & (second.dose.array < 40),
        "Rectum": second.body & (second.dose.array > 60),
    }
    second = replace(second, structures={**second.structures, **organs}, naming=())
    for case in (first, second):
        store.write_stored(case, place, case.name)
    return place


@pytest.fixture
def cohort(two_phantoms, tmp_path):
    return shutil.copytree(two_phantoms, tmp_path / "store")


def run(*words):
    result = CliRunner().invoke(app, [*(str(word) for word in words), "--workers", "1"])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_cohort_s_organs_go_into_its_drawings_its_model_and_its_predictions(cohort, tmp_path, caplog):
    said = run("render", cohort, tmp_path / "drawn", "--vocabulary", "cohort")
    organs = store.organs(cohort)
    assert {"Bladder", "Rectum", "Parotid_L"} <= set(organs)
    assert "Bladder 1" in said and f"{len(organs)} organs" in said
    drawn = Cohort(tmp_path / "drawn")
    assert drawn.organs == organs and drawn.load(0).volumes["oar"].shape[0] == len(organs)
    said = run("render", cohort, tmp_path / "drawn")  # nothing asked: as the store records
    assert Cohort(tmp_path / "drawn").organs == organs

    config = TrainConfig(
        data=str(tmp_path / "drawn"),
        model=BACKBONES["unet"],
        steps=2,
        precision="fp32",
        out=str(tmp_path),
        warmup=1,
    )
    list(Trainer(config).run())
    model = load_model(tmp_path / "any2any" / "model.safetensors")
    assert model.config.organs == organs
    case = store.read_stored(cohort / "phantom_1")
    options = Options(precision="fp32", looks=1, mimic=False)
    assert not [said for said in predict(case, model, options).inferred if said.startswith("organs")]
    with_heart = replace(case, structures={**case.structures, "Herz": case.structures["Blase"]}, naming=())
    told = predict(with_heart, model, options).inferred
    assert "organs Herz: not shown, as the model does not know them" in told

    run("render", cohort, tmp_path / "drawn", "--vocabulary", "prostate")  # drawn anew
    assert Cohort(tmp_path / "drawn").organs == PROSTATE.organs
    with caplog.at_level(logging.WARNING):
        taught = Trainer(replace(config, name="next", init=str(tmp_path / "any2any" / "model.safetensors")))
    assert taught.model.config.organs == PROSTATE.organs
    assert "new to the model, from nothing: Femur_Head_R" in caplog.text
    with pytest.raises(ValueError, match="an adapter keeps"):
        Trainer(replace(taught.config, adapter=True, lora=2, task=replace(config.task, targets=("dose",))))


def test_mixed_drawings_and_other_latents_are_refused(cohort, tmp_path):
    run("render", cohort, tmp_path / "drawn", "--vocabulary", "prostate")
    other = tmp_path / "drawn" / "phantom_1.safetensors"
    kept = other.read_bytes()
    run("render", cohort, tmp_path / "drawn", "--vocabulary", "head_neck")
    other.write_bytes(kept)
    with pytest.raises(ValueError, match="drawn with other organs"):
        Cohort(tmp_path / "drawn")
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(Any2Any(replace(BACKBONES["unet"], codec="identity:2")), path, {})
    store.record_organs(cohort, PROSTATE.organs)
    with pytest.raises(ValueError, match="records 9 organs"):
        list(encode(cohort, path, EncodeConfig()))
    save_model(Any2Any(replace(BACKBONES["unet"], organs=PROSTATE.organs)), path, {})
    assert len(list(encode(cohort, path, EncodeConfig()))) == 2
    model = load_model(path)
    assert LatentCohort(cohort, model.codec, PROSTATE.organs).load(0).values["oar"].shape[1] == 9 * 8
    with pytest.raises(ValueError, match="no latents"):
        LatentCohort(cohort, model.codec, HEAD_NECK.organs)


def test_a_drawing_with_other_organs_reaches_no_model(cohort):
    model = Any2Any(BACKBONES["unet"])
    sample, _ = draw_sample(store.read_stored(cohort / "phantom_0"), organs=PROSTATE.organs)
    from anydose.model.looks import sample_target

    with pytest.raises(ValueError, match="one vocabulary for both"):
        next(sample_target(model, sample, Options()))


def test_convert_says_what_is_drawn_merged_and_left_out(cohort, tmp_path):
    said = run("data", "convert", cohort, tmp_path / "again", "--vocabulary", "head_neck")
    assert "drawn, of 2 cases: " in said and "Parotid_R 2" in said
    assert "merged: Blase + Rectum -> other 1" in said.replace("\n", " ") or "Blase +" in said
    assert store.organs(tmp_path / "again") == HEAD_NECK.organs
    said = run("data", "convert", cohort, tmp_path / "again", "--vocabulary", "prostate")
    assert "kept" in said and "Bladder 1" in said and store.organs(tmp_path / "again") == PROSTATE.organs
