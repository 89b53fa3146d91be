"""`anydose bench transfer`: an arm starts from its prior's weights, few patients are a part of many, and a
killed run keeps its rows and goes on."""

import json
from dataclasses import replace

import pytest
import torch

from anydose.bench import transfer
from anydose.bench.transfer import ARMS, Plan, dose_config, prior_of, stages_of, subset, trainer_of
from anydose.train.tasks import TaskConfig, draw

TINY = ("model.backbone.widths=[8, 16]", "model.backbone.down_blocks=[1, 1]", "model.backbone.up_blocks=[1]")
BY_NAME = {arm.name: arm for arm in ARMS}


def plan_of(dataset, cohort_folder, tmp_path, **changes):
    """Four steps of dose training after two of a prior, scored at 1, 2 and 4."""
    shared = (*TINY, f"data={cohort_folder}", "accumulate=1", "warmup=1")
    about = {
        "training_steps": 4,
        "prior_steps": 2,
        "patients": (0,),
        "seeds": (0,),
        "simulated": str(cohort_folder),
    }
    return Plan(dataset, **(about | {"changes": shared, "runs": str(tmp_path / "runs")} | changes))


def test_few_patients_are_a_part_of_more_and_drawn_by_the_seed():
    sizes = [subset(196, n, 3) for n in (20, 50, 100, 0)]
    assert [len(kept) for kept in sizes] == [20, 50, 100, 196]
    assert all(set(few) < set(many) for few, many in zip(sizes, sizes[1:], strict=False))
    assert subset(196, 20, 3) == sizes[0] != subset(196, 20, 4)
    with pytest.raises(ValueError, match="has 196"):
        subset(196, 197, 0)


@pytest.mark.parametrize("name", [arm.name for arm in ARMS if arm.prior])
def test_an_arm_starts_from_its_prior_s_weights(name, dataset, cohort_folder, tmp_path):
    plan = plan_of(dataset, cohort_folder, tmp_path)
    arm = BY_NAME[name]
    cost = prior_of(arm, plan, 2, 0, lambda text: None)
    runs = [config for _, config in stages_of(arm, plan, 2, 0)]
    assert sum(config.steps for config in runs) == plan.prior_steps and cost["prior_minutes"] > 0
    assert cost["prior_cases"] == [2 if stage.own else 3 for stage in arm.prior]
    prior = trainer_of(runs[-1], plan)
    assert prior.step == runs[-1].steps
    ours = trainer_of(dose_config(arm, plan, 2, 0), plan, 2).model.state_dict()
    assert ours.keys() == prior.ema.state.keys()
    assert all(torch.equal(value, prior.ema.state[key]) for key, value in ours.items())
    fresh = trainer_of(dose_config(BY_NAME["scratch"], plan, 2, 0), plan, 2).model.state_dict()
    assert any(not torch.equal(value, fresh[key]) for key, value in ours.items())


def test_arms_differ_in_where_they_start_alone_and_the_longer_one_in_its_steps(tmp_path):
    plan = Plan(tmp_path)
    scratch = dose_config(BY_NAME["scratch"], plan, 20, 1)
    for arm in ARMS:
        config = dose_config(arm, plan, 20, 1)
        steps = plan.training_steps + plan.prior_steps if arm.longer else plan.training_steps
        assert config.steps == steps and bool(config.init) == bool(arm.prior)
        assert replace(config, name="", init="", steps=0) == replace(scratch, name="", init="", steps=0)


def test_a_prior_learns_what_it_is_asked_to_and_never_sees_what_is_withheld(dataset, cohort_folder, tmp_path):
    plan = plan_of(dataset, cohort_folder, tmp_path)
    targets, seen = {}, {}
    for name in ("ct", "physics", "any2any"):
        ((stage, config),) = stages_of(BY_NAME[name], plan, 0, 0)
        trainer = trainer_of(config, plan, 0, stage.withheld)
        draws = [draw(config.task, trainer.cohort.modalities, 0, step, 0.5) for step in range(200)]
        targets[name] = {d.target for d in draws}
        seen[name] = {v for d in draws for v in d.visible}
    assert targets["ct"] == {"ct"} and "dose" not in seen["ct"]
    assert targets["physics"] == {"dose"}
    assert len(targets["any2any"]) == 7
    with pytest.raises(ValueError, match="no case of the cohort has ct"):
        draw(TaskConfig(dose_share=0.0, targets=("ct",)), [("dose", "ptv")], 0, 0, 0.5)


def test_a_killed_run_keeps_its_rows_and_ends_as_one_that_was_not(dataset, cohort_folder, tmp_path):
    """Stopped after the second of three points; the rows there are stay, and the last is what it would have
    been."""
    plan = plan_of(dataset, cohort_folder, tmp_path / "a", only=("any2any",))
    whole = transfer.rows(plan, tmp_path / "a.json")
    plan = plan_of(dataset, cohort_folder, tmp_path / "b", only=("any2any",))
    file = tmp_path / "b.json"
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if '"share": 0.5' in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.rows(plan, file, stop)
    kept = json.loads(file.read_text())
    assert [row["step"] for row in kept] == [1, 2]
    again = transfer.rows(plan, file)
    assert again[:2] == kept
    assert [row["dose_errors"] for row in again] == [row["dose_errors"] for row in whole]
    assert len({row["dose_score"] for row in again}) == 3
    # rows that got lost are made again from the start, as the weights of their steps are gone
    file.write_text(json.dumps(again[1:]))
    restored = sorted(transfer.rows(plan, file), key=lambda row: row["step"])
    assert [row["dose_errors"] for row in restored] == [row["dose_errors"] for row in whole]


def test_the_table_and_the_picture_come_from_the_rows_and_a_second_run_trains_nothing(
    dataset, cohort_folder, tmp_path
):
    arms = ("scratch", "ct", "scratch-longer")
    plan = plan_of(dataset, cohort_folder, tmp_path, patients=(0, 2), only=arms)
    file = tmp_path / "transfer.json"
    first = transfer.write(plan, file, lambda text: None)
    assert {(row["train_patients"], row["arm"], row["steps"]) for row in first} == {
        (n, arm, steps) for n in (2, 3) for arm, steps in (("scratch", 4), ("ct", 4), ("scratch-longer", 6))
    }
    page = file.with_suffix(".md").read_text()
    assert "| 3 | ct | 1 |" in page and "| 2 | scratch | 1 | 0.0 |" in page
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert transfer.write(plan, file, lambda text: None) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    with pytest.raises(ValueError, match="prior_steps 2, 3 asked"):
        transfer.write(replace(plan, prior_steps=3), file)


def test_the_gap_is_paired_and_means_and_spreads_are_over_seeds():
    def row(arm, seed, errors):
        about = {"arm": arm, "seed": seed, "train_patients": 20, "share": 1.0, "step": 4, "steps": 4}
        about |= {"minutes": 2.0, "prior_minutes": 4.0, "dvh_score": 2.0, "dose_score": sum(errors) / 2}
        return about | {"dose_errors": {"pt_1": errors[0], "pt_2": errors[1]}}

    rows = [row("scratch", 0, (4, 6)), row("scratch", 1, (4, 8)), row("ct", 0, (3, 4)), row("ct", 1, (3, 7))]
    line = transfer.transfer_page.table(rows).splitlines()[3]
    # gaps: seed 0: -1, -2; seed 1: -1, -1; over seeds: -1 and -1.5
    assert "| 20 | ct | 2 | 4.0 | 2.0 |" in line and "| 4.25 ± 1.06 | -1.25 ± 0.25 |" in line


def test_refused_input_is_one_sentence(dataset, cohort_folder, tmp_path):
    plan = plan_of(dataset, cohort_folder, tmp_path, simulated=str(tmp_path / "none"))
    said: list[str] = []
    assert {arm.name for arm in transfer.chosen(plan, said.append)} == {
        "scratch", "any2any", "ct", "scratch-longer"
    }  # fmt: skip
    assert len(said) == 2 and "physics: left out" in said[0]
    with pytest.raises(ValueError, match="anydose simulate"):
        transfer.chosen(replace(plan, only=("physics",)))
    with pytest.raises(ValueError, match="scratch-longer"):
        transfer.chosen(replace(plan, only=("wan",)))
    with pytest.raises(ValueError, match="unet or dit"):
        transfer.base_of(replace(plan, backbone="vnet"))
    with pytest.raises(ValueError, match="has 3"):
        transfer.rows(replace(plan, patients=(4,)), tmp_path / "t.json", said.append)


def test_the_transformer_takes_the_same_way(dataset, cohort_folder, tmp_path):
    small = ("dim=64", "depth=1", "ffn=64", "heads=1")
    changes = (*(f"model.backbone.{change}" for change in small), f"data={cohort_folder}", "accumulate=1")
    plan = plan_of(
        dataset, cohort_folder, tmp_path, backbone="dit", changes=changes, only=("ct",), training_steps=1
    )
    rows = transfer.rows(plan, tmp_path / "dit.json")
    assert [(row["arm"], row["backbone"], row["share"]) for row in rows] == [("ct", "dit", 1.0)]
