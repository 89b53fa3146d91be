"""Low-rank adapters: nothing at the start, merged exactly, and in peft's own files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from anydose.model import lora, registry
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import describe, load_model, save_adapted, save_model
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.unet import UNet, UNetConfig

CONFIG = DiTConfig(dim=32, depth=2, heads=2, ffn=64, patch=(("ct", 2), ("dose", 2)))


def plain(seed=0):
    torch.manual_seed(seed)
    model = DiT(CONFIG, {"ct": 2, "dose": 2}, 4).eval()
    torch.nn.init.normal_(model.head["dose"].weight, std=0.1)
    return model


def trained(seed=0):
    model = plain(seed)
    for p in lora.add_lora(model, rank=4, alpha=8):
        torch.nn.init.normal_(p, std=0.1)
    return model


def run(model):
    torch.manual_seed(1)
    latents = {m: torch.randn(1, 2, 4, 4, 4) for m in ("ct", "dose")}
    times = {"ct": torch.zeros(1), "dose": torch.tensor([0.5])}
    return model(latents, times, "dose", torch.ones(1, 3), torch.ones(1, 1, 4, 4, 4))


@torch.no_grad()
def test_an_adapter_starts_as_nothing_and_covers_attention_and_mlp():
    model = plain()
    before = run(model)
    parameters = lora.add_lora(model, rank=4)
    assert torch.equal(run(model), before)
    assert len(parameters) == 2 * 2 * 6
    assert set(lora.adapters(model)) == {
        f"blocks.{n}.{part}" for n in (0, 1) for part in ("q", "k", "v", "o", "ffn.0", "ffn.2")
    }


def test_the_1_3b_has_the_parameters_that_rank_64_should():
    from anydose.model.prior import wan

    with torch.device("meta"):
        model = DiT(wan.dit_config(wan.WanConfig(), ("dose",)), {"dose": 16}, (4, 8, 8))
        counts = [sum(p.numel() for p in lora.add_lora(model, 64, targets=t)) for t in (lora.ATTENTION,)]
        rest = DiT(wan.dit_config(wan.WanConfig(), ("dose",)), {"dose": 16}, (4, 8, 8))
        counts.append(sum(p.numel() for p in lora.add_lora(rest, 64)))
    assert [round(n / 1e6, 1) for n in counts] == [23.6, 63.9]  # priors.md 7.1


def test_only_adapters_and_what_is_not_adapted_learn():
    model = plain()
    lora.add_lora(model, rank=4)
    run(model).square().sum().backward()
    for name, p in model.named_parameters():
        adapted = name.rsplit(".", 1)[0] in lora.adapters(model)
        assert p.requires_grad != adapted, name
    assert model.blocks[0].q.lora_B.weight.grad.abs().sum() > 0
    assert model.blocks[0].modulation.grad.abs().sum() > 0


@torch.no_grad()
def test_merged_is_the_same_function_without_adapters_and_comes_back_exactly():
    model = trained()
    adapted, keys = run(model), set(model.state_dict())
    with lora.merged(model):
        assert torch.allclose(run(model), adapted, atol=1e-5)
        assert set(model.state_dict()) == set(plain().state_dict())
    assert set(model.state_dict()) == keys
    assert torch.equal(run(model), adapted)
    assert (adapted - run(plain())).abs().max() > 1e-3
    with lora.switched_off(model):
        assert torch.equal(run(model), run(plain()))
    lora.merge(model)
    assert torch.allclose(run(model), adapted, atol=1e-5)
    assert not lora.adapters(model)


@torch.no_grad()
def test_an_adapter_is_saved_alone_under_pefts_names_and_comes_back(tmp_path):
    model = trained()
    lora.save_adapter(model, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert len(weights) == 24
    assert weights["base_model.model.blocks.1.ffn.0.lora_A.weight"].shape == (4, 32)
    assert weights["base_model.model.blocks.1.ffn.0.lora_B.weight"].shape == (64, 4)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (4, 8, "LORA")
    other = plain()
    lora.load_adapter(other, tmp_path)
    assert torch.equal(run(other), run(model))


@torch.no_grad()
def test_peft_reads_our_adapter_and_we_read_pefts(tmp_path):
    peft = pytest.importorskip("peft")
    model = trained()
    lora.save_adapter(model, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(plain(), tmp_path / "ours")
    assert torch.allclose(run(theirs), run(model), atol=1e-6)
    theirs.save_pretrained(tmp_path / "theirs")
    back = plain()
    lora.load_adapter(back, tmp_path / "theirs")
    assert torch.equal(run(back), run(model))


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no linear layer"):
        lora.add_lora(plain(), targets="nothing")
    with pytest.raises(ValueError, match=r"no adapter_config.json"):
        lora.load_adapter(plain(), tmp_path)
    lora.save_adapter(trained(), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(weights, tmp_path / "adapter_model.safetensors", {"format": "pt"})  # as peft does
    for change, words in (
        ({"r": 8}, "shape"),
        ({"peft_type": "IA3"}, "LORA is needed"),
        ({"r": "8"}, "peft's are needed"),
        ({"target_modules": [5]}, "peft's are needed"),
        ([], "list found"),
    ):
        changed = {**settings, **change} if isinstance(change, dict) else change
        (tmp_path / "adapter_config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=words):
            lora.load_adapter(plain(), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        lora.load_adapter(plain(), tmp_path)


def test_weights_and_settings_of_two_savings_are_not_read_together(tmp_path):
    """A kill between the two files: the scale of an adapter must not be that of another."""
    lora.save_adapter(trained(), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 64}))
    with pytest.raises(ValueError, match=r"not the settings that adapter_model.safetensors was saved with"):
        lora.load_adapter(plain(), tmp_path)


SMALL = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))


def convolutional(seed=0):
    torch.manual_seed(seed)
    model = Any2Any(SMALL).eval()
    for name, p in model.named_parameters():  # away from its identity start
        if "convs.1" in name or "modulation" in name or "read_out" in name:
            torch.nn.init.normal_(p, std=0.1)
    return model


def post_trained(seed=0):
    model = convolutional(seed)
    for p in lora.add_lora(model, 4, 8, UNet.adapted):
        torch.nn.init.normal_(p, std=0.1)
    with torch.no_grad():
        model.backbone.last_norm.modulation.bias.add_(0.5)
    return model


def dose(model, size=4):
    torch.manual_seed(1)
    shape = (1, size, size, size)
    given = {"ptv": torch.randn(1, 8, *shape[1:])}
    return model.velocity(
        torch.randn(1, 8, *shape[1:]), torch.ones(1), "dose", given, torch.ones(1, 3), torch.ones(shape)[None]
    )


@torch.no_grad()
def test_a_convolutions_adapter_starts_as_nothing_and_merges_exactly():
    model = convolutional()
    before = dose(model)
    assert len(lora.add_lora(model, 4, targets=UNet.adapted)) == 2 * 6
    assert torch.equal(dose(model), before)
    model = post_trained()
    adapted = dose(model)
    assert (adapted - before).abs().max() > 1e-2
    with lora.merged(model):
        assert torch.allclose(dose(model), adapted, atol=1e-4)
    layer = lora.adapters(model)["backbone.down.0.0.convs.0"]
    assert layer.lora_A.weight.shape == (4, 8, 3, 3, 3)  # as peft has them
    assert layer.lora_B.weight.shape == (8, 4, 1, 1, 1)


def test_a_convolutions_adapter_has_the_float32_gradient_in_bfloat16_at_depth_two():
    """oneDNN's bfloat16 weight gradient is garbage there (layers.Conv3)."""
    found = []
    for enabled in (False, True):
        model = post_trained()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            dose(model).square().mean().backward()  # 4 latent voxels, so depth 2 at the second level
        found.append(lora.adapters(model)["backbone.down.1.0.convs.0"].lora_A.weight.grad)
    assert (found[1] - found[0]).abs().max() < 0.1 * found[0].abs().max()


@torch.no_grad()
def test_an_adapter_file_names_its_base_and_is_refused_on_another(tmp_path):
    model, whole = post_trained(), ("modulation",)
    save_model(convolutional(), tmp_path / "base.safetensors", {})
    save_adapted(model, whole, tmp_path / "base.safetensors", tmp_path / "better.safetensors", {"step": 3})
    back = load_model(tmp_path / "better.safetensors")
    assert not lora.adapters(back)
    assert torch.allclose(dose(back), dose(model), rtol=0.05, atol=0.05)  # stored in bfloat16
    assert (dose(back) - dose(convolutional())).abs().max() > 0.2
    about = describe(tmp_path / "better.safetensors")
    assert about["base"]["name"] == "base"
    assert about["config"]["codec"] == "identity:2"
    save_model(convolutional(1), tmp_path / "base.safetensors", {})
    with pytest.raises(ValueError, match="made for the weights base"):
        load_model(tmp_path / "better.safetensors")


@torch.no_grad()
def test_layers_kept_whole_are_saved_as_pefts_modules_to_save(tmp_path):
    model = post_trained()
    lora.save_adapter(model, tmp_path, ("modulation",))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.backbone.last_norm.modulation.bias" in weights
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == ["modulation"]
    other = convolutional()
    lora.load_adapter(other, tmp_path)
    assert torch.equal(dose(other), dose(model))


@torch.no_grad()
def test_peft_reads_a_convolutions_adapter_too(tmp_path):
    peft = pytest.importorskip("peft")
    model = post_trained()
    lora.save_adapter(model, tmp_path, ("modulation",))
    theirs = peft.PeftModel.from_pretrained(convolutional(), tmp_path)
    assert torch.allclose(dose(theirs.base_model.model), dose(model), atol=1e-4)


@torch.no_grad()
def test_a_shipped_adapter_is_a_model_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    save_model(convolutional(), tmp_path / "compact-hn.safetensors", {"cases": 5})
    assert [row["name"] for row in registry.listing()] == ["compact-hn"]
    place = tmp_path / "compact-hn-scard.safetensors"
    save_adapted(post_trained(), ("modulation",), tmp_path / "compact-hn.safetensors", place, {"cases": 2})
    rows = {row["name"]: row for row in registry.listing()}
    assert rows["compact-hn-scard"]["base"] == "compact-hn"
    assert rows["compact-hn-scard"]["cases"] == 2
    assert rows["compact-hn-scard"]["backbone"] == "unet"
    assert not torch.equal(dose(load_model(registry.find("compact-hn-scard"))), dose(convolutional()))
