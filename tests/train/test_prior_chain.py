"""The whole chain at its smallest: moving pictures, prior, import, latents, any2any, dose, predict."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anydose.model.any2any import Any2Any
from anydose.model.checkpoint import describe, load_model
from anydose.model.codec import wan as wan_codec
from anydose.model.prior import load as prior
from anydose.model.prior import tiny as moving
from anydose.predict import Options, predict
from anydose.train import recipes
from anydose.train.encode import EncodeConfig, encode
from anydose.train.trainer import Trainer

pytest.importorskip("diffusers")


def test_moving_pictures_move_and_stay_in_range():
    clips = [moving.clip(np.random.default_rng(k)) for k in range(8)]
    assert all(c.shape == (1, moving.FRAMES, moving.EDGE, moving.EDGE) for c in clips)
    assert all(-1 <= float(c.min()) < 0.9 * float(c.max()) for c in clips)
    assert sum(float((c[:, 1:] - c[:, :-1]).abs().mean()) > 1e-3 for c in clips) >= 7


@pytest.mark.parametrize(("machine", "lora"), [("24gb", 64), ("80gb", 0), ("8x80gb", 0)])
@pytest.mark.parametrize("name", recipes.PRIORS)
def test_recipes_of_priors_are_the_papers_on_every_machine(name, machine, lora):
    first, second = (recipes.resolve(r, prior=name, machine=machine) for r in ("any2any", "dose"))
    assert (first.learning_rate, first.clip, first.epochs, first.precision) == (1e-4, 0.1, 100, "bf16")
    assert first.crop == (96, 128, 160)  # 97 with the slice that Wan's VAE wants repeated
    assert (first.lora, first.checkpointing, first.latents) == (lora, True, True)
    assert first.init == f"runs/{name}/model.safetensors"
    assert second.init == f"{first.out}/{first.name}/model.safetensors"
    assert second.task.dose_share > first.task.dose_share
    with pytest.raises(ValueError, match="24gb, 80gb, 8x80gb is accepted"):
        recipes.resolve("any2any", prior=name, machine="4090")
    with pytest.raises(ValueError, match="wan, maisi is accepted"):
        recipes.resolve("any2any", prior="sora")


@pytest.mark.slow
def test_from_moving_pictures_to_a_dose(cohort_folder, tmp_path, monkeypatch):
    from tiny_cohort import small_case

    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(cohort_folder)
    found = moving.train(Path("tiny"), steps=6)
    assert found["transformer"]["last"] < found["transformer"]["first"]
    record = prior.import_wan(Path("tiny"), Path("runs/wan"))
    assert record["tensors"]["used"] + record["tensors"]["dropped"] == len(
        list(moving.SIZE.tensors("original"))
    )
    start = load_model(Path("runs/wan/model.safetensors"))
    assert isinstance(start.codec, wan_codec.WanCodec)
    assert (
        len(list(encode(Path("data"), Path("runs/wan/model.safetensors"), EncodeConfig(crop=(8, 32, 32)))))
        == 3
    )
    quick = ("data=data", "epochs=1", "lora=4", "warmup=1", "learning_rate=0.001", "precision=fp32")
    for stage in ("any2any", "dose"):
        trainer = Trainer(recipes.resolve(stage, quick, "wan"))
        assert len(list(trainer.run())) == 3
    path = Path("runs/dose-wan/model.safetensors")
    assert describe(path)["record"]["recipe"]["init"] == "runs/any2any-wan/model.safetensors"
    model = load_model(path)
    assert moved(start, model) > 1e-4
    case = small_case(5)
    model.file = None  # half trained: what it gives may be no dose
    result = predict(
        model,
        replace(case, dose=None),
        Options(steps=2, precision="fp32", given=("ct", "ptv"), looks=1, mimic=False),
    )
    assert result.mean.shape == (1, *case.grid.shape)
    assert np.isfinite(result.mean).all()
    assert result.used == ("ct", "ptv")
    assert (result.mean[0][~case.body] == 0).all()


def moved(before: Any2Any, after: Any2Any) -> float:
    """The largest change of an adapted weight: transferred, then trained and merged."""
    pairs = zip(before.backbone.blocks, after.backbone.blocks, strict=True)
    return max(float((a.q.weight - b.q.weight).detach().abs().max()) for a, b in pairs)
