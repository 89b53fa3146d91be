"""Without a GPU: nothing of a training step, of encoding or of sampling stays on the CPU while the weights
lie elsewhere, and autocast is asked for where the weights are."""

import pretend_gpu
import pytest
import torch
from pretend_gpu import GPU, OnGpu
from tiny_cohort import small_case
from torch.utils.data._utils.pin_memory import pin_memory

from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.looks import sample_target
from anydose.model.network.dit import DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options
from anydose.model.sample import draw_sample
from anydose.train.config import TrainConfig
from anydose.train.encode import EncodeConfig, _Encoder, encode_view
from anydose.train.examples import changed_patient, geometry_of
from anydose.train.gradients import ExampleLoss
from anydose.train.latents import draw_view
from anydose.train.tasks import Draw

UNET = ModelConfig(
    UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16, bev_exchange=4), "identity:2"
)
DIT = ModelConfig(DiTConfig(dim=32, depth=2, heads=2, ffn=64, head_width=8), "compact:8")
MODELS = {"unet": UNET, "dit": DIT}
DRAWN = Draw(0, "dose", ("ct", "ptv", "oar", "body", "beam"), t=0.5, noise_seed=1)


@pytest.fixture(scope="module")
def sample():
    return draw_sample(small_case(0))[0]


def model_of(name):
    torch.manual_seed(0)
    return Any2Any(MODELS[name])


def test_the_pretended_gpu_refuses_what_cuda_refuses(monkeypatch):
    a = torch.ones(3)
    with pretend_gpu.pretended(monkeypatch):
        b = a.to(GPU)
        assert b.device == GPU and torch.zeros(2, device=GPU).device == GPU and (b + 1).device == GPU
        assert torch.equal((b * 2).cpu(), a * 2) and float(b.sum()) == 3.0
        with pytest.raises(RuntimeError, match="same device"):
            a + b
        with pytest.raises(RuntimeError, match="same device"):
            torch.cat([b, a])


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_is_all_on_the_device(name, sample, monkeypatch):
    exact = ExampleLoss(model_of(name), TrainConfig(precision="fp32"))
    patient = changed_patient(geometry_of(exact.model), sample, DRAWN)
    wanted = float(exact((patient, DRAWN))[0])
    with pretend_gpu.pretended(monkeypatch) as autocast:
        step = ExampleLoss(pretend_gpu.moved(model_of(name)), TrainConfig(precision="bf16", dvh=0.1))
        loss, _ = step((patient, DRAWN))
        assert loss.device == GPU and set(autocast) == {GPU.type}
        loss.backward()
        learnt = [p.grad for p in step.model.parameters() if p.grad is not None]
        assert learnt and all(isinstance(g, OnGpu) for g in learnt)
        plain = ExampleLoss(step.model, TrainConfig(precision="fp32"))((patient, DRAWN))[0]
        assert float(plain) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_cached_latents_are_learned_from_on_the_device(name, sample, monkeypatch):
    latents = encode_view(model_of(name), sample, draw_view(0, "x", 0))
    with pretend_gpu.pretended(monkeypatch) as autocast:
        step = ExampleLoss(pretend_gpu.moved(model_of(name)), TrainConfig(precision="bf16"))
        loss, _ = step((latents, DRAWN))
        assert loss.device == GPU and set(autocast) == {GPU.type}


@pytest.mark.parametrize("name", MODELS)
def test_a_dose_is_sampled_on_the_device_and_comes_back(name, sample, monkeypatch):
    shown = {key: value for key, value in sample.volumes.items() if key != "dose"}
    given = draw_sample(small_case(0), tuple(shown))[0]
    options = Options(steps=2, looks=2, precision="fp32")
    wanted = next(sample_target(model_of(name), given, options))
    with pretend_gpu.pretended(monkeypatch) as autocast:
        model = pretend_gpu.moved(model_of(name)).eval()
        found = next(sample_target(model, given, Options(steps=2, looks=2, precision="bf16")))
        assert found.device.type == "cpu" and set(autocast) == {GPU.type}
        assert torch.allclose(found, wanted, atol=1e-4)


def test_latents_are_encoded_on_the_device(sample, monkeypatch):
    encoder = object.__new__(_Encoder)
    encoder.config, encoder.model, encoder.device = EncodeConfig(precision="bf16"), model_of("dit"), GPU
    exact = encoder.model.codec.encode(sample.volumes["dose"][None])
    with pretend_gpu.pretended(monkeypatch) as autocast:
        encoder.codec = pretend_gpu.moved(encoder.model.codec)
        found = _Encoder.in_precision.__wrapped__(encoder, sample.volumes["dose"], "bf16")
        assert found.device.type == "cpu" and set(autocast) == {GPU.type}
    assert torch.allclose(found, exact, atol=1e-4)


def test_a_tensor_that_is_left_behind_is_found(sample, monkeypatch):
    """The test of the tests: a body mask that stays on the CPU ends the step."""
    left = torch.ones(1, 1, 12, 12, 12, dtype=torch.bool)
    monkeypatch.setattr(Any2Any, "latent_body", lambda self, body: left)
    with pretend_gpu.pretended(monkeypatch):
        step = ExampleLoss(pretend_gpu.moved(model_of("unet")), TrainConfig(precision="bf16"))
        patient = changed_patient(geometry_of(step.model), sample, DRAWN)
        with pytest.raises(RuntimeError, match="same device"):
            step((patient, DRAWN))


def test_prepared_patients_are_pinned_whole(sample, monkeypatch):
    """What the loader's pinning, asked for where there is a GPU, makes of a patient and of cached latents."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t) or t.clone())
    latents = encode_view(model_of("unet"), sample, draw_view(0, "x", 0))
    for prepared, held in ((sample, sample.volumes), (latents, latents.values)):
        pinned.clear()
        found, drawn = pin_memory((prepared, DRAWN))
        assert drawn is DRAWN and type(found) is type(prepared)
        assert {id(t) for t in pinned} == {id(t) for t in (*held.values(), prepared.body)}
        assert torch.equal(found.body, prepared.body)
