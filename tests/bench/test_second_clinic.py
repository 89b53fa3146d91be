"""`anydose bench second-clinic`: organs are shown where the table says, figures are those worked by hand,
arms start where they should, rows are kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage

from anydose.bench import second_clinic, second_clinic_page
from anydose.bench.second_clinic import Job, Plan, config_of, jobs
from anydose.bench.second_clinic_cases import (
    ORGANS,
    dvh_points,
    figures,
    masks,
    patients,
    reference,
    render_one,
    where_dose_is_possible,
)
from anydose.case.volume import Volume
from anydose.io.pelvis import make_pelvis
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.model.sample import body_block
from anydose.score.statistics import bootstrap_seeds
from anydose.simulate.habit import SEVEN_FIELDS, set_up
from anydose.train.data import Cohort
from anydose.train.start import starting_model

CASES = 4


@pytest.fixture(scope="module")
def case():
    """A pelvis with targets and beams, cut to a block about them; its dose is a blur of the prescription."""
    whole = set_up(make_pelvis(1), SEVEN_FIELDS)
    target = np.logical_or.reduce(list(whole.targets.values()))
    start = tuple(
        int(c) - n // 2 for c, n in zip(np.argwhere(target).mean(axis=0), (48, 24, 24), strict=True)
    )
    small = whole.block(start, (48, 24, 24))
    level = np.zeros(small.grid.shape, np.float32)
    for name, gy in sorted(small.prescription.levels_gy.items(), key=lambda item: item[1]):
        level[small.structures[name]] = gy
    return replace(small, dose=Volume(ndimage.gaussian_filter(level, 1.5) * small.body, small.grid, "Gy"))


@pytest.fixture(scope="module")
def rendered(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    for number in range(CASES):
        place = folder / ("held" if number == CASES - 1 else "train")
        place.mkdir(exist_ok=True)
        render_one(folder / f"pelvis_{number}", place, lambda path: case)
    return folder


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A file of a network small enough to train in a test, which stands for the shipped one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    backbone = UNetConfig(widths=(16, 32), down_blocks=(1, 1), up_blocks=(1,), code=32)
    save_model(Any2Any(ModelConfig(backbone)), path, {})
    return path


def plan_of(rendered, folder, model, **others):
    values = {
        "model": str(model),
        "rendered": rendered,
        "held": 1,
        "patients": (2,),
        "seeds": (0,),
        "training_steps": 2,
        "device": "cpu",
        "runs": str(folder / "runs"),
        "changes": ("accumulate=1",),
    }
    return Plan(**values | others)


def test_every_organ_of_the_pelvis_has_a_channel_of_its_own(case, rendered):
    (file,) = (rendered / "held").glob("*.safetensors")
    drawn = load_file(file)["oar"] > 0
    cut = where_dose_is_possible(case)
    part = cut.block(*body_block(cut))
    assert len(drawn) == len(ORGANS)
    for name in ("Rectum", "Bladder", "SeminalVes"):
        channel = drawn[ORGANS.index(name)].numpy()
        assert np.array_equal(channel, part.structures[name]) and channel.any()


def test_dose_is_possible_25_mm_above_and_below_the_targets(case):
    body = where_dose_is_possible(case).body.any(axis=(1, 2))
    target = np.logical_or.reduce(list(case.targets.values())).any(axis=(1, 2))
    slices, inside = np.flatnonzero(body), np.flatnonzero(target)
    assert inside[0] - slices[0] == slices[-1] - inside[-1] == 8  # 24 of 25 mm in slices of 3
    with pytest.raises(ValueError, match="a body and a prescribed target"):
        where_dose_is_possible(make_pelvis(0))


def test_figures_are_those_worked_by_hand(case, rendered):
    sample = Cohort(rendered / "held").load(0)
    truth = reference(sample)
    cut = where_dose_is_possible(case)
    part = cut.block(*body_block(cut))
    assert np.abs(truth - part.dose.array)[part.body].max() < 0.02  # float16 of the model's range
    off = np.where(sample.body.numpy(), np.float32(2.0), np.float32(0))
    found = figures(truth + off, sample)
    assert found["mae_gy"] == found["mae_5gy_gy"] == pytest.approx(2.0, abs=1e-3)
    assert found["dvh_gy"] == pytest.approx(2.0, abs=1e-2)  # every dose of every structure is 2 Gy higher
    peak, share = float(truth.max()), float(sample.body.float().mean())
    assert found["psnr_db"] == pytest.approx(10 * np.log10(peak**2 / (4.0 * share)), abs=1e-3)
    assert figures(truth, sample)["ssim"] == pytest.approx(1.0)
    names = masks(sample)
    assert {"target 60 Gy", "target 48 Gy", "Rectum", "Bladder"} <= names.keys()
    assert dvh_points(truth, sample)["mean Rectum"] == pytest.approx(truth[names["Rectum"]].mean(), abs=1e-3)


def test_arms_start_where_they_should_and_learn_what_they_should(rendered, tmp_path):
    plan = plan_of(rendered, tmp_path, "compact-hn")
    shipped, _ = starting_model(replace(config_of(Job("full", 2, 0), plan), lora=0))
    lora, _ = starting_model(config_of(Job("lora", 2, 0), plan))
    scratch, _ = starting_model(config_of(Job("scratch", 2, 0), plan))
    weight = shipped.backbone.stem.weight
    assert torch.equal(weight, lora.backbone.stem.weight)
    assert shipped.config.organs == lora.config.organs == scratch.config.organs == ORGANS
    assert weight.shape == scratch.backbone.stem.weight.shape
    assert not torch.equal(weight, scratch.backbone.stem.weight)
    learns = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (lora, shipped, scratch)]
    assert learns[0] < 0.4 * learns[1] and learns[1] == learns[2]
    assert config_of(Job("regression", 2, 0), plan).objective == "regression"
    rates = [config_of(Job(arm, 2, 0), plan).learning_rate for arm in ("full", "scratch")]
    assert rates == [pytest.approx(0.3 * 2e-3), pytest.approx(2e-3)]


def test_rows_are_made_once_and_the_page_comes_from_them(rendered, small_model, tmp_path):
    plan = plan_of(rendered, tmp_path, small_model, only=("as it is", "lora", "scratch"))
    file, said = tmp_path / "second-clinic.json", []
    (alone,) = second_clinic.write(replace(plan, only=("as it is",)), file, said.append)
    assert "nothing yet for every training" in file.with_suffix(".md").read_text()
    found = second_clinic.write(plan, file, said.append)
    ends = [(row["arm"], row["train_patients"], row["step"]) for row in found if row["share"] == 1.0]
    assert sorted(ends) == [("as it is", 0, 0), ("lora", 2, 2), ("scratch", 2, 2)]
    assert json.loads(file.read_text()) == found and found[0] == alone
    mae = {row["arm"]: row["cases"]["pelvis_3"]["mae_gy"] for row in found if row["share"] == 1.0}
    assert len(set(mae.values())) == 3  # each is a model of its own
    page = file.with_suffix(".md").read_text()
    assert "| 2 | lora | 1 |" in page and file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    said.clear()
    assert second_clinic.write(plan, file, said.append) == found and not said
    with pytest.raises(ValueError, match="another file is needed"):
        second_clinic.rows(replace(plan, training_steps=3), file)
    with pytest.raises(ValueError, match="the last 1"):
        replace(plan, points=(0.5,))
    assert config_of(Job("scratch-levels", 2, 0), plan).model.organs_as == "levels"
    with pytest.raises(ValueError, match="lora, full, scratch"):
        replace(plan, only=("wan",))


def test_the_largest_trainings_come_first_and_the_model_as_it_is_once():
    found = jobs(Plan())
    assert found[0] == Job("as it is", 0, 0) and len(found) == 1 + 4 * 3 * 2
    assert [job.train_patients for job in found[1:5]] == [50] * 4


def test_intervals_are_over_seeds_and_patients_and_gaps_are_paired():
    def row(arm, seed, errors):
        cases = {f"p{k}": dict.fromkeys(second_clinic_page.FIGURES, value) for k, value in enumerate(errors)}
        about = {
            "steps": 4,
            "examples": 8,
            "spacing_mm": [],
            "model": "m",
            "held": 2,
            "shared": [],
            "device": "cpu",
            "share": 1.0,
        }
        return about | {"arm": arm, "seed": seed, "train_patients": 5, "minutes": 1.0, "cases": cases}

    rows = [
        row("scratch", 0, (3, 5)),
        row("scratch", 1, (4, 6)),
        row("lora", 0, (2, 4)),
        row("lora", 1, (3, 5)),
    ]
    line = next(text for text in second_clinic_page.table(rows, 1.0).splitlines() if "| lora |" in text)
    assert "-1.00 (-1.00 to -1.00)" in line and "| 3.50 (" in line
    found = bootstrap_seeds(np.array([[0.0, 0.0], [1.0, 1.0]]))  # seeds differ, patients do not
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_patients_are_drawn_on_the_voxels_that_are_asked_for(case, tmp_path):
    fine, coarse = (
        render_one(tmp_path / name, tmp_path, lambda path: case, spacing)
        for name, spacing in (("fine", ()), ("coarse", (5.4, 5.4, 3.4)))
    )
    a, b = (Cohort(tmp_path).load(k) for k in (1, 0))
    assert (fine.stem, coarse.stem, a.name, b.name) == ("fine", "coarse", "fine", "coarse")
    assert b.spacing_mm == (5.4, 5.4, 3.4) and a.spacing_mm == case.grid.spacing_mm
    high = [reference(s)[masks(s)["target 60 Gy"]].mean() for s in (a, b)]
    assert high[0] == pytest.approx(high[1], rel=0.05)


def test_patients_of_a_clinic_come_by_number(tmp_path):
    for name in ("pelvis_10", "pelvis_9", ".scratch"):
        (tmp_path / name).mkdir()
    assert [path.name for path in patients(tmp_path)] == ["pelvis_9", "pelvis_10"]
    with pytest.raises(ValueError, match="anydose clinic"):
        patients(tmp_path / "pelvis_9")
