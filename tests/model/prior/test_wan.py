"""Wan 2.1's weights in our transformer: equal to diffusers', each tensor accounted for, all else refused."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_priors import WAN, write_wan

from anydose.diffusion import flow
from anydose.diffusion.path import alpha_sigma
from anydose.diffusion.sampler import ddim, times
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import load_model
from anydose.model.codec import wan as wan_codec
from anydose.model.network.dit import DiT
from anydose.model.prior import load as prior
from anydose.model.prior import wan
from anydose.model.shards import Shards

pytest.importorskip("diffusers")
SPACE = (5, 6, 8)  # of the latent


@pytest.fixture(scope="module", params=["diffusers", "original"])
def release(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return folder, write_wan(folder, request.param)


@pytest.fixture
def copy(tmp_path_factory, tmp_path):
    source = tmp_path_factory.getbasetemp() / "sound_wan"
    if not source.is_dir():
        write_wan(source)
    return shutil.copytree(source, tmp_path / "wan")


def ours(folder, modalities=("dose",), **changes):
    files = wan.open_files(folder)
    channels = {name: files.config.channels for name in modalities}
    model = DiT(wan.dit_config(files.config, modalities, **changes), channels, (4, 8, 8)).eval()
    return model, wan.load_into(model, files)


def relative(a, b):
    return float((a - b).norm() / b.norm())


@torch.no_grad()
def run(model, x, t, target="dose", given=None, body=None):
    given = given or {}
    when = {name: torch.zeros_like(t) for name in given} | {target: t}
    body = torch.ones(len(x), 1, *x.shape[2:]) if body is None else body
    return model({**given, target: x}, when, target, torch.ones(len(x), 3), body)


@torch.no_grad()
@pytest.mark.parametrize(("compose", "close"), [(True, 1e-5), (False, 1e-3)])
def test_one_slot_without_text_is_diffusers_wan_with_an_empty_text(release, compose, close):
    folder, theirs = release
    model, _ = ours(folder, compose=compose)
    x, t = torch.randn(2, 4, *SPACE), torch.tensor([0.137, 0.9])
    expected = theirs(x, 1000 * t, torch.zeros(2, 512, WAN.text)).sample
    assert relative(run(model, x, t), expected) < close


@torch.no_grad()
def test_positions_count_patches_and_matter(release):
    folder, theirs = release
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.5])
    expected = theirs(x, 1000 * t, torch.zeros(1, 512, WAN.text)).sample
    assert relative(run(ours(folder, compose=True, unit_mm=16.0)[0], x, t), expected) > 1e-3


@torch.no_grad()
def test_without_the_folded_constant_it_is_another_network(release):
    folder, theirs = release
    model, _ = ours(folder, compose=True)
    for block in model.blocks:
        block.ctx_bias.zero_()
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.5])
    expected = theirs(x, 1000 * t, torch.zeros(1, 512, WAN.text)).sample
    assert relative(run(model, x, t), expected) > 0.01


def test_every_weight_is_used_once_or_dropped_and_the_table_is_the_1_3b():
    with torch.device("meta"):
        real = {k: tuple(v.shape) for k, v in wan_codec.transformer(wan.WanConfig()).state_dict().items()}
    rows = list(wan.WanConfig().tensors("diffusers"))
    assert {name: shape for _, name, shape in rows} == real
    assert len(rows) == len(real) == 825
    assert sum(math.prod(s) for s in real.values()) == 1_418_996_800
    assert sum(math.prod(s) for ours, _, s in rows if ours) == 1_126_858_816
    dropped = [name for ours, name, _ in rows if not ours]
    assert len(dropped) == 30 * (10 + 2) + 4
    assert len({name for _, name, _ in wan.WanConfig().tensors("original")}) == 825
    with torch.device("meta"):
        model = DiT(wan.dit_config(wan.WanConfig(), ("dose",)), {"dose": 16}, (4, 8, 8))
    targets = {ours for ours, _, _ in rows if ours and ours.split(".")[0] not in ("patch", "head")}
    own = {"embed.dose.weight", "embed.dose.bias", "head.dose.weight", "head.dose.bias", *wan.NEW}
    assert set(model.state_dict()) == targets | own | {f"blocks.{n}.ctx_bias" for n in range(30)}


def test_the_norms_that_the_two_releases_number_differently_are_dropped_by_their_own_names():
    pairs = dict(zip(*([name for _, name, _ in WAN.tensors(s)] for s in wan.SCHEMES), strict=True))
    assert pairs["blocks.0.norm3.weight"] == "blocks.0.norm2.weight"
    assert pairs["head.head.weight"] == "proj_out.weight"


@torch.no_grad()
def test_every_modality_starts_as_wan_and_the_order_in_which_they_are_given_does_not_matter(release):
    folder, theirs = release
    names = ("ct", "ptv", "dose")
    model, _ = ours(folder, names, compose=True)
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.4])
    expected = theirs(x, 1000 * t, torch.zeros(1, 512, WAN.text)).sample
    for name in names:
        assert relative(run(model, x, t, name), expected) < 1e-5
    ct, ptv = torch.randn(2, 1, 4, *SPACE)
    one = run(model, x, t, given={"ct": ct, "ptv": ptv})
    assert torch.equal(one, run(model, x, t, given={"ptv": ptv, "ct": ct}))
    assert relative(one, expected) > 1e-3


def test_a_modality_of_equal_channels_is_embedded_as_one_of_them(release):
    folder, _ = release
    files = wan.open_files(folder)
    model = DiT(wan.dit_config(files.config, ("ct", "oar")), {"ct": 4, "oar": 12}, (4, 8, 8))
    wan.load_into(model, files)
    features = torch.randn(7, 16)
    with torch.no_grad():
        wide = model.embed["oar"](features.repeat(1, 3))
        assert torch.allclose(wide, model.embed["ct"](features), atol=1e-5)


def test_checkpointed_blocks_give_the_same_gradients(release):
    model, _ = ours(release[0])
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.5])
    found = []
    for again in (False, True):
        model.checkpointing = again
        model.zero_grad()
        body = torch.ones(1, 1, *SPACE)
        model({"dose": x}, {"dose": t}, "dose", torch.ones(1, 3), body).square().sum().backward()
        found.append(model.blocks[0].ffn[0].weight.grad.clone())
    assert torch.allclose(*found, rtol=1e-5)


def test_tokens_of_the_body_alone_equal_all_tokens_where_all_is_body(release):
    sparse, dense = ours(release[0])[0], ours(release[0], dense=True)[0]
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.5])
    assert torch.equal(run(sparse, x, t), run(dense, x, t))
    half = torch.zeros(1, 1, *SPACE)
    half[..., :4] = 1
    assert (run(sparse, x, t, body=half)[..., 4:] == 0).all()


def mixture(seed=0):
    """Three Gaussians in four dimensions: means, standard deviations, shares."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    return means, torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.5, 0.3])


def posterior_mean(x, a, s):
    """E[x_0 | a x_0 + s eps = x] for the mixture; x (n, 4), a and s (n,)."""
    means, std, share = mixture()
    a, s = a[:, None, None], s[:, None, None]
    var = a**2 * std[:, None] ** 2 + s**2
    gap = x[:, None] - a * means
    log = (-0.5 * gap.square() / var - 0.5 * var.log()).sum(-1) + share.log()
    each = means + (a * std[:, None] ** 2 / var) * gap
    return (log.softmax(dim=1)[..., None] * each).sum(dim=1)


def mixture_flow(y, f):
    """The flow network that is optimal for the mixture: E[eps - x_0 | y]."""
    x0 = posterior_mean(y, 1 - f, f)
    return (y - x0) / f[:, None]


def test_the_adapted_flow_network_has_the_analytic_velocity_of_a_mixture():
    t = torch.linspace(0.02, 1, 60, dtype=torch.float64)
    x = 1.5 * torch.randn(60, 4, dtype=torch.float64)
    a, s = alpha_sigma(t)
    x0 = posterior_mean(x, a, s)
    eps = (x - a[:, None] * x0) / s[:, None]
    truth = a[:, None] * eps - s[:, None] * x0
    u = mixture_flow(flow.into_flow(x, t), flow.flow_time(t))
    v = flow.velocity_from_flow(u, x, t)
    assert (v - truth).abs().max() < 1e-11
    assert (flow.flow_from_velocity(v, x, t) - u).abs().max() < 1e-12


def test_ddim_of_the_adapted_network_is_euler_in_flow():
    noise = torch.randn(200, 4, dtype=torch.float64)

    def velocity(x, t):
        t = t.double()
        return flow.velocity_from_flow(mixture_flow(flow.into_flow(x, t), flow.flow_time(t)), x, t)

    y, f = noise, flow.flow_time(times(20).double())
    for now, then in zip(f[:-1], f[1:], strict=True):
        y = y + (then - now) * mixture_flow(y, now.expand(200))
    assert (ddim(velocity, noise, 20) - y).abs().max() < 1e-5
    assert y.std() > 0.5  # the samples spread as the mixture does


@pytest.mark.parametrize("k", [1.0, 3.0])
def test_a_flow_shift_multiplies_the_tangent_of_the_angle(k):
    for t in (0.1, 0.5, 0.9):
        f, moved = (flow.flow_time(torch.tensor(v, dtype=torch.float64)) for v in (t, flow.shifted(t, k)))
        assert abs(float(moved) - float(k * f / (1 + (k - 1) * f))) < 1e-12
    assert flow.shifted(1.0, k) == 1.0


@torch.no_grad()
def test_an_imported_checkpoint_gives_v_of_diffusers_network(copy, tmp_path):
    theirs = wan_codec.transformer(WAN)
    Shards(copy / "transformer").load_into(theirs)
    record = prior.import_wan(copy, tmp_path, compose=True)
    assert record["tensors"] == {"used": 56, "dropped": 40, "new": 3}
    assert len(record["files"][0]["sha256"]) == 64
    model = load_model(tmp_path / "model.safetensors")
    assert torch.allclose(model.codec.std, torch.tensor([1.0, 2.0, 0.5, 1.5]))
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.7])
    v = model.velocity(x, t, "dose", {}, torch.ones(1, 3), torch.ones(1, 1, *SPACE))
    u = theirs(flow.into_flow(x, t), 1000 * flow.flow_time(t), torch.zeros(1, 512, WAN.text)).sample
    assert relative(v, flow.velocity_from_flow(u, x, t)) < 1e-5


def test_check_says_what_is_there_and_needs_no_model(copy):
    found = prior.check(copy, device="cpu")
    assert found["prior"] == "wan, diffusers names"
    assert found["used"] == 56
    assert "blocks.*.attn2.to_q" in found["dropped"]
    assert len(found["files"]) == len(list((copy / "transformer").glob("*.safetensors"))) > 3
    assert found["expected"]["forward_s"] > 0


def change_config(place, **changes):
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **changes}))


def drop_shard(place):
    sorted(place.glob("*.safetensors"))[1].unlink()


def cut_shard(place):
    path = sorted(place.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-100])


def rename_tensor(place):
    path = sorted(place.glob("*.safetensors"))[0]
    tensors = load_file(path)
    tensors["strange.weight"] = tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)


def swap_shards(place):
    one, two, *_ = sorted(place.glob("*.safetensors"))
    one.write_bytes(two.read_bytes())


BROKEN = {
    "shard of the index is missing": drop_shard,
    "cut short": cut_shard,
    "of the index is not in it": rename_tensor,
    "is not in it": swap_shards,
    "40 blocks of width 5120": lambda p: change_config(
        p, num_attention_heads=40, attention_head_dim=128, num_layers=40
    ),
    "image_dim 1280 found": lambda p: change_config(p, image_dim=1280),
    "qk_norm None found": lambda p: change_config(p, qk_norm=None),
    "shape .* is needed": lambda p: change_config(p, ffn_dim=320),
    "27 tensors missing": lambda p: change_config(p, num_layers=4),
    "AutoencoderKLWan found": lambda p: change_config(p, _class_name="AutoencoderKLWan"),
    "no .safetensors file": lambda p: [f.unlink() for f in p.glob("*.safetensors*")],
    "and no index": lambda p: [f.unlink() for f in p.glob("*.index.json")],
    "no config.json": lambda p: (p / "config.json").unlink(),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_folder_that_is_not_wan_whole_is_refused_in_one_sentence(copy, tmp_path, sentence):
    BROKEN[sentence](copy / "transformer")
    with pytest.raises(ValueError, match=sentence) as error:
        prior.import_wan(copy, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dim_mult": [1, 2, 4]}, "dim_mult"),
        ({"is_residual": True}, "is_residual"),
        ({"z_dim": 8}, "shape|VAE"),
    ],
)
def test_another_vae_is_refused(copy, tmp_path, change, sentence):
    change_config(copy / "vae", **change)
    with pytest.raises(ValueError, match=sentence):
        prior.import_wan(copy, tmp_path / "out")


def test_the_original_vae_is_a_pickle_and_is_refused(copy):
    shutil.rmtree(copy / "vae")
    (copy / "Wan2.1_VAE.pth").write_bytes(b"\x80\x02.")
    with pytest.raises(ValueError, match=r"Wan2.1_VAE.pth is a pickle"):
        wan_codec.load(copy)


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return wan_codec.WanCodec(4, 4).eval().requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 4, 5, 6, 8, 9, 16])
def test_no_slice_is_lost_whatever_the_depth(codec, depth):
    volume = torch.rand(1, 1, depth, 16, 24) * 2 - 1
    latent = codec.encode(volume)
    assert latent.shape == (1, 4, math.ceil((depth - 1) / 4) + 1, 2, 3)
    assert codec.decode(latent, depth).shape == volume.shape
    frames = wan_codec.with_copies(volume)
    copies = frames.shape[2] - depth
    assert frames.shape[2] % 4 == 1
    assert torch.equal(frames[:, :, copies:], volume)
    assert all(torch.equal(frames[:, :, k], volume[:, :, 0]) for k in range(copies))


@torch.no_grad()
def test_the_latent_is_what_the_vae_itself_gives_for_the_padded_picture(codec):
    volume = torch.rand(1, 2, 8, 16, 16) * 2 - 1
    picture = torch.cat([volume[:, 1:, :1], volume[:, 1:]], dim=2).repeat(1, 3, 1, 1, 1)
    expected = codec.vae.encode(picture * wan_codec.HEADROOM).latent_dist.mean
    assert torch.allclose(codec.encode(volume)[:, 4:], expected, atol=1e-5)


def test_a_size_that_the_vae_would_cut_is_refused(codec):
    with pytest.raises(ValueError, match="36 x 16 voxels in plane; multiples of 8"):
        codec.encode(torch.zeros(1, 1, 4, 36, 16))


def test_the_hottest_dose_stays_below_the_decoders_clamp():
    from anydose.case.modality import TABLE

    top = 1 / wan_codec.HEADROOM
    assert TABLE["dose"].from_range(torch.tensor([top]).numpy(), 70.0)[0] > 1.2 * 70


def test_model_and_codec_agree_on_the_grid_with_the_copied_slice():
    backbone = wan.dit_config(WAN, ("ct", "dose"))
    model = Any2Any(ModelConfig(backbone, "wan:4:4", ("ct", "dose"), "noise - data"))
    assert model.multiple == (4, 16, 16)
    body = torch.zeros(1, 8, 32, 32, dtype=torch.bool)
    body[0, 0, 3, 9] = body[0, 6, 20, 20] = True
    grid = model.latent_body(body)
    assert grid.shape == (1, 1, *model.latent_shape("dose", (8, 32, 32))[2:])
    assert grid.nonzero().tolist() == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 2, 2, 2]]
    encoded = model.codec.encode(torch.zeros(1, 1, 8, 32, 32))
    assert encoded.shape == model.latent_shape("dose", (8, 32, 32))
    with pytest.raises(ValueError, match="patches of depth 1"):
        Any2Any(ModelConfig(wan.dit_config(WAN, ("dose",), patch=(("dose", 2),)), "wan:4:4", ("dose",)))
