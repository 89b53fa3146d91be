"""`anydose bench ablation`: every variant is one change, a finished row is never made again, and the table is
what the rows say."""

import json
from dataclasses import replace

import pytest
import torch

from anydose.bench import ablation
from anydose.bench.ablation import VARIANTS, Plan, config_of
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import load_model, save_model
from anydose.model.network.baselines import BaselineConfig
from anydose.model.network.unet import UNetConfig

TINY = ("model.backbone.widths=[8, 16]", "model.backbone.down_blocks=[1, 1]", "model.backbone.up_blocks=[1]")


def plan_of(dataset, cohort_folder, tmp_path, **changes):
    shared = (*TINY, f"data={cohort_folder}", "accumulate=1", "warmup=1")
    return Plan(dataset, training_steps=2, seeds=(0,), changes=shared, runs=str(tmp_path / "runs"), **changes)


def test_every_variant_is_another_training_than_the_one_it_is_held_against():
    by_name = {v.name: v for v in VARIANTS}
    assert len(by_name) == len(VARIANTS)
    plan = Plan(cohort=None, training_steps=5)
    for variant in VARIANTS:
        if variant.against:
            runs = [
                (replace(config_of(v, plan, 0), name=""), v.withheld)
                for v in (variant, by_name[variant.against])
            ]
            assert runs[0] != runs[1], variant.name
            assert runs[0][0].steps == runs[1][0].steps == 5


def test_rows_are_written_once_and_a_second_run_trains_nothing(dataset, cohort_folder, tmp_path):
    plan = plan_of(dataset, cohort_folder, tmp_path, only=("no-beams",))
    file = tmp_path / "ablation.json"
    said: list[str] = []
    first = ablation.write(plan, file, said.append)
    assert [(r["variant"], r["seed"], r["sampling_steps"], r["patients"]) for r in first] == [
        ("no-beams", 0, 1, 1)
    ]
    weights = tmp_path / "runs" / "no-beams-2-seed0" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    again = ablation.write(plan, file, said.append)
    assert again == first == json.loads(file.read_text())
    assert weights.stat().st_mtime_ns == stamp
    assert "| no-beams | without beam and angle (from unet) |" in file.with_suffix(".md").read_text()
    # a row that went missing is scored again from the weights there are
    file.unlink()
    assert ablation.write(plan, file, said.append)[0]["dose_score"] == first[0]["dose_score"]
    assert weights.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="limit"):
        ablation.write(replace(plan, limit=1), file, said.append)


def test_what_is_withheld_never_reaches_the_network(dataset, cohort_folder, tmp_path):
    """The first layer's weights for slots that are always zero stay where weight decay alone puts them."""
    plan = plan_of(dataset, cohort_folder, tmp_path)
    runs = {}
    for name in ("unet", "no-beams"):
        (variant,) = ablation.chosen([name])
        trainer = ablation.trainer_of(variant, plan, 0)
        list(trainer.run())
        runs[name] = trainer.model
    start = 8 * (1 + 1 + 8 + 1)  # slots of ct, ptv, oar and body before it, eight voxels a patch
    moved = {
        name: model.backbone.stem.weight[:, start : start + 88].flatten() for name, model in runs.items()
    }
    torch.manual_seed(0)
    fresh = Any2Any(runs["unet"].config).backbone.stem.weight[:, start : start + 88].flatten()
    direction = {k: torch.nn.functional.cosine_similarity(v, fresh, dim=0).item() for k, v in moved.items()}
    assert direction["no-beams"] == pytest.approx(1.0, abs=1e-6)
    assert direction["unet"] < 1 - 1e-6


@pytest.mark.parametrize("plates", ["plain", "attenuated"])
def test_one_plate_is_all_that_is_seen_of_the_beams_in_training_and_from_a_file(plates, tmp_path):
    """Nothing but the one plate moves the output, in training and after a round trip through a file."""
    torch.manual_seed(0)
    config = ModelConfig(UNetConfig((8, 16), (1, 1), (1,), code=16), plates=plates)
    model = Any2Any(config)
    torch.nn.init.normal_(model.backbone.read_out["dose"].weight)
    volume, side = torch.randn(1, 10, 8, 8, 8).mul(64).round() / 64, (1, 8, 4, 4, 4)  # sums are exact
    noisy, body = torch.randn(side), torch.ones(1, 1, 4, 4, 4)

    def v(model, volume):
        given = {"beam": model.codec.encode(volume)}
        return model.velocity(noisy, torch.ones(1), "dose", given, torch.full((1, 3), 3.0), body)

    other = torch.randn_like(volume)
    if plates == "plain":
        other[:, 0] = volume[:, 0]
    else:
        other[:, 1:] = volume[:, 1:].roll(4, dims=1)
    assert torch.equal(v(model, volume), v(model, other))
    assert not torch.allclose(v(model, volume), v(model, other + torch.randn_like(other)), atol=1e-3)
    save_model(model, tmp_path / "m.safetensors", {})
    again = load_model(tmp_path / "m.safetensors")
    with torch.no_grad():
        assert torch.equal(v(again, volume), v(model.eval(), volume))
    with pytest.raises(ValueError, match="attenuated"):
        Any2Any(replace(config, plates="none"))


def test_an_unknown_variant_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no-beams"):
        ablation.chosen(["no-beam"])


def test_the_table_has_means_spreads_and_differences():
    def row(variant, seed, dose):
        return {"variant": variant, "seed": seed, "train_steps": 9, "sampling_steps": 1, "parameters": 2e6,
                "train_minutes": 3.0, "dose_score": dose, "dvh_score": 2.0}  # fmt: skip

    text = ablation.table([row("unet", 0, 3.0), row("unet", 1, 3.2), row("no-beams", 0, 3.6)])
    first, second = text.splitlines()[2:]
    assert "| 2 | 3.10 ± 0.14 | +0.00 | 2.00 ± 0.00 |" in first
    assert "| 1 | 3.60 | +0.50 | 2.00 |" in second


@pytest.mark.parametrize("kind", ["dynunet", "mednext", "c3d"])
def test_monai_s_networks_learn_through_the_same_interface_and_come_back_from_a_file(kind, tmp_path):
    pytest.importorskip("monai")
    torch.manual_seed(0)
    config = ModelConfig(BaselineConfig((8, 16, 16), kind=kind), modalities=("ct", "ptv", "dose"))
    model = Any2Any(config)
    side = 2 * config.backbone.multiple
    shape = (1, 8, side, side, side)
    noisy, ct, body = torch.randn(shape), torch.randn(shape), torch.ones(1, 1, *shape[2:])
    inputs = (noisy, torch.ones(1), "dose", {"ct": ct}, torch.full((1, 3), 3.0), body)
    out = model.velocity(*inputs)
    assert out.shape == noisy.shape
    other = model.velocity(torch.randn(shape), *inputs[1:])
    assert torch.equal(out, other)  # trained without noise, sampled from it: at t = 1 none may enter
    out.square().mean().backward()
    assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0
    save_model(model, tmp_path / "m.safetensors", {})
    again = load_model(tmp_path / "m.safetensors")
    with torch.no_grad():
        assert torch.equal(again.velocity(*inputs), model.eval().velocity(*inputs))
    with pytest.raises(ValueError, match="dose alone"):
        model.velocity(noisy, torch.ones(1), "ct", {}, torch.full((1, 3), 3.0), body)


@pytest.mark.parametrize("kind", ["dynunet", "mednext", "c3d"])
def test_a_patient_of_one_voxel_at_the_lowest_level_can_be_learned_from(kind):
    pytest.importorskip("monai")
    torch.manual_seed(0)
    config = ModelConfig(BaselineConfig((8, 16, 16), kind=kind), modalities=("ct", "dose"))
    model, side = Any2Any(config).train(), config.backbone.multiple
    noisy, body = torch.randn(1, 8, side, side, side), torch.ones(1, 1, side, side, side)
    out = model.velocity(noisy, torch.ones(1), "dose", {"ct": noisy}, torch.full((1, 3), 3.0), body)
    assert out.shape == noisy.shape and out.isfinite().all()


def test_in_the_cascade_the_second_network_sees_what_the_first_gave_and_corrects_it():
    pytest.importorskip("monai")
    torch.manual_seed(0)
    config = ModelConfig(BaselineConfig((8, 16, 16), kind="c3d"), modalities=("ct", "dose"))
    net = Any2Any(config).backbone.net.eval()
    x = torch.randn(1, 16, 8, 8, 8)
    with torch.no_grad():
        coarse = net.first(x)
        assert torch.equal(net(x), coarse + net.second(torch.cat([x, coarse], dim=1)))
        blind = coarse + net.second(torch.cat([x, torch.zeros_like(coarse)], dim=1))
    assert not torch.allclose(net(x), blind)


@pytest.mark.parametrize("kind", ["dynunet", "mednext", "c3d"])
def test_gradients_in_bfloat16_are_those_in_float32_on_a_slab_too(kind):
    """A slab of 32 slices is two deep at a low level, where oneDNN's own weight gradient is not defined."""
    pytest.importorskip("monai")
    torch.manual_seed(0)
    net = Any2Any(
        ModelConfig(BaselineConfig((32, 32, 64, 64), kind=kind), modalities=("ct", "dose"))
    ).backbone
    net = net.net.to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 16, 16, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    gradients = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = net(x).float().square().mean()
        found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        gradients.append({n: g for (n, _), g in zip(net.named_parameters(), found, strict=True)})
    for name, exact in gradients[0].items():
        if exact is not None and exact.ndim == 5:
            alike = torch.nn.functional.cosine_similarity(
                exact.flatten(), gradients[1][name].flatten(), dim=0
            )
            assert alike > 0.8, name
