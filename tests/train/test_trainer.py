"""Training: exact resume, draws that depend on the step alone, mirrored patients, and that it learns."""

import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY, log_rows, tiny_run

from anydose.case import modality
from anydose.model.augment import cropped, flipped, rotated
from anydose.model.checkpoint import load_model
from anydose.model.sample import Sample, draw_sample, padded
from anydose.train import recipes
from anydose.train.data import Cohort, render, render_file
from anydose.train.examples import Patients, geometry_of
from anydose.train.losses import dvh_loss, organ_loss, velocity_loss
from anydose.train.tasks import ANY2ANY, TaskConfig, draw
from anydose.train.trainer import Trainer


def losses(out):
    return log_rows(out, "step", "target", "loss", "grad")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_killed_between_checkpoints_resumes_with_the_same_losses(cohort_folder, tmp_path, precision):
    whole = Trainer(tiny_run(cohort_folder, tmp_path / "whole", precision=precision))
    list(whole.run())
    killed = Trainer(tiny_run(cohort_folder, tmp_path / "cut", precision=precision)).run()
    for _ in range(6):
        next(killed)  # two steps past the checkpoint at 4, then gone
    killed.close()
    again = Trainer(tiny_run(cohort_folder, tmp_path / "cut", precision=precision))
    again.resume()
    assert again.step == 4
    list(again.run())
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert all(torch.equal(again.ema.state[k], v) for k, v in whole.ema.state.items())


@pytest.mark.parametrize(("workers", "side_by_side"), [(0, 1), (1, 3)])
def test_slabs_muon_and_several_examples_a_step_resume_exactly_too(
    cohort_folder, tmp_path, workers, side_by_side
):
    changes = {"crop": (16, 64, 64), "optimiser": "muon", "accumulate": 3, "workers": workers}
    changes["side_by_side"] = side_by_side
    list(Trainer(tiny_run(cohort_folder, tmp_path / "whole", **changes)).run())
    list(itertools.islice(Trainer(tiny_run(cohort_folder, tmp_path / "cut", **changes)).run(), 5))
    again = Trainer(tiny_run(cohort_folder, tmp_path / "cut", **changes))
    again.resume()
    list(again.run())
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_an_adapter_learns_other_targets_and_leaves_the_model_it_was_made_for_alone(cohort_folder, tmp_path):
    list(Trainer(tiny_run(cohort_folder, tmp_path)).run())
    base = tmp_path / "t" / "model.safetensors"
    task = replace(ANY2ANY, dose_share=0.0, targets=("ct", "oar"))
    changes = {
        "organ_weight": 8.0,
        "init": str(base),
        "lora": 2,
        "adapter": True,
        "task": task,
        "learning_rate": 1e-2,
    }
    with pytest.raises(ValueError, match="adapter: lora"):
        Trainer(tiny_run(cohort_folder, tmp_path / "any", **{**changes, "lora": 0}))
    list(Trainer(tiny_run(cohort_folder, tmp_path / "any", **changes)).run())
    assert {row["target"] for row in losses(tmp_path / "any")} == {"ct", "oar"}
    before = load_model(base).state_dict()
    after = load_model(tmp_path / "any" / "t" / "adapter.safetensors").state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    read_outs = {f"backbone.read_out.{m}.{part}" for m in ("ct", "oar") for part in ("weight", "bias")}
    assert read_outs < moved
    assert moved - read_outs and all(".convs." in name for name in moved - read_outs)
    assert load_model(base).state_dict().keys() == before.keys()


def test_an_organ_that_a_voxel_has_one_time_in_five_is_seen_at_once_and_not_by_an_absolute_error():
    """The value that each loss leads to, of one voxel known no better: 8 times as often an organ's."""
    truth = torch.where(torch.arange(10) < 2, 1.0, -1.0).reshape(1, 1, 1, 1, 10)
    weight = torch.ones(1, 1, 1, 1, 10)
    guesses = torch.linspace(-1, 1, 201)
    same = [torch.full_like(truth, float(g)) for g in guesses]
    squares = [organ_loss(g, truth, weight, truth > 0, 8.0)[0] for g in same]
    absolute = [velocity_loss(g, truth, weight)[0] for g in same]
    assert guesses[int(torch.stack(squares).argmin())] == pytest.approx((16 - 8) / 24, abs=0.011)
    assert guesses[int(torch.stack(absolute).argmin())] == -1


def test_an_organ_s_weight_is_for_voxels(cohort_folder, tmp_path):
    with pytest.raises(ValueError, match="compact:4 has no voxels"):
        Trainer(tiny_run(cohort_folder, tmp_path, model=replace(TINY, codec="compact:4"), organ_weight=8.0))


def test_the_dvh_loss_is_the_area_between_the_curves_and_is_trained(cohort_folder, tmp_path):
    dose, reference = torch.tensor([[[1.0, 5.0, 9.0]]]), torch.tensor([[[9.0, 2.0, 5.0]]])
    masks = torch.tensor([[[[1, 1, 0]]], [[[0, 0, 0]]], [[[1, 1, 1]]]]) > 0
    # (1, 5) against (2, 9): 2.5; empty; (1, 5, 9) against (2, 5, 9): 1 / 3
    assert dvh_loss(dose, reference, masks)[0] == pytest.approx((2.5 + 1 / 3) / 2)
    # the means differ by 2.5 and 1 / 3, the coldest by 1 and 1, the hottest by 4 and 0;
    # of so few voxels the window of D95 is the coldest one
    with_points, report = dvh_loss(dose, reference, masks, points=2.0)
    criteria = ((2.5 + 1 + 1 + 4) / 4 + (1 / 3 + 1 + 1 + 0) / 4) / 2
    assert report["points"] == pytest.approx(criteria)
    assert with_points == pytest.approx(float(dvh_loss(dose, reference, masks)[0]) + 2 * criteria)
    changes = {"steps": 60, "save_every": 60, "learning_rate": 3e-3, "dvh": 1.0, "dvh_points": 0.5}
    c = tiny_run(cohort_folder, tmp_path, **changes)
    seen = [s.metrics["dvh"] for s in Trainer(replace(c, task=TaskConfig(t1_probability=1.0))).run()]
    assert np.mean(seen[-10:]) < 0.6 * np.mean(seen[:5])


def test_a_case_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path):
    from tiny_cohort import read_small_case

    done, refused = render(read_small_case, [Path("0"), Path("none"), Path("1")], tmp_path)
    assert [p.name for p in done] == ["0.safetensors", "1.safetensors"]
    assert len(refused) == 1 and "none" in refused[0]


def test_examples_side_by_side_give_the_gradient_of_one_after_the_other(cohort_folder, tmp_path):
    one, many = (
        next(Trainer(tiny_run(cohort_folder, tmp_path / str(n), accumulate=3, side_by_side=n)).run())
        for n in (1, 3)
    )
    assert many.metrics == pytest.approx(one.metrics, rel=1e-3)  # the order of sums within an example


def test_what_other_processes_get_holds_no_weights(cohort_folder, tmp_path):
    """A process beside the one that owns a GPU must not touch it: what is pickled for it has no tensor."""
    trainer = Trainer(tiny_run(cohort_folder, tmp_path))
    patients = Patients(geometry_of(trainer.model), trainer.cohort, trainer.config.task, (), 0)
    assert len(pickle.dumps(patients)) < 10_000
    again, drawn = pickle.loads(pickle.dumps(patients))[(0.0, 3)]
    first, _ = patients[(0.0, 3)]
    assert all(
        torch.equal(again.volumes[name], first.volumes[name]) for name in (drawn.target, *drawn.visible)
    )


def test_a_crop_is_cut_to_the_body_it_holds():
    body = torch.zeros(20, 10, 10, dtype=torch.bool)
    body[3:18, 2:6, 4:9] = True
    sample = Sample("one", {"ct": torch.zeros(1, 20, 10, 10)}, body, (4.0, 4.0, 2.5), 70.0)
    assert cropped(sample, (8, 64, 64), (0.5, 0.5, 0.5)).body.shape == (8, 4, 5)
    assert cropped(sample, (8, 64, 64), (1.0, 0.5, 0.5)).body.shape == (6, 4, 5)
    assert cropped(sample, (2, 64, 64), (0.0, 0.5, 0.5)).body.shape == (2, 10, 10)  # no body: as it is


def test_resuming_with_another_configuration_is_refused(cohort_folder, tmp_path):
    list(Trainer(tiny_run(cohort_folder, tmp_path, steps=4)).run())
    with pytest.raises(ValueError, match="learning_rate"):
        Trainer(tiny_run(cohort_folder, tmp_path, steps=4, learning_rate=1e-5)).resume()


def test_training_lowers_the_error_and_regression_shares_the_trainer(cohort_folder, tmp_path):
    for objective in ("diffusion", "regression"):
        c = tiny_run(cohort_folder, tmp_path / objective, steps=60, save_every=60, objective=objective)
        c = replace(c, task=TaskConfig(t1_probability=1.0), learning_rate=3e-3)
        loss = [s.metrics["loss"] for s in Trainer(c).run()]
        assert np.mean(loss[-10:]) < 0.6 * np.mean(loss[:5])


def test_the_learning_rate_s_schedule_by_hand(cohort_folder, tmp_path):
    """2 steps of warm-up, then half a cosine over 6: half way at step 5, a tenth left at the end."""
    trainer = Trainer(tiny_run(cohort_folder, tmp_path, learning_rate=1.0, last_rate=0.1))
    found = []
    for step in range(9):
        trainer.step = trainer.examples = step
        found.append(trainer.learning_rate())
    assert found[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert found[5] == pytest.approx(0.1 + 0.9 / 2)
    assert found[8] == pytest.approx(0.1)


def test_a_share_of_patients_is_neither_rotated_nor_deformed():
    task = TaskConfig(rotation_jitter_deg=5.0, zoom=0.1, deformation_mm=2.0, unaugmented_probability=0.25)
    drawn = [draw(task, [modality.NAMES], 0, k, 0.0).augmentation for k in range(400)]
    plain = [a for a in drawn if (a.rotation_deg, a.zoom, a.deformation_mm) == (0.0, 1.0, 0.0)]
    assert 0.18 < len(plain) / 400 < 0.32
    assert all(a.deformation_mm == 2.0 for a in drawn if a not in plain)


def test_draws_depend_on_seed_and_step_alone_and_visit_every_case_each_epoch():
    have = [modality.NAMES] * 5
    draws = [draw(TaskConfig(), have, 0, k, 0.0) for k in range(10)]
    assert sorted(d.case for d in draws[:5]) == sorted(d.case for d in draws[5:]) == list(range(5))
    assert draws[7] == draw(TaskConfig(), have, 0, 7, 0.0)
    assert draws[7] != draw(TaskConfig(), have, 1, 7, 0.0)


def test_any2any_draws_every_target_never_shows_it_and_shows_more_as_it_goes_on():
    have = [modality.NAMES, tuple(n for n in modality.NAMES if n not in ("ct", "dose"))]
    early, late = ([draw(ANY2ANY, have, 0, k, p) for k in range(600)] for p in (0.0, 1.0))
    assert {d.target for d in early} == set(modality.NAMES)
    for d in early:
        assert d.target not in d.visible
        assert set(d.visible) <= set(have[d.case])
        assert d.target in have[d.case]
    assert np.mean([len(d.visible) for d in late]) > 1.5 * np.mean([len(d.visible) for d in early])


def test_mirroring_twice_is_nothing_and_equals_drawing_the_mirrored_patient():
    from tiny_cohort import small_case

    case = small_case(0)
    sample, _ = draw_sample(case)
    twice = flipped(flipped(sample, True, True), True, True)
    for name, volume in sample.volumes.items():
        assert torch.equal(twice.volumes[name], volume)
    mirrored = mirrored_case(case)
    theirs, ours = draw_sample(mirrored)[0], flipped(sample, True, False)
    for name in ("ct", "ptv", "oar", "body", "dose"):
        assert torch.equal(theirs.volumes[name], ours.volumes[name])
    # edges of plates fall on other sides of a rounded pixel; the drawings agree but for a few voxels
    assert (theirs.volumes["beam"] - ours.volumes["beam"]).abs().mean() < 0.01


def mirrored_case(case):
    """The patient as in a mirror: arrays reversed along x, paired organs renamed, beams from the other
    side."""
    from anydose.case.volume import Volume

    x_of = case.grid.origin_mm[0] * 2 + case.grid.spacing_mm[0] * (case.grid.shape[2] - 1)
    swap = {"LeftParotid": "RightParotid", "RightParotid": "LeftParotid"}

    def mirrored_volume(volume):
        return Volume(np.ascontiguousarray(volume.array[..., ::-1]), case.grid, volume.unit)

    beams = tuple(
        replace(
            b,
            gantry_deg=tuple(-g % 360 for g in b.gantry_deg),
            isocentre_mm=(x_of - b.isocentre_mm[0], *b.isocentre_mm[1:]),
        )
        for b in case.beams
    )
    masks = {swap.get(n, n): np.ascontiguousarray(m[..., ::-1]) for n, m in case.structures.items()}
    return replace(
        case, structures=masks, beams=beams, ct=mirrored_volume(case.ct), dose=mirrored_volume(case.dose)
    )


@pytest.mark.parametrize("quarters", [1, 3])
def test_rotating_equals_drawing_the_rotated_patient(quarters):
    from tiny_cohort import small_case

    case = small_case(0)
    sample, theirs = draw_sample(case)[0], draw_sample(rotated_case(case, quarters))[0]
    ours = rotated(sample, 90.0 * quarters)
    assert torch.equal(ours.body, theirs.body)
    for name in ("ct", "ptv", "oar", "body", "dose"):
        assert torch.allclose(ours.volumes[name], theirs.volumes[name], atol=2e-3), name
    assert (theirs.volumes["beam"] - ours.volumes["beam"]).abs().mean() < 0.01
    unnamed = ours.volumes["beam"][list(modality.TABLE["beam"].mirror)]
    assert (theirs.volumes["beam"] - unnamed).abs().mean() > 0.02, "other sectors would be told apart"


def test_a_turn_there_and_back_and_a_finer_grid_keep_the_patient_in_place():
    """Turned by 30 degrees and back, the dose comes back but for interpolation; on finer voxels the volume in
    mm stays."""
    from tiny_cohort import small_case

    sample = draw_sample(small_case(0))[0]
    there = rotated(sample, 30.0)
    back = rotated(there, -30.0)
    for each in (there, back):
        assert abs(float(each.body.sum() / sample.body.sum()) - 1) < 0.03
    gy, again = (35 * float((s.volumes["dose"] + 1).sum()) for s in (sample, back))
    assert abs(again / gy - 1) < 0.02
    finer = rotated(sample, 0.0, 1.1)
    assert finer.spacing_mm[:2] == tuple(s / 1.1 for s in sample.spacing_mm[:2])
    volume = [float(s.body.sum()) * np.prod(s.spacing_mm) for s in (sample, finer)]
    assert abs(volume[1] / volume[0] - 1) < 0.03
    assert rotated(sample, 0.0) is sample


def test_a_bend_moves_everything_together_by_what_was_asked():
    """Volumes that hold their own place in mm come out displaced by 4 mm in the root mean square, the CT and
    the dose alike, slices as they were; the same seed bends the same way."""
    from tiny_cohort import small_case

    sample = draw_sample(small_case(0))[0]
    d, h, w = sample.body.shape
    x_mm, y_mm = np.arange(w) * sample.spacing_mm[0], np.arange(h)[:, None] * sample.spacing_mm[1]
    place = {"ct": x_mm + 0 * y_mm, "dose": y_mm + 0 * x_mm}
    volumes = {k: torch.tensor(v, dtype=torch.float32).expand(1, d, h, w) for k, v in place.items()}
    known = replace(sample, volumes=volumes, body=torch.ones(d, h, w, dtype=torch.bool))
    deformed, again, other = (rotated(known, 0.0, 1.0, 4.0, seed) for seed in (7, 7, 8))
    assert torch.equal(deformed.volumes["ct"], again.volumes["ct"])
    assert not torch.equal(deformed.volumes["ct"], other.volumes["ct"])
    assert deformed.spacing_mm == sample.spacing_mm
    pad = [(n - m) // 2 for n, m in zip(deformed.body.shape[1:], (h, w), strict=True)]
    middle = (slice(pad[0] + 3, pad[0] + h - 3), slice(pad[1] + 3, pad[1] + w - 3))
    moved = [
        deformed.volumes[name][0, 2][middle].numpy() - place[name][3 : h - 3, 3 : w - 3]
        for name in ("ct", "dose")
    ]
    rms = np.sqrt(np.mean(np.square(moved)))
    assert 2.0 < rms < 6.0, "4 mm over the whole plane, less or more in its middle"
    assert torch.equal(deformed.volumes["dose"][0, 0], deformed.volumes["dose"][0, d - 1])
    both = rotated(replace(known, volumes={**volumes, "dose": volumes["ct"]}), 0.0, 1.0, 4.0, 7).volumes
    assert torch.allclose(both["ct"], both["dose"], atol=1e-3)
    body = rotated(sample, 0.0, 1.0, 4.0, 7).body
    assert abs(float(body.sum() / sample.body.sum()) - 1) < 0.2


def rotated_case(case, quarters):
    """The patient rotated by quarters towards higher azimuth (anterior goes to the left), beams along."""
    from anydose.case.grid import Grid
    from anydose.case.volume import Volume

    (x, y), (sx, sy, sz) = case.grid.origin_mm[:2], case.grid.spacing_mm
    assert sx == sy and case.grid.shape[1] == case.grid.shape[2]
    middle = np.array([x, y]) + sx * (case.grid.shape[2] - 1) / 2
    grid = Grid(case.grid.shape, (sx, sy, sz), case.grid.origin_mm, case.grid.direction)
    angle = np.radians(90 * quarters)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def array(values):
        return np.ascontiguousarray(np.rot90(values, -quarters, axes=(1, 2)))

    def isocentre(b):
        return (*(rotation @ (np.array(b.isocentre_mm[:2]) - middle) + middle), b.isocentre_mm[2])

    turn = 90.0 * quarters
    beams = tuple(
        replace(b, gantry_deg=tuple((g + turn) % 360 for g in b.gantry_deg), isocentre_mm=isocentre(b))
        for b in case.beams
    )
    return replace(
        case,
        structures={n: array(m) for n, m in case.structures.items()},
        beams=beams,
        ct=Volume(array(case.ct.array), grid, "HU"),
        dose=Volume(array(case.dose.array), grid, "Gy"),
    )


def test_padding_adds_air_on_the_side_that_was_drawn(cohort_folder):
    sample = Cohort(cohort_folder).load(0)
    d, h, w = sample.body.shape
    low, high = (padded(sample, 16, (o, o, o)) for o in (0.0, 1.0))
    assert all(n % 16 == 0 for n in low.body.shape)
    assert torch.equal(low.volumes["dose"][:, :d, :h, :w], sample.volumes["dose"])
    assert torch.equal(high.volumes["dose"][:, -d:, -h:, -w:], sample.volumes["dose"])
    assert low.body.sum() == sample.body.sum()
    if low.body.shape[0] > d:
        assert (low.volumes["ct"][:, d:] == -1).all()


def test_drawn_files_are_kept_and_an_empty_folder_is_refused(cohort_folder, tmp_path):
    path = Cohort(cohort_folder).paths[0]
    before = path.stat().st_mtime_ns
    render_file(lambda _: pytest.fail("read again"), Path(path.stem), cohort_folder)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="no rendered case"):
        Cohort(tmp_path)


def test_further_folders_are_learned_from_and_one_named_twice_counts_twice(cohort_folder, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    first = Cohort(cohort_folder)
    for path in first.paths[:2]:
        (more / f"{path.stem}_again.safetensors").write_bytes(path.read_bytes())
    config = tiny_run(cohort_folder, tmp_path, further_data=(str(more), str(cohort_folder)))
    trainer = Trainer(config)
    names = [path.stem for path in trainer.cohort.paths]
    own = [path.stem for path in first.paths]
    assert names == [*own, *(f"{name}_again" for name in own[:2]), *own]
    trainer.cohort.hold_on(torch.device("cpu"))
    assert trainer.cohort.held[0] is trainer.cohort.held[-len(own)]
    assert trainer.cohort.load(len(own)).name == f"{own[0]}_again"
    with pytest.raises(ValueError, match=f"{tmp_path / 'none'}: no rendered case"):
        Trainer(tiny_run(cohort_folder, tmp_path, further_data=(str(tmp_path / "none"),)))
    with pytest.raises(ValueError, match="further_data: a run reads one latent cache"):
        Trainer(tiny_run(cohort_folder, tmp_path, further_data=(str(more),), latents=True))


def test_recipes_resolve_with_changes_and_refuse_what_they_do_not_know():
    c = recipes.resolve(
        "dose", ["steps=12", "task.t1_probability=1", "model.backbone.widths=[8, 16]", "name=x"]
    )
    assert (c.steps, c.task.t1_probability, c.model.backbone.widths, c.name) == (12, 1.0, (8, 16), "x")
    assert recipes.resolve("dose", ["learning_rate=1e-3"]).learning_rate == 1e-3
    for bad, word in (
        ("stepz=1", "stepz"),
        ("steps=many", "int"),
        ("steps", "key=value"),
        ("task=1", "TaskConfig"),
    ):
        with pytest.raises(ValueError, match=word):
            recipes.resolve("dose", [bad])
    with pytest.raises(ValueError, match="any2any"):
        recipes.resolve("nothing")
