"""The chain from a case to a dose, with a tiny random model: geometry, determinism, options, outputs, bad
input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import anydose
from patients import phantom_of, write_openkbp

from anydose.case import dose_mimicking, modality
from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume, bounding_box
from anydose.io import nifti, openkbp
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.looks import LOOKS
from anydose.model.network.dit import DiTConfig
from anydose.model.network.unet import UNetConfig
from anydose.model.sample import draw_sample, padded, padding, working_case
from anydose.predict import NOT_MIMICKED, Options, _physical, _to_grid, predict

PLAIN = Options(looks=1, mimic=False)

UNET = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
DIT = ModelConfig(DiTConfig(dim=32, depth=1, heads=2, ffn=64), "compact:4")


@pytest.fixture(scope="module")
def patient():
    case = phantom_of(0)
    target = np.logical_or.reduce(list(case.targets.values()))
    start, _ = bounding_box(target)
    return case.block(tuple(s - 4 for s in start), (32, 30, 28))


def network(config=UNET, std=0.1):
    torch.manual_seed(0)
    model = Any2Any(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std) if p.abs().sum() == 0 else None
    return model


@pytest.mark.parametrize("config", [UNET, DIT], ids=["unet", "dit"])
def test_a_dose_lies_on_the_case_s_grid_inside_the_body_and_is_never_negative(patient, config):
    prediction = predict(network(config), patient, Options(steps=2, looks=1, mimic=False))
    assert prediction.volume().grid == patient.grid
    assert prediction.mean.min() >= 0
    assert prediction.mean.max() > 0
    assert not prediction.mean[0][~patient.body].any()
    assert np.isfinite(prediction.mean).all()


def test_what_is_given_below_zero_is_said_and_far_below_refused(patient, monkeypatch, tmp_path):
    import anydose.predict as chain

    model, given = network(), chain._physical

    def lowered(by_gy):
        return lambda *args: given(*args) - np.float32(by_gy)

    monkeypatch.setattr(chain, "_physical", lowered(25.0))
    prediction = predict(model, patient, PLAIN)
    low = (prediction.mean[0] == 0) & patient.body
    assert 0 < low.sum() < patient.body.sum()
    (said,) = [sentence for sentence in prediction.inferred if "below 0 Gy" in sentence]
    assert f"{low.sum() / patient.body.sum():.1%} of the body" in said and "set to 0" in said
    assert prediction.mean.min() == 0
    save_model(model, tmp_path / "m.safetensors", {})
    monkeypatch.setattr(chain, "_physical", lowered(1000.0))
    with pytest.raises(ValueError, match="gives down to -"):
        predict(tmp_path / "m.safetensors", patient, PLAIN)


def test_same_seed_same_dose_other_seed_another_and_spread_is_over_members(patient):
    model = network()
    one, again, other = (
        predict(model, patient, Options(steps=3, seed=s, looks=1, mimic=False)).mean for s in (4, 4, 5)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    several = predict(model, patient, Options(steps=3, seed=4, samples=3, looks=1, mimic=False))
    assert np.array_equal(several.members[0], one)
    assert np.allclose(several.mean, np.mean(several.members, axis=0), atol=1e-5)
    assert np.allclose(several.spread, np.std(several.members, axis=0), atol=1e-5)
    assert several.spread.max() > 0.1, "each sample has noise of its own"


def test_what_is_asked_for_is_never_an_input(patient):
    """The dose by itself, and the CT by way of the beams, which it weakens."""
    secret = replace(patient, dose=Volume(np.full(patient.grid.shape, 33.0, np.float32), patient.grid, "Gy"))
    model = network()
    assert np.array_equal(predict(model, secret, PLAIN).mean, predict(model, patient, PLAIN).mean)
    ct, dense = replace(PLAIN, target="ct"), np.where(patient.body, np.float32(500), np.float32(-1000))
    other = replace(patient, ct=Volume(dense, patient.grid, "HU"))
    assert np.array_equal(predict(model, other, ct).mean, predict(model, patient, ct).mean)


def test_conditions_can_be_left_out_and_any_modality_asked_for(patient):
    model = network()
    everything = predict(model, patient, Options(looks=1, mimic=False))
    assert everything.used == ("ct", "ptv", "oar", "body", "beam", "angle")
    some = predict(model, patient, Options(given=("ptv", "ct"), looks=1, mimic=False))
    assert some.used == ("ct", "ptv")
    assert not np.array_equal(some.mean, everything.mean)
    without_ct = predict(model, replace(patient, ct=None))
    assert "ct" not in without_ct.used
    ct = predict(model, patient, Options(target="ct", looks=1, mimic=False))
    assert ct.volume().unit == "HU"
    assert (ct.mean[0][~patient.body] == -1000).all()


def test_moving_the_patient_through_space_does_not_move_the_dose_in_it(patient):
    """Grid origin and isocentre shifted together: the same voxels get the same dose."""
    grid = replace(patient.grid, origin_mm=tuple(o + 123.0 for o in patient.grid.origin_mm))
    beams = tuple(replace(b, isocentre_mm=tuple(v + 123.0 for v in b.isocentre_mm)) for b in patient.beams)
    moved = replace(patient, grid=grid, ct=replace(patient.ct, grid=grid), beams=beams)
    model = network()
    difference = np.abs(predict(model, moved, PLAIN).mean - predict(model, patient, PLAIN).mean)
    assert difference.mean() < 0.02 * predict(model, patient, PLAIN).mean.max()


def test_a_reachable_dose_is_one_of_the_beams_that_are_shown(patient):
    model = network()
    asked, own = Options(mimic=True, looks=1), predict(model, patient, Options(looks=1, mimic=False))
    made = predict(model, patient, asked)
    assert made.mimicked
    assert not own.mimicked
    assert np.abs(made.mean - own.mean).mean() > 0.1
    expected = dose_mimicking.mimic(own.mean[0], patient)
    assert np.abs(made.mean[0] - expected).mean() < 0.05  # fitted on the body's block, here on the whole grid
    fields = replace(patient, beams=patient.beams[:1])
    assert np.abs(predict(model, fields, asked).mean - made.mean).mean() > 0.1
    hidden = predict(model, patient, replace(asked, given=("ct", "ptv", "oar")))
    assert not hidden.mimicked
    assert NOT_MIMICKED in hidden.inferred
    assert np.array_equal(
        hidden.mean, predict(model, patient, Options(given=("ct", "ptv", "oar"), looks=1, mimic=False)).mean
    )
    assert NOT_MIMICKED not in predict(model, patient, replace(asked, target="ct")).inferred
    no_organs = Options(given=("ct", "ptv", "beam"), looks=1, mimic=False)
    left = {name: mask for name, mask in patient.structures.items() if name not in patient.of_role("oar")}
    unknown = replace(patient, structures=left)
    expected = dose_mimicking.mimic(predict(model, patient, no_organs).mean[0], unknown)
    found = predict(model, patient, replace(no_organs, mimic=True)).mean[0]
    assert np.abs(found - expected).mean() < 0.05, "organs that are not shown weigh nothing"


def test_more_views_see_the_patient_otherwise_and_agree_on_where_he_lies(patient):
    model = network()
    means = {n: predict(model, patient, Options(looks=n, mimic=False)).mean for n in (1, 2, 4)}
    assert len(LOOKS) == 4
    assert not np.array_equal(means[1], means[2])
    assert not np.array_equal(means[2], means[4])
    assert predict(model, patient, Options(looks=2, mimic=False)).look_std.max() > 0
    sample, _ = draw_sample(patient)
    (plain, moved) = (padding(sample.body.shape, 4, move=k)[1] for k in (0, 1))
    assert all((b - a) % 2 for a, b in zip(plain, moved, strict=True))  # otherwise against patches of two
    where = tuple(slice(b, b + n) for b, n in zip(moved, sample.body.shape, strict=True))
    assert torch.equal(padded(sample, 4, move=1).body[where], sample.body)
    with pytest.raises(ValueError, match="1, 2 or 4 looks"):
        predict(model, patient, Options(looks=3, mimic=False))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(given=("dose",), looks=1, mimic=False), "both given and the target"),
        (Options(given=("mri",), looks=1, mimic=False), "mri"),
        (Options(target="petct", looks=1, mimic=False), "petct"),
        (Options(sampler="euler", looks=1, mimic=False), "ddim"),
        (Options(steps=51, looks=1, mimic=False), "1 to 50"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_sentence(patient, options, words):
    with pytest.raises(ValueError, match=words):
        predict(network(), patient, options)


def test_a_case_without_body_or_prescription_is_refused(patient):
    masks = {k: v for k, v in patient.structures.items() if k != "possible_dose_mask"}
    with pytest.raises(ValueError, match="body"):
        predict(network(), replace(patient, structures=masks))
    states = ("prescription: the plan states 70 Gy without a structure, passed over",)
    without = replace(patient, prescription=replace(patient.prescription, levels_gy={}), inferred=states)
    with pytest.raises(ValueError, match="states 70 Gy without a structure.*--rx NAME=GY.* of .*PTV70"):
        predict(network(), without)


def test_the_command_writes_every_output_and_a_record_of_how(tmp_path):
    write_openkbp(1, tmp_path / "pt_1")
    save_model(network(std=0.001), tmp_path / "tiny.safetensors", {})
    out = tmp_path / "out"
    model = tmp_path / "tiny.safetensors"
    options = ("--model", model, "--samples", 2, "--no-mimic")
    done = anydose("predict", tmp_path / "pt_1", "--out", out, *options)
    assert done.returncode == 0, done.stderr
    names = {
        "pt_1.csv",
        "dose.nii.gz",
        "dose_std.nii.gz",
        "dose_1.nii.gz",
        "dose_2.nii.gz",
        "dvh.csv",
        "page.png",
    }
    assert {p.name for p in out.iterdir()} == names | {"run.json"}
    run = json.loads((out / "run.json").read_text())
    assert set(run["outputs"]) == names
    assert run["inputs"]["PTV70.csv"]
    assert len(run["model"]["sha256"]) == 64
    case = openkbp.read_case(tmp_path / "pt_1")
    from_csv = openkbp.read_dose(out / "pt_1.csv", case.grid).array
    from_nifti = nifti.read_volume(out / "dose.nii.gz", "Gy")
    assert from_nifti.grid.matches(case.grid)
    assert np.allclose(from_csv, from_nifti.array, atol=6e-4)
    assert (out / "page.png").read_bytes()[:4] == b"\x89PNG"
    taken = {row["roi"]: row["channel"] for row in run["structures"]}
    assert taken["PTV70"] != "ignored"
    page = tmp_path / "report.html"
    shown = anydose("report", out, "--case", tmp_path / "pt_1", "--out", page)
    assert shown.returncode == 0, shown.stderr
    assert '"PTV70","PTV_7000"' in page.read_text().replace('", "', '","')


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: (p / "PTV70.csv").write_text(",data\n99999999,\n"), "99999999"),
        (lambda p: (p / "ct.csv").write_text(",data\n5,nan\n"), "not a number"),
        (lambda p: (p / "Larynx.csv").write_text(",data\n"), "no voxel"),
        (lambda p: [q.unlink() for q in p.glob("PTV*.csv")], "PTV"),
        (lambda p: (p / "notes.txt").write_text("x"), "notes.txt"),
        (lambda p: [q.unlink() for q in p.iterdir()], "accepted"),
    ],
)
def test_bad_patients_are_one_sentence_exit_code_2_and_no_output(tmp_path, spoil, words):
    write_openkbp(1, tmp_path / "pt_1")
    spoil(tmp_path / "pt_1")
    save_model(network(std=0.001), tmp_path / "tiny.safetensors", {})
    files = (tmp_path / "pt_1", "--out", tmp_path / "out", "--model", tmp_path / "tiny.safetensors")
    done = anydose("predict", *files)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def turned_and_fine(case):
    """The same patient at half the spacing with all three axes reversed."""
    fine = case.grid.with_spacing(tuple(s / 2 for s in case.grid.spacing_mm))
    last = tuple(fine.to_mm(np.array(fine.shape) - 1.0))
    return case.on(replace(fine, origin_mm=last, direction=((-1, 0, 0), (0, -1, 0), (0, 0, -1))))


def test_structures_keep_place_and_volume_on_the_grid_worked_on():
    """Ellipsoids on a fine grid with reversed axes, whose centre and volume are known."""
    grid = Grid((60, 80, 80), (2.0, 2.0, 1.25), (158.0, 158.0, 73.75), ((-1, 0, 0), (0, -1, 0), (0, 0, -1)))
    points = grid.to_mm(np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1))
    rng, off, config = np.random.default_rng(0), [], network().config
    for _ in range(6):
        centre, radii = rng.uniform([60, 60, 25], [100, 100, 50]), rng.uniform(15, 25, 3)
        organ = (((points - centre) / radii) ** 2).sum(axis=-1) < 1
        case = Case("e", grid, {"External": np.ones(grid.shape, bool), "Heart": organ})
        work = working_case(case, config.trained_mm, config.working_mm)
        assert work.grid.spacing_mm == config.working_mm
        assert any("worked on a grid" in sentence for sentence in work.inferred)
        lowest_mm = points.min(axis=(0, 1, 2)) - np.array(grid.spacing_mm) / 2
        assert np.allclose(work.grid.to_mm((-0.5, -0.5, -0.5)), lowest_mm), "it begins where the body does"
        moved = work.structures["Heart"]
        off.append(work.grid.to_mm(np.argwhere(moved).mean(axis=0)) - centre)
        assert moved.sum() * work.grid.voxel_cc == pytest.approx(4 / 3000 * np.pi * radii.prod(), rel=0.05)
    assert np.abs(off).max() < 0.5
    assert np.abs(np.mean(off, axis=0)).max() < 0.15


def test_every_point_keeps_its_dose_from_the_grid_worked_on_to_the_case_s_own(patient):
    other, config = turned_and_fine(patient), network().config
    work = working_case(other, config.trained_mm, config.working_mm)
    assert working_case(patient, config.trained_mm, config.working_mm) is patient
    # a dose that is linear in millimetres, on the working block, comes back linear on the turned grid
    sample, start = draw_sample(work, ("ct",))
    inside = np.argwhere(np.ones(sample.body.shape, dtype=bool)) + np.array(start)
    points = work.grid.to_mm(inside).reshape(*sample.body.shape, 3)
    slope, level = np.array([0.05, -0.08, 0.1]), 40.0
    dose_gy = (points - points.mean(axis=(0, 1, 2))) @ slope + level
    row = modality.TABLE["dose"]
    block = torch.from_numpy(row.to_range(dose_gy[None].astype(np.float32), sample.rx_max_gy))
    full = replace(sample, body=torch.ones_like(sample.body))
    back = _to_grid(_physical(block, full, "dose"), work, other, start, "dose")[0]
    somewhere = np.argwhere(other.body)[:: max(1, int(other.body.sum()) // 500)]
    expected = (other.grid.to_mm(somewhere) - points.mean(axis=(0, 1, 2))) @ slope + level
    rim = np.abs(somewhere - np.array(other.grid.shape) / 2).max(axis=1) < min(other.grid.shape) / 2 - 4
    assert np.abs(back[tuple(somewhere.T)] - expected)[rim].max() < 0.01


def test_a_fine_turned_case_gets_a_dose_on_its_own_grid(patient):
    other = turned_and_fine(patient)
    prediction = predict(network(), other)
    assert prediction.volume().grid == other.grid
    assert not prediction.mean[0][~other.body].any()
    assert any("worked on a grid" in sentence for sentence in prediction.inferred)
