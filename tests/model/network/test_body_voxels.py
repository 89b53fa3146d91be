"""Convolutions over the voxels that hold body, against torch's own over the whole box."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anydose.model.any2any import config_from_dict
from anydose.model.network import body_voxels
from anydose.model.network.unet import UNet, UNetConfig

CONFIG = UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16)
CHANNELS = {"ct": 2, "body": 1, "dose": 3}


def body(n=2, space=(6, 8, 10), share=0.4, seed=0):
    return torch.rand(n, *space, generator=torch.Generator().manual_seed(seed)) < share


@pytest.mark.parametrize("rows_a_piece", [7, 1024])
def test_a_convolution_and_its_gradients_are_torchs_where_air_is_zero(monkeypatch, rows_a_piece):
    monkeypatch.setattr(body_voxels, "PIECE", rows_a_piece)
    torch.manual_seed(0)
    mask = body()
    level = body_voxels.pyramid(mask, 1)[0]
    x = torch.randn(2, 5, *mask.shape[1:], dtype=torch.float64, requires_grad=True)
    layer = nn.Conv3d(5, 7, 3, padding=1).double()
    of_y = torch.randn(2, 7, *mask.shape[1:], dtype=torch.float64)
    dense = layer(x * mask[:, None]) * mask[:, None]
    ours = body_voxels.scatter(
        body_voxels.convolve(body_voxels.gather(x, level), level.neighbours, layer.weight, layer.bias), level
    )
    assert torch.allclose(ours, dense, atol=1e-12)
    wanted = (x, layer.weight, layer.bias)
    for got, true in zip(
        *(torch.autograd.grad((y * of_y).sum(), wanted) for y in (ours, dense)), strict=True
    ):
        assert torch.allclose(got, true, atol=1e-12)


def test_halving_and_doubling_are_torchs_convolutions_of_stride_2():
    torch.manual_seed(0)
    mask = body(share=0.1)
    fine, coarse = body_voxels.pyramid(mask, 2)
    assert 0.1 < coarse.mask.float().mean() < 0.9
    x = torch.randn(2, 5, *mask.shape[1:])
    down, up = nn.Conv3d(5, 7, 2, stride=2), nn.ConvTranspose3d(7, 4, 2, stride=2)
    less = body_voxels.down(body_voxels.gather(x, fine), fine, coarse, down.weight, down.bias)
    dense = down(x * mask[:, None])
    assert torch.allclose(body_voxels.scatter(less, coarse), dense * coarse.mask[:, None], atol=1e-5)
    more = body_voxels.scatter(body_voxels.up(less, fine, up.weight, up.bias), fine)
    assert torch.allclose(more, up(dense) * mask[:, None], atol=1e-5)


def test_a_norm_is_over_each_patients_own_rows():
    x = torch.randn(9, 16) * 3 + 1
    both = body_voxels.group_norm(x, (5, 4), 8)
    assert torch.allclose(both[5:], body_voxels.group_norm(x[5:], (4,), 8), atol=1e-6)
    assert torch.allclose(both[:5], F.group_norm(x[:5].T[None], 8)[0].T, atol=1e-5)


def test_a_box_without_body_is_kept_whole():
    mask = body()
    mask[1] = False
    first, last = body_voxels.pyramid(mask, 2)
    assert first.counts[1] == mask[1].numel() and last.counts[1] == mask[1].numel() // 8
    assert torch.equal(first.mask[0], mask[0])


def network(sparse=True):
    torch.manual_seed(0)
    net = UNet(replace(CONFIG, sparse=sparse), CHANNELS).eval()
    for p in net.parameters():
        nn.init.normal_(p, std=0.1) if not p.any() else None
    return net


def velocity(net, latents, mask, target="dose"):
    times = {name: torch.full((1,), float(name == target) / 2) for name in latents}
    return net(latents, times, target, torch.full((1, 3), 3.0), mask)


def patient(space=(6, 8, 10)):
    torch.manual_seed(1)
    return {m: torch.randn(1, c, *space) for m, c in CHANNELS.items()}, body(1, space)[:, None]


@pytest.mark.parametrize("sparse", [True, False])
def test_air_and_how_much_of_it_there_is_say_nothing_to_a_sparse_network(sparse):
    net, (latents, mask) = network(sparse), patient()
    plain = velocity(net, latents, mask)
    around = (4, 2, 0, 4, 2, 4)
    wider = velocity(net, {m: F.pad(v, around) for m, v in latents.items()}, F.pad(mask, around))
    wider = wider[:, :, 2:8, :8, 4:14]
    filled = velocity(net, {m: torch.where(mask, v, v + 1) for m, v in latents.items()}, mask)
    for other in (wider, filled):
        change = ((other - plain) * mask).abs().max()
        assert change < 1e-5 if sparse else change > 1e-2


def test_where_the_body_is_wanted_the_mask_tells_nothing():
    net, (latents, mask) = network(), patient()
    assert torch.equal(velocity(net, latents, mask, "body"), velocity(net, latents, ~mask, "body"))
    assert velocity(net, latents, mask, "body").abs().min() > 0


def test_weights_older_than_the_setting_keep_their_function():
    stored = {"backbone": {"kind": "unet", "widths": [8, 16]}, "codec": "identity:2", "modalities": ["ct"]}
    assert config_from_dict(stored).backbone.sparse is False
    stored["backbone"]["sparse"] = True
    assert config_from_dict(stored).backbone.sparse is True
