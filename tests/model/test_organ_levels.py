"""Organs in one volume of levels: the challenge's arithmetic, what overlaps lose, and a model that sees
them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_cohort import small_case

from anydose.case.naming.vocabulary import HEAD_NECK, PROSTATE
from anydose.io import store
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.augment import flipped
from anydose.model.checkpoint import load_model, save_model
from anydose.model.network.dit import DiTConfig
from anydose.model.organ_levels import channels_of, levels_of
from anydose.model.organs import with_organs
from anydose.model.sample import draw_sample
from anydose.predict import Options, predict
from anydose.train.config import TrainConfig
from anydose.train.encode import EncodeConfig, encode
from anydose.train.latents import LatentCohort
from anydose.train.trainer import Trainer

LEVELS = ModelConfig(DiTConfig(dim=32, depth=2, heads=2, ffn=64), "identity:4", organs_as="levels")


def organs(n, seed=0, share=0.1):
    drawn = torch.rand(n, 6, 7, 8, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(drawn, 1.0, -1.0)


def test_thirty_organs_have_the_levels_of_the_challenge():
    """Its loader takes, of the organs at a voxel, the maximum of 1 + 4 k / 30, and 0 where there is none."""
    channels = organs(30, share=0.02)
    k = torch.arange(1, 31.0)[:, None, None, None]
    theirs = ((channels > 0) * (1 + 4 * k / 30)).amax(dim=0, keepdim=True)
    assert torch.allclose((levels_of(channels) + 1) / 2 * 5, theirs, atol=1e-5)
    assert theirs.unique().numel() > 20 and theirs.min() == 0


@pytest.mark.parametrize("n", [1, 8, 43])
def test_organs_that_do_not_overlap_come_back_and_of_two_that_do_the_higher(n):
    channels = organs(n)
    number = torch.arange(n)[:, None, None, None]
    highest = torch.where(channels > 0, number, -1).amax(dim=0)
    kept = torch.where(number == highest, 1.0, -1.0)
    noisy = levels_of(channels) + 0.45 * (4 / 5 / n) * (2 * torch.rand(1, 6, 7, 8) - 1)
    assert torch.equal(channels_of(noisy, n), kept)
    assert n == 1 or (channels > 0).sum() > (kept > 0).sum() > 0


def test_left_and_right_are_exchanged_before_levels_are_drawn():
    """Levels have a side that no permutation of channels can mend: the mirror image is drawn anew."""
    sample, _ = draw_sample(small_case(0))
    mirrored = levels_of(flipped(sample, True, False).volumes["oar"])
    paired = sample.organs.index("Parotid_L"), sample.organs.index("Parotid_R")
    by_hand = sample.volumes["oar"].clone()
    by_hand[list(paired)] = by_hand[list(paired[::-1])]
    assert torch.equal(mirrored, levels_of(by_hand.flip(-1)))
    assert not torch.equal(mirrored, levels_of(sample.volumes["oar"]).flip(-1))


def test_a_model_of_levels_is_stored_predicts_and_gives_organs(tmp_path):
    torch.manual_seed(0)
    model = Any2Any(LEVELS).eval()
    for p in model.backbone.parameters():
        torch.nn.init.normal_(p, std=0.1)  # its read-outs start at zero
    assert model.latent_shape("oar", (8, 8, 8))[1] == model.codec.latent_channels
    save_model(model, tmp_path / "m.safetensors", {})
    again = load_model(tmp_path / "m.safetensors")
    assert again.config.organs_as == "levels" and again.channels("oar") == 1
    again.file = None  # of random weights: what it gives is no dose
    case = small_case(0)
    how = Options(looks=1, mimic=False, precision="fp32", seed=3)
    dose = predict(case, again, how).mean
    (organ,) = (name for name in case.structures if name == "SpinalCord")
    without = replace(case, structures={k: v for k, v in case.structures.items() if k != organ})
    assert (dose != predict(without, again, how).mean).any()
    made = predict(case, again, replace(how, target="oar")).mean
    assert made.shape == (len(HEAD_NECK.organs), *case.grid.shape)
    assert set(np.unique(made)) <= {0.0, 1.0} and (made.sum(axis=0) <= 1).all() and made.any()


def test_their_latents_lie_beside_those_of_channels_and_train(tmp_path):
    case = small_case(0)
    store.write_stored(case, tmp_path / "store", case.name)
    each = []
    for form in ("levels", "channels"):
        torch.manual_seed(0)
        path = tmp_path / form / "model.safetensors"
        path.parent.mkdir()
        save_model(Any2Any(replace(LEVELS, organs_as=form)), path, {})
        (file,) = encode(tmp_path / "store", path, EncodeConfig(crop=(16, 16, 16)))
        model = load_model(path)
        found = LatentCohort(tmp_path / "store", model.codec, organs_as=form)
        each.append((file, found.load(0).values["oar"].shape[1]))
        run = {"data": str(tmp_path / "store"), "latents": True, "init": str(path), "out": str(tmp_path)}
        (step,) = Trainer(TrainConfig(**run, name=f"run-{form}", steps=1, precision="fp32")).run()
        assert np.isfinite(step.metrics["loss"])
    (levels, one), (channels, eight) = each
    assert levels.parent != channels.parent and (one, eight) == (64, 8 * 64)
    with pytest.raises(ValueError, match="organs_as=channels is needed"):
        Trainer(TrainConfig(**run | {"init": str(tmp_path / "levels")}, organ_weight=2.0, steps=1))


def test_other_organs_mean_other_levels_and_are_refused():
    with pytest.raises(ValueError, match="levels"):
        with_organs(Any2Any(LEVELS), PROSTATE.organs)
    with pytest.raises(ValueError, match="channels, levels"):
        Any2Any(replace(LEVELS, organs_as="colours"))
    assert Any2Any(LEVELS).config.organs == HEAD_NECK.organs
