"""A prior of MAISI's form on every machine: imported, encoded, trained twice, post-trained, used to
predict."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cohort import small_case
from tiny_priors import write_maisi

from anydose.model import lora
from anydose.model.checkpoint import load_model
from anydose.model.prior import load as prior
from anydose.model.prior import tiny_maisi
from anydose.predict import Options, predict
from anydose.train import recipes
from anydose.train.encode import EncodeConfig, encode
from anydose.train.posttrain.policy import Policy
from anydose.train.trainer import Trainer

pytest.importorskip("monai")
START = Path("runs/maisi/model.safetensors")
QUICK = ("data=data", "epochs=1", "warmup=1", "learning_rate=0.001")


@pytest.fixture(scope="module")
def place(cohort_folder, tmp_path_factory):
    """A folder with a drawn cohort, its latents and the imported prior."""
    folder = tmp_path_factory.mktemp("maisi")
    (folder / "data").symlink_to(cohort_folder)
    write_maisi(folder / "released")
    prior.import_maisi(folder / "released", folder / "runs" / "maisi")
    assert len(list(encode(folder / "data", folder / START, EncodeConfig(crop=(24, 24, 24))))) == 3
    return folder


@pytest.mark.parametrize("machine", ["24gb", pytest.param("80gb", marks=pytest.mark.slow)])
def test_maisi_trains_and_predicts_on_every_machine(place, monkeypatch, machine):
    monkeypatch.chdir(place)
    fewer = ("lora=4",) if machine == "24gb" else ()
    for stage in ("any2any", "dose"):
        trainer = Trainer(recipes.resolve(stage, (*QUICK, *fewer), "maisi", machine))
        assert trainer.model.backbone.checkpointing
        assert bool(lora.adapters(trainer.model)) == (machine == "24gb")
        assert len(list(trainer.run())) == 3  # a loss that is not finite would raise
    start, model = load_model(START), load_model(Path("runs/dose-maisi/model.safetensors"))
    change = {
        name: float((a - b).abs().max())
        for (name, a), b in zip(start.state_dict().items(), model.state_dict().values(), strict=True)
    }
    assert change["backbone.net.down_blocks.0.resnets.0.conv1.conv.weight"] > 1e-5
    assert change["backbone.net.middle_block.attention.attn.to_q.weight"] > 1e-6
    assert change["backbone.heads.dose.weight"] > 1e-5
    assert not any(value for name, value in change.items() if name.startswith("codec"))
    assert model.trained_for == model.config.modalities and start.trained_for == ()
    case = small_case(5)
    model.file = None  # half trained: what it gives may be no dose
    options = Options(steps=2, precision="fp32", given=("ct", "ptv"), looks=1, mimic=False)
    result = predict(model, replace(case, dose=None), options)
    assert np.isfinite(result.mean).all() and (result.mean[0][~case.body] == 0).all()


@pytest.mark.slow
def test_a_tiny_prior_learns(tmp_path):
    found = tiny_maisi.train(tmp_path, steps=60)
    assert found["vae"]["last"] < 0.8 * found["vae"]["first"]
    assert found["unet"]["last"] < 0.8 * found["unet"]["first"]


def test_a_tiny_prior_s_doses_are_of_the_range(tmp_path):
    tiny_maisi.train(tmp_path, steps=2)
    prior.import_maisi(tmp_path, tmp_path / "run")
    model = load_model(tmp_path / "run" / "model.safetensors")
    torch.manual_seed(0)
    with torch.no_grad():
        guess = model.decode("dose", torch.randn(model.latent_shape("dose", (16, 16, 16))))
        cube = tiny_maisi.cubes(np.random.default_rng(1), 1)
        latent = model.encode("ct", cube)
    assert guess.min() > -1.5 and guess.max() < 1.5  # random weights give hundreds of Gy, which are refused
    assert 0.3 < latent.std() < 3


def inputs(model):
    torch.manual_seed(3)
    noisy = torch.randn(model.latent_shape("dose", (32, 32, 32)))
    given = {"ct": torch.randn(model.latent_shape("ct", (32, 32, 32)))}
    return noisy, torch.tensor([0.6]), "dose", given, torch.full((1, 3), 3.0), torch.ones(1, 1, 8, 8, 8)


def test_computing_again_in_the_backward_pass_keeps_less_and_changes_no_gradient(place):
    model = load_model(place / START)
    gradients, held = [], []
    for again in (False, True):
        model.backbone.checkpointing = again
        model.zero_grad()
        bytes_held = 0

        def count(tensor):
            nonlocal bytes_held
            bytes_held += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = model.velocity(*inputs(model)).square().mean()
        loss.backward()
        held.append(bytes_held)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert held[1] < 0.5 * held[0]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@torch.no_grad()
def test_post_training_adapts_its_convolutions_and_attention(place):
    policy = Policy(place / START, 2, 0.0, torch.device("cpu"))
    names = set(lora.adapters(policy.model))
    assert {"conv1", "conv2"} <= {name.split(".")[-2] for name in names if name.endswith(".conv")}
    assert {name.rpartition(".")[2] for name in names} == {"conv", "to_q", "to_k", "to_v", "out_proj"}
    before = policy.model.velocity(*inputs(policy.model))
    for tensor in policy.live.values():
        torch.nn.init.normal_(tensor, std=0.1)
    after = policy.model.velocity(*inputs(policy.model))
    assert (after - before).abs().max() > 1e-3
    with policy.holding(policy.base) as model:
        assert torch.allclose(model.velocity(*inputs(model)), before, atol=1e-5)
    with policy.holding(policy.live) as model:
        assert torch.allclose(model.velocity(*inputs(model)), after, atol=1e-3)
