"""Post-training: exact resume, a reward that rises, candidates that are what predict delivers, the guard."""

import csv
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cohort import small_case

from anydose.bench.posttrain import Unseen, compare
from anydose.diffusion.sampler import SAMPLERS, ancestral
from anydose.io.store import write_stored
from anydose.model import lora
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import describe, load_model, save_model
from anydose.model.network.unet import UNetConfig
from anydose.predict import Options, predict
from anydose.train.data import Cohort, render_file
from anydose.train.posttrain.candidates import load_patient, starting_noise
from anydose.train.posttrain.config import PostConfig
from anydose.train.posttrain.methods import METHODS
from anydose.train.posttrain.reward import StopRule, read_reward
from anydose.train.posttrain.trainer import Check, PostTrainer, broken, stored_check

TINY = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16, sigma_data=0.5))
NAMES = ("phantom_0", "phantom_1", "phantom_2")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Drawn cases, their store and base weights that are not at their start."""
    folder = tmp_path_factory.mktemp("posttrain")
    (folder / "drawn").mkdir()
    for name in NAMES:
        case = small_case(int(name[-1]))
        write_stored(case, folder / "cases", name)
        render_file(lambda _, case=case: case, Path(name), folder / "drawn")
    torch.manual_seed(0)
    model = Any2Any(TINY)
    for key, p in model.named_parameters():
        if "convs.1" in key or "modulation" in key or "read_out" in key:
            torch.nn.init.normal_(p, std=0.05)
    save_model(model, folder / "base.safetensors", {})
    return folder


def config(places, out, **changes):
    base = PostConfig(
        name="t",
        base=str(places / "base.safetensors"),
        data=str(places / "drawn"),
        cases=str(places / "cases"),
        out=str(out),
        steps=4,
        patients=2,
        candidates=3,
        rank=2,
        warmup=1,
        watch=1,
        watch_every=2,
        save_every=2,
    )
    return replace(base, **changes)


def log(folder):
    with (folder / "t" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("waited", "seconds")} for row in rows]


@pytest.mark.parametrize("method", ["nft", "direct", "ddpo"])
def test_a_run_killed_between_checkpoints_resumes_with_the_same_numbers(places, tmp_path, method):
    changes = {"method": method, "t1_probability": 0.5}
    whole = PostTrainer(config(places, tmp_path / "whole", **changes))
    list(whole.run())
    cut = PostTrainer(config(places, tmp_path / "cut", **changes))
    list(itertools.islice(cut.run(), 3))  # one step past the checkpoint at 2
    again = PostTrainer(config(places, tmp_path / "cut", workers=1, **changes))
    again.resume()
    assert again.step == 2
    list(again.run())
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    assert len(log(tmp_path / "whole")) == 4
    for k, v in whole.policy.state().items():
        assert torch.equal(v, again.policy.state()[k]), k
    with pytest.raises(ValueError, match="other values of beta"):
        PostTrainer(config(places, tmp_path / "cut", beta=0.5, **changes)).resume()


@pytest.mark.slow
def test_two_processes_share_candidates_rewards_and_patients(places, tmp_path):
    """Two candidates on one and one on the other, a patient each to learn from: what one process does."""
    from two_ranks import a_posttraining, run_two

    changes = {"steps": 2, "precision": "fp32", "save_every": 1, "learning_rate": 1e-2}
    alone = PostTrainer(config(places, tmp_path / "alone", **changes))
    expected = list(alone.run())
    found = run_two(a_posttraining, config(places, tmp_path / "two", **changes))
    for _, rows, adapter in found:
        for row, wanted in zip(rows, expected, strict=True):
            for key in ("reward", "nft", "kl", "diffusion", "grad", "deviation"):
                assert row[key] == pytest.approx(wanted[key], rel=1e-3, abs=1e-6), key
            assert row.keys() == wanted.keys()
        for name, tensor in alone.policy.ema.items():
            assert np.abs(adapter[name] - tensor.numpy()).max() < 1e-4, name
    assert len(log(tmp_path / "two")) == 2
    assert (tmp_path / "two" / "t" / "state.safetensors").is_file()


def test_the_loss_is_the_dual_one_and_what_keeps_v_in_place_by_their_weights(places, tmp_path):
    """The same candidates and noise under other weights: what the report says of each part adds up."""
    totals = {}
    for weights in ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0)):
        trainer = PostTrainer(
            config(places, tmp_path, precision="fp32", diffusion_weight=weights[0], kl=weights[1])
        )
        with torch.no_grad():
            for p in trainer.policy.parameters():
                p.add_(0.01)  # away from the base, so that there is a distance to it
        with ThreadPoolExecutor(1) as pool:
            patient = trainer._patient(trainer.learnt[0])
            method = METHODS["nft"]
            group = method.sample(trainer.policy, patient, trainer.config, (0, 0, 0), pool)
            rewards = [job.result() for job in group.rewards]
        assert len(group.latents) == len(rewards) == trainer.config.candidates
        loss, report = method.learn(trainer.policy, group, rewards, trainer.config)
        totals[weights] = float(loss.detach())
        expected = report["nft"] + weights[0] * report["diffusion"] + weights[1] * report["kl"]
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
        assert report["kl"] > 0 < report["diffusion"]
    assert len(set(totals.values())) == 3


def test_only_the_adapter_and_the_modulation_learn_and_they_start_as_nothing(places, tmp_path):
    trainer = PostTrainer(config(places, tmp_path))
    before = {k: v.clone() for k, v in trainer.policy.model.state_dict().items()}
    base = load_model(places / "base.safetensors")
    patient = load_patient(base, trainer.cohort, 0, places / "cases", trainer.reward)
    x, t = torch.randn_like(patient.reference), torch.ones(1)
    with torch.no_grad():
        assert torch.equal(
            patient.velocity(trainer.policy.model, x, t, "fp32"), patient.velocity(base, x, t, "fp32")
        )
    list(trainer.run())
    after = trainer.policy.model.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert any("lora_B" in k for k in moved)
    assert all("lora" in k or "modulation" in k for k in moved)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nft", "direct"])
def test_the_reward_rises(places, tmp_path, method):
    """What a constraint out of reach teaches: from the rewards of the candidates alone, or its gradient."""
    (tmp_path / "more.yaml").write_text(
        "scorecard: head_neck_70_63_56\n"
        "constraints: [{structure: PTV70, metric: 'Mean[Gy]', at_least: 140, weight: 0.02}]\n"
        "stop_rule: {mae_growth: 9}\n"
    )
    changes = {"steps": 25, "candidates": 8, "patients": 1, "watch": 2, "save_every": 100, "rank": 4}
    changes |= {"learning_rate": 3e-3, "diffusion_weight": 0.0, "coarse_share": 0.2, "coarse_block": 4}
    changes |= {"t1_probability": 1.0, "reward": str(tmp_path / "more.yaml"), "method": method}
    rows = list(PostTrainer(config(places, tmp_path, **changes)).run())
    first, last = (np.mean([row["hinge"] for row in part]) for part in (rows[:3], rows[-3:]))
    assert last > first + 0.04  # 2 Gy


def test_candidates_in_gy_are_what_predict_delivers(places):
    model, cohort = load_model(places / "base.safetensors"), Cohort(places / "drawn")
    patient = load_patient(model, cohort, 0, places / "cases", read_reward("head_neck_70_63_56"))
    case = small_case(0)
    expected = predict(
        model,
        replace(case, dose=None),
        Options(steps=3, sampler="ddim", precision="fp32", looks=1, mimic=False),
    )
    noise = torch.randn(patient.reference.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latent = SAMPLERS["ddim"](patient.policy(model, "fp32"), noise, 3)
        dose = patient.to_gy(model, latent)[0].numpy()
    inside = expected.mean[0][case.body]
    assert (
        np.abs(dose[patient.reward_on_case.score.case.body] - inside).max() < 0.3
    )  # the drawn case is in float16
    assert inside.max() > 1


@torch.no_grad()
def test_candidates_together_are_the_candidates_one_by_one_and_share_the_blind_evaluation(places):
    model, cohort = load_model(places / "base.safetensors"), Cohort(places / "drawn")
    patient = load_patient(model, cohort, 0, places / "cases", read_reward("head_neck_70_63_56"))
    rows = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0]["dose"])))
    noise = starting_noise(tuple(patient.reference.shape), 5, torch.Generator().manual_seed(1), 0.1, 2)
    together = SAMPLERS["dpm2m"](patient.policy(model, "fp32"), noise, 3)
    assert sum(rows) == 1 + 5 * 2
    for k in range(5):
        alone = SAMPLERS["dpm2m"](patient.policy(model, "fp32"), noise[k : k + 1], 3)
        assert torch.allclose(together[k], alone[0], atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_starting_noise_has_unit_variance_and_a_coarse_part():
    generator = torch.Generator().manual_seed(0)
    noise = starting_noise((1, 8, 16, 16, 16), 64, generator, 0.3, 4)
    assert abs(float(noise.var()) - 1) < 0.05
    between = float((noise[:, 0] * noise[:, 1]).mean())  # channels share only the coarse part
    assert abs(between - 0.3) < 0.05
    white = starting_noise((1, 8, 16, 16, 16), 64, generator)
    assert abs(float((white[:, 0] * white[:, 1]).mean())) < 0.02


def test_the_stochastic_samplers_density_is_that_of_its_steps():
    """The true velocity of data at 0.5: samples end there, and a step's density falls by half the square of
    how far, in sigmas, another velocity's mean is."""
    target = 0.5

    def velocity(x, t):
        a, s = torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)
        a, s = (c[:, None, None, None, None] for c in (a, s))
        return (a * x - target) / s

    noise = torch.randn(3, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    found, taken = ancestral(velocity, noise, 4, torch.Generator().manual_seed(1))
    assert torch.allclose(found, torch.full_like(found, target), atol=1e-3)
    assert len(taken) == 3
    step, weight = taken[0], torch.ones(1, 1, 1, 1, 1)
    v = velocity(step.x, step.t)
    z = (step.after - float(torch.cos(step.then * torch.pi / 2)) * target) / step.sigma
    expected = -0.5 * z.square().flatten(1).mean(dim=1)
    assert torch.allclose(step.log_density(v, weight), expected, atol=1e-4)


def test_the_guard_speaks_only_when_a_whole_window_is_beyond_it():
    rule = StopRule(mae_growth=0.02, constraint_loss=0.01, window=2)
    assert broken([Check(0.5, 0.0)], rule) == ""
    assert stored_check([0.5, 0.1]) == stored_check({"growth": 0.5, "limits": 0.1}) == Check(0.5, 0.1)
    assert broken([Check(0.5, 0.0), Check(0.0, 0.0), Check(0.01, 0.0)], rule) == ""
    assert "error grew by 3.0%" in broken([Check(0.0, 0.0), Check(0.03, 0.0), Check(0.03, 0.0)], rule)
    assert "lost 0.0200 of reward to hard constraints" in broken([Check(0.0, -0.02), Check(0.0, -0.02)], rule)


def test_a_run_that_breaks_the_guard_stops_itself_with_a_sentence(places, tmp_path):
    (tmp_path / "strict.yaml").write_text(
        "scorecard: head_neck_70_63_56\nstop_rule: {mae_growth: -1, window: 1}\n"
    )
    trainer = PostTrainer(config(places, tmp_path, reward=str(tmp_path / "strict.yaml")))
    assert len(list(trainer.run())) == 2
    assert "error grew" in trainer.stopped
    assert not (tmp_path / "t" / "adapter.safetensors").exists()  # it was broken at the first check


def test_the_adapter_is_a_model_that_predicts(places, tmp_path):
    trainer = PostTrainer(config(places, tmp_path, learning_rate=1e-2))
    list(trainer.run())
    path = tmp_path / "t" / "adapter.safetensors"
    model, case = load_model(path), replace(small_case(0), dose=None)
    base = load_model(places / "base.safetensors")
    assert np.abs(predict(model, case).mean - predict(base, case).mean).max() > 0.1
    about = describe(path)
    assert about["record"]["recipe"]["method"] == "nft"
    assert about["base"]["name"] == "base"
    assert (tmp_path / "t" / "adapter" / lora.SETTINGS).is_file()


def test_what_cannot_be_run_is_refused(places, tmp_path):
    with pytest.raises(ValueError, match="method one of nft, direct, ddpo"):
        PostTrainer(config(places, tmp_path, method="ppo"))
    with pytest.raises(ValueError, match="watch=3 leaves none"):
        PostTrainer(config(places, tmp_path, watch=3))
    with pytest.raises(ValueError, match="0 usable cases"):
        PostTrainer(config(places, tmp_path, most_voxels=100))


def test_a_patient_without_a_dose_is_left_out(places, tmp_path):
    shutil.copytree(places / "drawn", tmp_path / "drawn")
    bare = replace(small_case(9), dose=None)
    render_file(lambda _: bare, Path("a_bare_one"), tmp_path / "drawn")
    trainer = PostTrainer(config(places, tmp_path, data=str(tmp_path / "drawn")))
    assert len(trainer.cohort) == len(NAMES) + 1
    assert {trainer.cohort.paths[k].stem for k in (*trainer.learnt, *trainer.watched)} == set(NAMES)


@pytest.mark.slow
def test_the_table_has_every_method_under_one_budget_and_goes_on_with_what_is_there(places, tmp_path):
    settings = config(places, tmp_path, steps=2, learning_rate=1e-2)
    unseen, methods = Unseen(places / "drawn", places / "cases", 2), ("nft", "direct", "ddpo", "best")
    rows = list(compare(settings, methods, unseen, Options(steps=1, looks=1, mimic=False)))
    assert [row["method"] for row in rows] == ["base", "nft", "direct", "ddpo", "best of 3"]
    assert (rows[0]["gain"], rows[0]["mae_growth_percent"]) == (0.0, 0.0)
    assert all(row["patients"] == 2 for row in rows)
    assert all(row["post_steps"] == 2 for row in rows[1:4])
    assert rows[1]["mae_growth_percent"] != 0.0
    again = list(compare(settings, ("nft",), unseen, Options(steps=1, looks=1, mimic=False)))
    assert again[1] == rows[1]
    adapter = str(Path(settings.out) / f"{settings.name}-nft" / "adapter.safetensors")
    how = Options(steps=1, looks=1, mimic=False)
    _, as_shipped = compare(settings, (), unseen, how, shipped=(adapter,))
    assert as_shipped["method"] == f"nft, {adapter}"
    assert {k: v for k, v in as_shipped.items() if k in rows[1]} == {
        **{k: v for k, v in rows[1].items() if k in as_shipped},
        "method": as_shipped["method"],
    }
    with pytest.raises(ValueError, match="not post-trained from"):
        list(compare(settings, (), unseen, how, shipped=("compact-hn-scard",)))
    with pytest.raises(ValueError, match="nft, direct, ddpo, best"):
        list(compare(settings, ("ppo",), unseen, Options(looks=1, mimic=False)))
