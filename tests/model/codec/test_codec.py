"""Codecs: exact where they promise it, channel by channel, and air stays air."""

import pytest
import torch

from anydose.model.codec.codec import IdentityCodec, different
from anydose.model.codec.compact import CompactCodec, load, save
from anydose.model.codec.make import make_codec


def rough(codec):
    """With its residuals switched on."""
    for last in (codec.look[-1], codec.mend[-1]):
        torch.nn.init.normal_(last.weight, std=0.1)
    return codec


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_identity_is_exact_and_keeps_blocks_together(stride):
    volume, codec = torch.randn(2, 3, 8, 4, 12), IdentityCodec(stride)
    latent = codec.encode(volume)
    assert latent.shape == (2, 3 * stride**3, 8 // stride, 4 // stride, 12 // stride)
    assert torch.equal(codec.decode(latent), volume)
    block = volume[1, 2, :stride, :stride, :stride].flatten()
    assert torch.equal(latent[1, 2 * stride**3 : 3 * stride**3, 0, 0, 0], block)


def test_the_compact_codec_treats_every_channel_alike_and_alone():
    torch.manual_seed(0)
    codec = rough(CompactCodec(4)).eval()
    volume = torch.randn(1, 2, 8, 8, 8)
    both = codec.encode(volume)
    alone = codec.encode(volume[:, 1:])
    assert torch.allclose(both[:, 4:], alone, atol=1e-5)
    assert codec.decode(both).shape == volume.shape
    assert torch.allclose(codec.decode(both)[:, 1:], codec.decode(alone), atol=1e-5)


def test_a_constant_volume_has_a_constant_latent_up_to_the_border():
    codec = rough(CompactCodec(4)).eval()
    latent = codec.encode(torch.full((1, 1, 16, 16, 16), -1.0))
    assert torch.allclose(latent, latent[..., :1, :1, :1].expand_as(latent), atol=1e-5)


def test_with_all_axes_the_linear_part_alone_is_exact():
    """An orthonormal basis of every one of the 64 axes loses nothing, and the residuals start at zero."""
    codec, volume = CompactCodec(64), torch.randn(1, 2, 8, 8, 8)
    axes, _ = torch.linalg.qr(torch.randn(64, 64))
    codec.start_from(torch.randn(64), axes, torch.rand(64) + 0.5)
    assert torch.allclose(codec.decode(codec.encode(volume)), volume, atol=1e-4)


def test_a_saved_codec_comes_back_and_a_foreign_file_does_not(tmp_path):
    codec = CompactCodec(4).eval()
    codec.scale += 1
    save(codec, tmp_path / "c.safetensors", {"steps": 1})
    volume = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(load(tmp_path / "c.safetensors").encode(volume), codec.encode(volume))
    (tmp_path / "d.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="d.safetensors"):
        load(tmp_path / "d.safetensors")


def test_a_spec_names_what_it_builds():
    assert make_codec("identity:8").latent_channels == 512
    assert make_codec("compact:32").latent_channels == 32


def test_two_threads_share_wan_s_vae():
    """It keeps what it saw in itself: post-training encodes one patient while another is decoded."""
    from concurrent.futures import ThreadPoolExecutor

    from anydose.model.codec.wan import WanCodec

    torch.manual_seed(0)
    codec = WanCodec(4, 4).eval()
    volumes = [torch.randn(1, 2, depth, 16, 16) for depth in (8, 16, 12, 20)]
    with torch.no_grad():
        alone = [codec.encode(volume) for volume in volumes]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(torch.no_grad()(codec.encode), volumes))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("kind", ["wan:4:4", "maisi:4:8"])
def test_organs_that_a_patient_lacks_pass_a_slow_codec_once_and_change_nothing(kind, monkeypatch):
    pytest.importorskip("diffusers" if "wan" in kind else "monai")
    torch.manual_seed(0)
    codec = make_codec(kind).eval()
    volume = torch.full((1, 5, 4, 8, 8), -1.0)
    volume[0, 1], volume[0, 3] = torch.randn(4, 8, 8), 1.0
    calls, encode = [], codec.vae.encode
    monkeypatch.setattr(codec.vae, "encode", lambda x: (calls.append(x), encode(x))[1])
    with torch.no_grad():
        found = codec.encode(volume)
        assert len(calls) == 3  # the organ, air and the body that fills its box
        alone = torch.cat([codec.encode(channel) for channel in volume.split(1, dim=1)], dim=1)
    assert torch.equal(found, alone)


def test_constant_channels_that_differ_and_channels_that_vary_each_stand_for_themselves():
    rough = torch.randn(1, 2, 2)
    channels = torch.stack([torch.zeros(1, 2, 2), rough, torch.ones(1, 2, 2), rough, torch.zeros(1, 2, 2)])
    assert different(channels) == ([0, 1, 2, 3], [0, 1, 2, 3, 0])
