"""Exchanges along the rays of beams, against the geometry that draws the plates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from anydose.case import beams
from anydose.case.grid import Grid
from anydose.model.any2any import Any2Any, ModelConfig, config_from_dict
from anydose.model.network import beams_eye_view, body_voxels
from anydose.model.network.beams_eye_view import Exchange, Rays
from anydose.model.network.unet import UNet, UNetConfig

CONFIG = UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16, bev_exchange=6)
CHANNELS = {"ptv": 1, "beam": 1 + beams.SECTORS, "dose": 1}
SPACING_MM = (8.0, 9.0, 5.0)


def patient(share=9, shift=0):
    """(beam latent of one-voxel patches (1, 10, d, h, w), body mask (1, d, h, w)) of an elliptic cylinder
    with a target off its axis and `share` of nine equispaced fields."""
    grid = Grid((20, 24, 32), SPACING_MM, (0.0, 0.0, 0.0))
    z, y, x = np.indices(grid.shape)
    body = ((y - 12) / 11) ** 2 + ((x - 16) / 15) ** 2 < 1
    target = ((z - 9) / 5) ** 2 + ((y - 10 - shift) / 3) ** 2 + ((x - 20) / 5) ** 2 < 1
    iso_mm = grid.to_mm(np.argwhere(target)).mean(axis=0)
    views = beams.beams_eye_views(beams.equispaced(9, iso_mm)[:share])
    plates = beams.draw_beams(views, target, grid, body.astype(np.float32))
    return torch.from_numpy(2 * plates - 1)[None], torch.from_numpy(body)[None]


def numbered(latent, body, spacing_mm=SPACING_MM):
    level = body_voxels.pyramid(body, 1)[0]
    plates = beams_eye_view.open_beams(latent, level)
    spacing = torch.tensor([spacing_mm] * len(body))
    return level, plates, *beams_eye_view.ray_places(level, spacing, plates[:, 0])


def along(plate, number):
    """Which share of the variance of a plate's outline lies between rays, not along them."""
    inside, where = (plate > 0.02).double(), number - number.min()
    count = torch.zeros(int(where.max()) + 1, dtype=torch.double).index_add(0, where, torch.ones_like(inside))
    mean = torch.zeros_like(count).index_add(0, where, inside) / count.clamp(min=1)
    return 1 - float((inside - mean[where]).square().mean() / inside.var())


def test_a_plate_is_the_same_all_along_a_ray_and_not_along_those_of_another_sector():
    _, plates, number, _ = numbered(*patient())
    for sector in range(beams.SECTORS):
        own = along(plates[:, 1 + sector], number[sector])
        others = [along(plates[:, 1 + sector], n) for k, n in enumerate(number) if k != sector]
        assert own > 0.88 > 0.8 > max(others), sector


def test_every_patient_of_a_batch_and_every_sector_has_rays_of_its_own():
    (one, body), (other, _) = patient(), patient(shift=2)
    level, _, number, shape = numbered(torch.cat([one, other]), torch.cat([body, body]))
    rows_of_first = level.counts[0]
    kinds = [set(part.flatten().tolist()) for n in number for part in n.split([rows_of_first] * 2)]
    assert len(set.union(*kinds)) == sum(map(len, kinds))
    assert int(number.min()) >= 0 and int(number.max()) < np.prod(shape)


def test_what_a_row_holds_reaches_the_rows_on_its_rays_and_no_others():
    torch.manual_seed(0)
    level, plates, number, shape = numbered(*patient())
    layer = Exchange(8, 6)
    nn.init.normal_(layer.outwards.weight)
    x = torch.randn(sum(level.counts), 8)
    centre = int(plates[:, 1:].amin(dim=1).argmax())  # all nine fields cover it
    changed = x.clone()
    changed[centre] += 5
    rays = Rays(plates=plates[:, 1:], place=number, shape=shape)
    reached = (layer(changed, rays) - layer(x, rays)).abs()
    view = torch.stack([number // shape[2], number % shape[2]])
    near = (view - view[:, :, centre, None]).abs().amax(dim=0) <= 2  # two convolutions of 3 x 3
    possible = (near & (plates[:, 1:].T > 0)).any(dim=0)
    possible[centre] = True
    assert not reached[~possible].any()
    assert (reached[possible].amax(dim=1) > 0).float().mean() > 0.95
    assert 0.02 < possible.float().mean() < 0.5
    nothing = layer(x, replace(rays, plates=torch.zeros_like(rays.plates))) - x
    assert torch.allclose(nothing, layer.outwards.bias.expand_as(x), atol=1e-6)


def velocity(net, beam, body, given=("ptv", "beam")):
    torch.manual_seed(1)
    latents = {name: torch.randn(len(body), 1, *body.shape[1:]) for name in ("ptv", "dose")} | {"beam": beam}
    latents = {name: latents[name] for name in (*given, "dose")}
    times = {name: torch.full((len(body),), float(name == "dose")) for name in latents}
    return net(latents, times, "dose", torch.tensor([SPACING_MM] * len(body)), body[:, None])


def network(size=6):
    torch.manual_seed(0)
    net = UNet(replace(CONFIG, bev_exchange=0), CHANNELS).eval()
    nn.init.normal_(net.read_out["dose"].weight)
    net.add_exchange(size)
    return net


def test_exchanges_start_as_nothing_and_work_only_where_beams_are_given():
    beam, body = patient()
    plain, with_rays = network(0), network()
    assert torch.equal(velocity(with_rays, beam, body), velocity(plain, beam, body))
    for layer in with_rays.bev_exchange:
        nn.init.normal_(layer.outwards.weight)
    assert (velocity(with_rays, beam, body) - velocity(plain, beam, body)).abs().max() > 1e-2
    without = [velocity(net, beam, body, ("ptv",)) for net in (plain, with_rays)]
    assert torch.equal(*without)


def test_patients_of_a_batch_do_not_meet():
    (one, body), (other, _) = patient(), patient(shift=2)
    net = network()
    for layer in net.bev_exchange:
        nn.init.normal_(layer.outwards.weight)
    torch.manual_seed(1)
    ptv, dose = torch.randn(2, 1, *body.shape[1:]), torch.randn(2, 1, *body.shape[1:])
    latents = {"ptv": ptv, "beam": torch.cat([one, other]), "dose": dose}

    def run(of):
        part = {name: v[of] for name, v in latents.items()}
        times = {name: torch.full((len(part["ptv"]),), float(name == "dose")) for name in part}
        spacing = torch.tensor([SPACING_MM] * len(part["ptv"]))
        return net(part, times, "dose", spacing, torch.cat([body, body])[of][:, None])

    both = run(slice(0, 2))
    assert torch.allclose(both, torch.cat([run(slice(0, 1)), run(slice(1, 2))]), atol=1e-4)


def test_weights_can_gain_exchanges_and_codecs_without_plates_have_none():
    tiny = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
    model = Any2Any(tiny)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    model.adopt(replace(tiny, backbone=replace(tiny.backbone, bev_exchange=6)))
    assert model.config.backbone.bev_exchange == 6 and len(model.backbone.bev_exchange) == 2
    assert all(torch.equal(model.state_dict()[name], p) for name, p in before.items())
    with pytest.raises(ValueError, match="bev_exchange"):
        Any2Any(replace(tiny, backbone=CONFIG, codec="compact:8"))


def test_weights_older_than_the_setting_have_none():
    stored = {"backbone": {"kind": "unet", "widths": [8, 16]}, "codec": "identity:2", "modalities": ["ct"]}
    assert config_from_dict(stored).backbone.bev_exchange == 0


def test_a_model_with_rays_moves_to_a_device_with_its_3d_convolutions_channels_last():
    model = Any2Any(ModelConfig(UNetConfig((8, 16), (1, 1), (1,), 16, bev_exchange=4))).on(
        torch.device("cpu")
    )
    formats = {
        p.is_contiguous(memory_format=torch.channels_last_3d) for p in model.parameters() if p.dim() == 5
    }
    assert formats == {True}
    assert any(p.dim() == 4 for p in model.parameters())
