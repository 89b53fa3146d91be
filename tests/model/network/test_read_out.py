"""The transformer's other read-outs: plates times weights, convolutions that start as nothing, tokens that
start with what lies there."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from anydose.case.modality import TABLE
from anydose.diffusion import path as vp
from anydose.model import registry
from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict
from anydose.model.checkpoint import load_model, save_model
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.read_out import PlateReadOut
from anydose.model.network.tokens import interpolate, pack
from anydose.train import recipes

PATCH = tuple((name, 8 if name in ("ct", "body", "angle") else 4) for name in TABLE)
PLAIN = DiTConfig(dim=32, depth=1, heads=2, ffn=64, patch=PATCH)
FULL = replace(PLAIN, sigma_data=0.1, co_located=True, plate_read_out=True, head_width=8, head_blocks=1)
SPACING = torch.tensor([[4.0, 4.0, 2.5]])


def tiny(config, seed=0):
    torch.manual_seed(seed)
    return Any2Any(ModelConfig(config)).eval()


def awake(model):
    """The model with its zero layers filled: they would hide every effect."""
    torch.manual_seed(5)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1) if p.abs().sum() == 0 else None
    return model


def latents(shape=(8, 8, 8), names=tuple(TABLE), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(1, 8 * TABLE[name].channels, *shape, generator=generator) * 2 - 1 for name in names
    }


def ask(model, values, target, t=1.0, body=None):
    """V of `target`, whose latent in `values` is the noisy one."""
    given = {name: v for name, v in values.items() if name != target}
    body = torch.ones(1, 1, *values[target].shape[2:], dtype=torch.bool) if body is None else body
    with torch.no_grad():
        return model.velocity(values[target], torch.tensor([t]), target, given, SPACING, body)


def test_interpolation_returns_a_linear_field_and_knows_no_air():
    body = torch.ones(1, 1, 4, 4, 16, dtype=torch.bool)
    patches = pack(torch.zeros(1, 1, 4, 4, 16), body, 4, torch.ones(1, 3))
    field = interpolate(patches.position_mm[..., 2:], patches, 4)[0, 0, 0, 0]
    assert_close(field[2:14], torch.arange(16)[2:14] + 0.5)
    body[..., 8:] = False  # of two tokens of four, a constant stays one up to its end
    patches = pack(torch.zeros(1, 1, 4, 4, 16), body, 4, torch.ones(1, 3))
    field = interpolate(torch.full((1, 2, 1), 3.0), patches, 4)[0, 0, 0, 0]
    assert_close(field[:10], torch.full((10,), 3.0))
    assert field[12:].tolist() == [0.0] * 4


def test_plate_read_out_is_plates_times_weights_by_hand():
    beam = latents(names=("beam",))["beam"]
    body = torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    tokens = pack(torch.zeros(1, 1, 8, 8, 8), body, 4, torch.ones(1, 3))
    read_out = PlateReadOut(3)
    with torch.no_grad():
        read_out.weights.bias.copy_(torch.arange(10.0))  # the same everywhere: nothing to interpolate
        dose = read_out(torch.randn(1, 8, 3), tokens, 4, beam)
    plates = (beam.unflatten(1, (10, 8)) + 1) / 2
    assert_close(dose, sum(k * plates[:, k] for k in range(10)))


def test_an_untrained_dose_is_none_and_convolutions_start_as_nothing():
    model, values = tiny(FULL), latents()
    assert torch.equal(ask(model, values, "dose"), torch.ones(1, 8, 8, 8, 8))  # v = -x_0, and -1 is 0 Gy
    plain = tiny(replace(FULL, head_width=0))
    awake(plain)
    with_head = tiny(FULL)
    with_head.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(ask(with_head, values, "dose"), ask(plain, values, "dose"))
    before = ask(awake(with_head), values, "dose")
    assert not torch.equal(before, ask(plain, values, "dose"))


@pytest.mark.parametrize("target", TABLE)
def test_any_modality_is_given_or_wanted(target):
    model, values = awake(tiny(FULL)), latents()
    whole = ask(model, values, target, t=0.5)
    assert whole.shape == values[target].shape and whole.isfinite().all()
    for name in values.keys() - {target}:
        without = ask(model, {k: v for k, v in values.items() if k != name}, target, t=0.5)
        assert not torch.equal(whole, without), name


def test_pure_noise_says_nothing_and_the_truth_says_all():
    model, values = awake(tiny(FULL)), latents()
    other = {**values, "dose": latents(seed=2)["dose"]}
    assert model.blind_at_one and not tiny(PLAIN).blind_at_one
    assert torch.equal(ask(model, values, "dose"), ask(model, other, "dose"))
    t = torch.tensor([0.001])
    v = ask(model, values, "dose", t=0.001)
    assert_close(vp.data_from_velocity(values["dose"], v, t), values["dose"], atol=1e-2, rtol=0)


def test_air_neither_counts_nor_holds_dose():
    model, values = awake(tiny(FULL)), latents()
    body = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    body[..., :4, :4, :5] = True
    v = ask(model, values, "dose", body=body)
    changed = {k: torch.where(torch.arange(8) < 7, x, 0.3) for k, x in values.items()}  # beyond convolutions
    wide = {k: torch.nn.functional.pad(x, (0, 8)) for k, x in values.items()}
    boxed = ask(model, wide, "dose", body=torch.nn.functional.pad(body, (0, 8)))
    assert_close(boxed[..., :8][body.expand_as(v)], v[body.expand_as(v)])
    assert changed["dose"].shape == v.shape
    assert torch.equal(model.region(body, "dose"), body)
    assert model.region(body, "body").sum() > body.sum()


def test_mirrored_plates_mirror_the_dose_of_even_weights():
    """Plates that change places with their sectors under equal weights give the mirrored sum."""
    beam = latents(names=("beam",))["beam"].unflatten(1, (10, 8))
    order = list(TABLE["beam"].mirror)
    body = torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    tokens = pack(torch.zeros(1, 1, 8, 8, 8), body, 4, torch.ones(1, 3))
    read_out = PlateReadOut(2)
    weights = torch.arange(10.0)
    features = torch.zeros(1, 8, 2)
    with torch.no_grad():
        read_out.weights.bias.copy_(weights)
        dose = read_out(features, tokens, 4, beam.flatten(1, 2))
        read_out.weights.bias.copy_(weights[order])
        mirrored = read_out(features, tokens, 4, beam[:, order].flip(-1).flatten(1, 2))
    assert_close(mirrored, dose.flip(-1))


def test_a_checkpoint_brings_the_options_back(tmp_path):
    model, values = awake(tiny(FULL)), latents()
    save_model(model, tmp_path / "m.safetensors", {})
    again = load_model(tmp_path / "m.safetensors")
    assert again.config == model.config
    assert torch.equal(ask(again, values, "dose"), ask(model, values, "dose"))


def test_a_configuration_older_than_the_options_is_the_plain_transformer():
    old = {"backbone": {"kind": "dit", "dim": 32, "depth": 1, "heads": 2, "ffn": 64}, "codec": "compact:4"}
    backbone = config_from_dict(old).backbone
    assert backbone == replace(PLAIN, patch=DiTConfig().patch)
    assert not any(isinstance(m, PlateReadOut) for m in DiT(backbone, {"dose": 4}, 4).modules())


def test_plates_need_voxels():
    with pytest.raises(ValueError, match="plate_read_out: codec compact:4"):
        Any2Any(ModelConfig(replace(FULL, patch=DiTConfig().patch), "compact:4"))


def test_the_shipped_transformer_has_the_recipe_s_network_and_all_weights_fit_their_limits():
    shipped = registry.shipped()
    model = load_model(shipped["compact-hn-dit"])
    recipe = recipes.RECIPES["hn-transformer-whole-bodies"].model
    seen = {"trained_mm": model.config.trained_mm, "working_mm": model.config.working_mm}
    assert model.config == replace(recipe, **seen)
    assert model.config.trained_mm != recipe.trained_mm, "training records what its cohort has"
    sizes_mb = [path.stat().st_size / 1e6 for path in shipped.values()]
    assert max(sizes_mb) <= 40
    assert sum(sizes_mb) <= 80
