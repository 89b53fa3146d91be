"""The convolutional backbone: slots, roles, and a start at zero."""

import pytest
import torch

from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict, pick_device
from anydose.model.checkpoint import describe, load_model, save_model
from anydose.model.codec.make import make_codec
from anydose.model.network.layers import Conv3
from anydose.model.network.unet import UNet, UNetConfig

TINY = UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16)
CHANNELS = {"ct": 2, "ptv": 2, "dose": 3}


def net():
    torch.manual_seed(0)
    model = UNet(TINY, CHANNELS).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1) if p.abs().sum() == 0 else None
    return model


def inputs(n=1):
    torch.manual_seed(1)
    latents = {m: torch.randn(n, c, 4, 6, 8) for m, c in CHANNELS.items()}
    times = {"ct": torch.zeros(n), "ptv": torch.zeros(n), "dose": torch.full((n,), 0.5)}
    return latents, times, torch.full((n, 3), 3.0)


@pytest.mark.parametrize("target", CHANNELS)
def test_a_new_network_predicts_zero_velocity_for_any_target(target):
    latents, _, spacing = inputs()
    times = {m: torch.full((1,), float(m == target)) for m in CHANNELS}
    v = UNet(TINY, CHANNELS)(latents, times, target, spacing)
    assert v.shape == latents[target].shape
    assert not v.any()


def test_batch_items_do_not_mix():
    latents, times, spacing = inputs(n=2)
    both = net()(latents, times, "dose", spacing)
    one = net()(
        {m: v[1:] for m, v in latents.items()}, {m: t[1:] for m, t in times.items()}, "dose", spacing[1:]
    )
    assert torch.allclose(both[1:], one, atol=1e-5)


def test_time_role_visibility_and_spacing_all_matter():
    latents, times, spacing = inputs()
    base = net()(latents, times, "dose", spacing)
    later = net()(latents, {**times, "dose": torch.full((1,), 0.9)}, "dose", spacing)
    zeroed = {**latents, "ct": torch.zeros_like(latents["ct"])}
    visible_zero = net()(zeroed, times, "dose", spacing)
    absent = net()(
        {m: latents[m] for m in ("ptv", "dose")}, {m: times[m] for m in ("ptv", "dose")}, "dose", spacing
    )
    wider = net()(latents, times, "dose", spacing * 1.5)
    for other in (later, visible_zero, absent, wider):
        assert (other - base).abs().max() > 1e-4
    assert (visible_zero - absent).abs().max() > 1e-4  # a slot of zeros is not an absent slot


def tiny_model(codec="identity:2"):
    torch.manual_seed(0)
    return Any2Any(ModelConfig(TINY, codec))


def test_a_checkpoint_rebuilds_the_model_and_says_where_it_came_from(tmp_path):
    model = tiny_model("compact:4")
    save_model(model, tmp_path / "m.safetensors", {"step": 7})
    again = load_model(tmp_path / "m.safetensors")
    assert again.config == model.config
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    assert describe(tmp_path / "m.safetensors")["record"] == {"step": 7}
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "m.safetensors"
    save_model(tiny_model(), path, {})
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        meta = file.metadata()
    weights = load_file(path)
    name = next(iter(weights))
    for broken in ({k: v for k, v in weights.items() if k != name}, {**weights, "extra": torch.ones(1)}):
        save_file(broken, path, meta)
        with pytest.raises(ValueError, match="m.safetensors"):
            load_model(path)
    save_file(weights, path, {"format": "something"})
    with pytest.raises(ValueError, match="something"):
        load_model(path)
    path.write_bytes(b"\x10")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_model(path)


def test_an_unknown_setting_codec_or_device_is_refused():
    with pytest.raises(ValueError, match="depht"):
        config_from_dict(
            {"backbone": {"kind": "unet", "depht": 3}, "codec": "identity:2", "modalities": ["ct"]}
        )
    with pytest.raises(ValueError, match="zip:2"):
        make_codec("zip:2")
    with pytest.raises(ValueError, match="tpu"):
        pick_device("tpu")


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_the_weight_gradient_in_bfloat16_is_that_of_float32(depth):
    torch.manual_seed(0)
    conv = Conv3(32).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 32, depth, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    (exact,) = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    for _ in range(3):  # what is uninitialised may be right once
        with torch.autocast("cpu", torch.bfloat16):
            loss = conv(x).float().square().sum()
        (got,) = torch.autograd.grad(loss, conv.weight)
        assert (got - exact).norm() < 0.02 * exact.norm()
