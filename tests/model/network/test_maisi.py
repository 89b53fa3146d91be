"""MAISI's weights: its U-Net to the bit before training, gradients to every new part, its VAE as a codec."""

from dataclasses import replace

import pytest
import torch
from tiny_priors import write_maisi

from anydose.diffusion import flow
from anydose.diffusion.path import alpha_sigma
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import load_model
from anydose.model.codec import maisi as maisi_codec
from anydose.model.codec.make import make_codec
from anydose.model.network import maisi
from anydose.model.network.dit import DiTConfig
from anydose.model.network.maisi import MaisiUNet
from anydose.model.prior import load as prior

pytest.importorskip("monai")
CHANNELS = {"ct": 4, "oar": 12, "dose": 4}
SPACE = (4, 8, 8)
SPACING = torch.tensor([[1.5, 1.5, 3.0]])


@pytest.fixture(scope="module")
def rflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    return folder, write_maisi(folder)


def ours(folder):
    file = maisi.load(prior.maisi_paths(folder).unet)
    model = MaisiUNet(file.config, CHANNELS).eval()
    return model, maisi.load_into(model, file)


def run(model, latents, target="dose", t=0.3):
    times = {name: torch.zeros(1) for name in latents} | {target: torch.tensor([t])}
    return model(latents, times, target, SPACING)


def latents():
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(1, c, *SPACE, generator=generator) for name, c in CHANNELS.items()}


@torch.no_grad()
def test_before_training_it_is_maisi_to_the_bit_whatever_is_visible(rflow):
    folder, theirs = rflow
    model, report = ours(folder)
    x = latents()
    expected = theirs(
        x["dose"],
        timesteps=torch.tensor([1000 * 0.3]),
        class_labels=torch.tensor([maisi.CT]),
        spacing_tensor=100 * SPACING,
    )
    assert torch.equal(run(model, {"dose": x["dose"]}), expected)
    assert torch.equal(run(model, x), expected)
    assert expected.std() > 0.01
    assert set(report["used"]) == set(theirs.state_dict())
    assert report["dropped"] == ()


@torch.no_grad()
def test_an_imported_checkpoint_gives_v_of_monais_network_with_its_sign(rflow, tmp_path):
    folder, theirs = rflow
    record = prior.import_maisi(folder, tmp_path)
    model = load_model(tmp_path / "model.safetensors")
    assert record["prior"] == "maisi rflow"
    assert float(model.codec.scale) == pytest.approx(0.9)
    assert model.multiple == (16, 16, 16)  # three levels here; the released four need 32
    x, t = torch.randn(1, 4, *SPACE), torch.tensor([0.6])
    v = model.velocity(x, t, "dose", {}, SPACING, torch.ones(1, 1, *SPACE))
    data_minus_noise = theirs(
        flow.into_flow(x, t),
        timesteps=1000 * flow.flow_time(t),
        class_labels=torch.tensor([maisi.CT]),
        spacing_tensor=100 * SPACING,
    )
    assert torch.allclose(v, flow.velocity_from_flow(-data_minus_noise, x, t), atol=1e-6)


def test_gradients_reach_every_new_part(rflow):
    model, report = ours(rflow[0])
    x = latents()
    run(model, x).square().mean().backward()
    for name, parameter in model.named_parameters():
        if name in report["new"] and ("heads" not in name or "heads.dose" in name):
            assert parameter.grad.abs().sum() > 0, name
    flags = model.net.conv_in.more.weight.grad[:, -len(CHANNELS) :].abs().sum(dim=(0, 2, 3, 4))
    assert (flags > 0).tolist() == [True, True, False]  # ct and oar are visible, the dose is the target


@torch.no_grad()
def test_once_trained_conditions_roles_and_presence_matter_and_the_target_is_not_shown(rflow):
    model, _ = ours(rflow[0])
    for p in (model.net.conv_in.more.weight, model.net.class_embedding.roles.weight):
        torch.nn.init.normal_(p, std=0.05)
    x = latents()
    base = run(model, x)
    assert (run(model, {**x, "ct": x["ct"] + 1}) - base).abs().max() > 1e-4
    assert (run(model, {k: x[k] for k in ("oar", "dose")}) - base).abs().max() > 1e-4
    assert (
        run(model, {**x, "ct": 0 * x["ct"]}) - run(model, {k: x[k] for k in ("oar", "dose")})
    ).abs().max() > 1e-5
    for target in CHANNELS:
        assert run(model, x, target).shape == x[target].shape


@torch.no_grad()
def test_ddpm_keeps_the_trunk_starts_its_read_out_anew_and_says_so(tmp_path):
    write_maisi(tmp_path / "ddpm", "ddpm")
    model, report = ours(tmp_path / "ddpm")
    assert report["dropped"] == ("out.2.conv.bias", "out.2.conv.weight")
    assert (run(model, latents()) == 0).all()
    found = prior.check(tmp_path / "ddpm", device="cpu")
    assert found["notes"] == [maisi.DDPM_WARNING]
    prior.import_maisi(tmp_path / "ddpm", tmp_path / "out")
    assert load_model(tmp_path / "out" / "model.safetensors").config.predicts == "v"


def test_a_ddpm_step_has_the_signal_of_the_path():
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    falling = torch.cumprod(1 - betas, 0).sqrt()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    step = maisi.ddpm_step(t)
    low = step.long()
    between = falling[low] + (step - low) * (falling[low + 1] - falling[low])
    assert torch.allclose(between, alpha_sigma(t)[0], atol=1e-9)
    assert float(maisi.ddpm_step(torch.tensor([1.0]))) == 999
    assert abs(float(falling[-1]) - 0.0119) < 1e-4  # priors.md 3.4


def test_the_released_sizes(tmp_path):
    with torch.device("meta"):
        rflow, ddpm = (maisi.network(replace(maisi.MaisiConfig(), variant=v)) for v in ("rflow", "ddpm"))
        vae = maisi_codec.autoencoder(4, 64)
    assert sum(p.numel() for p in rflow.parameters()) == 180_500_868
    assert sum(p.numel() for p in ddpm.parameters()) == 169_370_884
    assert sum(p.numel() for p in vae.parameters()) == 20_944_897
    assert maisi.MaisiConfig().multiple == 8


def broken(folder, change):
    path = prior.maisi_paths(folder).unet
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("sentence", "change"),
    [
        ("1 tensors missing", lambda s: s["unet_state_dict"].pop("time_embed.0.bias")),
        ("1 tensors unknown", lambda s: s["unet_state_dict"].update({"extra.weight": torch.zeros(1)})),
        ("no scale_factor", lambda s: s.pop("scale_factor")),
        ("no MAISI U-Net", lambda s: s["unet_state_dict"].pop("conv_in.conv.weight")),
        ("shape", lambda s: s["unet_state_dict"].update({"out.0.weight": torch.zeros(5)})),
    ],
)
def test_a_checkpoint_that_is_not_maisi_whole_is_refused(tmp_path, sentence, change):
    write_maisi(tmp_path)
    broken(tmp_path, change)
    with pytest.raises(ValueError, match=sentence):
        prior.import_maisi(tmp_path, tmp_path / "out")


def test_a_cut_file_and_a_pickle_of_more_than_weights_are_refused(tmp_path):
    write_maisi(tmp_path)
    path = prior.maisi_paths(tmp_path).unet
    torch.save({"unet_state_dict": {}, "run": SystemExit}, path)
    with pytest.raises(ValueError, match="more than weights"):
        prior.import_maisi(tmp_path, tmp_path / "out")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cut short"):
        prior.import_maisi(tmp_path, tmp_path / "out")
    path.unlink()
    with pytest.raises(ValueError, match="no diff_unet_3d_rflow-ct.pt"):
        prior.import_maisi(tmp_path, tmp_path / "out")


@torch.no_grad()
def test_the_codec_is_the_vaes_mean_scaled_and_back(rflow):
    codec = maisi_codec.load(prior.maisi_paths(rflow[0]).vae, 0.9)
    volume = torch.rand(1, 2, 8, 12, 16) * 2 - 1
    latent = codec.encode(volume)
    assert latent.shape == (1, 8, 2, 3, 4)
    mean, _ = codec.vae.encode((volume[:, 1:] + 1) / 2)
    assert torch.allclose(latent[:, 4:], 0.9 * mean, atol=1e-6)
    assert torch.equal(codec.encode(volume), latent)  # no sampling
    assert torch.allclose(codec.decode(latent)[:, 1:], codec.vae.decode(mean) * 2 - 1, atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 4"):
        codec.encode(torch.zeros(1, 1, 30, 32, 32))


@torch.no_grad()
def test_its_vae_carries_a_transformer_too(rflow, tmp_path):
    tiny = DiTConfig(dim=32, depth=1, heads=2, ffn=64)
    model = Any2Any(ModelConfig(tiny, "maisi:4:8"))
    x = torch.randn(model.latent_shape("dose", (32, 32, 32)))
    body = torch.ones(1, 1, *x.shape[2:])
    ct = torch.randn(model.latent_shape("ct", (32, 32, 32)))
    assert model.velocity(x, torch.ones(1), "dose", {"ct": ct}, SPACING, body).shape == x.shape
    assert prior.import_maisi(rflow[0], tmp_path, "dit")["tensors"]["used"] == 0
    assert load_model(tmp_path / "model.safetensors").codec.spec == "maisi:4:8"
    with pytest.raises(ValueError, match="backbone 'vit'"):
        prior.import_maisi(rflow[0], tmp_path, "vit")


def test_codecs_are_made_by_their_words():
    assert make_codec("maisi:4:8").spec == "maisi:4:8"
    assert not any(p.requires_grad for p in make_codec("maisi:4:8").parameters())
    for wrong in ("maisi", "maisi:0", "maisi:4:8:2", "identity:2:2", "vq:4"):
        with pytest.raises(ValueError, match="is accepted"):
            make_codec(wrong)
