"""A backbone and a codec that no file of the package knows: trained, saved, loaded, used to predict."""

from dataclasses import replace

import lab_addons
import numpy as np
import pytest
from tiny_cohort import small_case

from anydose.bench.round_trip import round_trip
from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict
from anydose.model.checkpoint import load_model
from anydose.model.codec import make
from anydose.model.network import backbones
from anydose.model.network.unet import UNetConfig
from anydose.predict import Options, predict
from anydose.train.trainer import TrainConfig, Trainer

ONE_LOOK = Options(looks=1, mimic=False)


@pytest.fixture
def tables(monkeypatch):
    """Both tables, as they are without addons, for the length of a test."""
    monkeypatch.setattr(backbones, "BACKBONES", dict(backbones.BACKBONES))
    monkeypatch.setattr(make, "CODECS", dict(make.CODECS))


def test_an_installed_backbone_and_codec_train_and_predict(tables, cohort_folder, tmp_path, monkeypatch):
    lab_addons.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model = ModelConfig(lab_addons.LabConfig(), "mean:2")
    base = TrainConfig(
        name="lab", model=model, data=str(cohort_folder), out=str(tmp_path), warmup=1, precision="fp32"
    )
    trainer = Trainer(replace(base, steps=2, learning_rate=1e-2))
    before = trainer.model.backbone.mix.weight.detach().clone()
    assert len(list(trainer.run())) == 2
    assert (trainer.model.backbone.mix.weight - before).abs().max() > 1e-3
    path = tmp_path / "lab" / "model.safetensors"
    loaded = load_model(path)
    assert isinstance(loaded.backbone, lab_addons.LabNet)
    assert (loaded.config.backbone, loaded.config.codec) == (model.backbone, model.codec)
    assert loaded.multiple == (4, 4, 4)
    case = small_case(5)
    loaded.file = None  # half trained: what it gives may be no dose
    dose = predict(loaded, replace(case, dose=None), ONE_LOOK).mean[0]
    assert dose.shape == case.grid.shape and np.isfinite(dose).all() and not dose[~case.body].any()
    adapted = Trainer(replace(base, name="lora", steps=1, lora=2, init=str(path))).model
    names = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    assert names == ["backbone.mix.lora_A.weight", "backbone.mix.lora_B.weight"]


def test_a_backbone_is_registered_by_a_call_and_no_two_have_one_name(tables):
    stored = {"backbone": {"kind": "lab", "kernel": 3}, "codec": "identity:2", "modalities": ["ct", "dose"]}
    with pytest.raises(ValueError, match="backbone 'lab': one of unet, dit"):
        config_from_dict(stored)
    backbones.register(lab_addons.LabConfig)
    assert isinstance(Any2Any(config_from_dict(stored)).backbone, lab_addons.LabNet)
    backbones.register(lab_addons.LabConfig)  # twice is once
    with pytest.raises(ValueError, match="'lab': LabConfig has this name already"):
        backbones.register(UNetConfig, "lab")


def test_a_codec_is_one_row(tables):
    with pytest.raises(ValueError, match=r"codec 'mean:2': one of identity:N, .* is accepted"):
        make.named_codec("mean:2")
    make.register(lab_addons.MEAN)
    with pytest.raises(ValueError, match="is accepted"):
        make.named_codec("mean:2:3")
    case = small_case(1)
    back = round_trip(case, make.named_codec("mean:2"))
    assert 0 < np.abs(back - case.dose.array).mean() < 5
    assert np.allclose(round_trip(case, make.named_codec("identity:2")), case.dose.array, atol=1e-3)
    with pytest.raises(ValueError, match="'mean': another codec"):
        make.register(replace(lab_addons.MEAN, spec="mean:M"))
    with pytest.raises(ValueError, match="names no weights"):
        make.named_codec("compact:8")
