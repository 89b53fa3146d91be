"""The latent cache: what the codec gives, once per view, resumable, and training never runs the codec."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from anydose.case import modality
from anydose.engine.engine import Engine
from anydose.io import store
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.augment import flipped
from anydose.model.checkpoint import save_model
from anydose.model.codec import compact
from anydose.model.network.dit import DiTConfig
from anydose.model.sample import padded
from anydose.model.tensors import save_tensors
from anydose.train import latents
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.encode import EncodeConfig, encode, encode_view, expected, load_encoder
from anydose.train.tasks import ANY2ANY
from anydose.train.trainer import Trainer

TINY = ModelConfig(DiTConfig(dim=32, depth=2, heads=2, ffn=64), "compact:8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = Any2Any(TINY)
    torch.nn.init.normal_(
        model.codec.look[-1].weight, std=0.02
    )  # zero at its start, which no precision changes
    save_model(model, path, {})
    return path


@pytest.fixture
def cohort(cohort_folder, tmp_path):
    return shutil.copytree(cohort_folder, tmp_path / "cohort")


def model_of(checkpoint):
    from anydose.model.checkpoint import load_model

    return load_model(checkpoint)


def test_a_view_is_the_changed_volume_encoded(cohort, checkpoint):
    model = model_of(checkpoint)
    assert len(list(encode(cohort, checkpoint, EncodeConfig(views=3)))) == 3
    stored = latents.LatentCohort(cohort, model.codec)
    assert (len(stored), stored.views) == (3, 3)
    assert stored.modalities == Cohort(cohort).modalities
    for number in range(3):
        view = latents.draw_view(0, stored.names[1], number)
        sample = flipped(
            padded(Cohort(cohort).load(1), model.multiple, view.offset), view.left_right, view.cranio_caudal
        )
        found = stored.load(1, number)
        for name in ("ct", "oar", "dose"):
            volume = sample.volumes[name]
            each = [model.codec.encode(volume[k : k + 1][None]) for k in range(len(volume))]
            assert torch.equal(found.values[name], torch.cat(each, dim=1).to(torch.bfloat16).float())
            together = model.codec.encode(volume[None])
            assert torch.allclose(torch.cat(each, dim=1), together, atol=1e-4)
        assert torch.equal(found.body, model.latent_body(sample.body[None]))
        assert found.spacing_mm == sample.spacing_mm
    drawn = [latents.draw_view(0, f"case{k}", 1) for k in range(20)]
    assert {(v.left_right, v.cranio_caudal) for v in drawn} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_what_is_there_is_kept_and_the_rest_is_written(cohort, checkpoint):
    first = list(encode(cohort, checkpoint, EncodeConfig()))
    first[1].unlink()
    before = {path: path.stat().st_mtime_ns for path in (first[0], first[2])}
    assert list(encode(cohort, checkpoint, EncodeConfig(), Engine(workers=2))) == [first[1]]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_crop_is_at_most_so_large_and_differs_between_views(cohort, checkpoint):
    model, sample = model_of(checkpoint), Cohort(cohort).load(0)
    views = [latents.draw_view(0, "x", k) for k in (0, 1, 2)]
    found = [encode_view(model, sample, view, (16, 16, 16)) for view in views]
    assert {tuple(f.values["dose"].shape[2:]) for f in found} == {(4, 4, 4)}
    assert not torch.equal(found[1].values["ct"], found[2].values["ct"])


def test_a_cohort_store_is_encoded_in_place_and_stays_one(tmp_path, checkpoint):
    from tiny_cohort import small_case

    for k in (0, 1):
        store.write_stored(small_case(k), tmp_path / "store", f"pt_{k}")
    list(encode(tmp_path / "store", checkpoint, EncodeConfig()))
    found = latents.LatentCohort(tmp_path / "store", model_of(checkpoint).codec)
    assert found.names == store.names(tmp_path / "store") == ["pt_0", "pt_1"]
    assert set(found.modalities[0]) == set(modality.NAMES)


def test_latents_of_another_codec_are_not_used(cohort, checkpoint, tmp_path):
    list(encode(cohort, checkpoint, EncodeConfig()))
    codec = model_of(checkpoint).codec
    other = compact.CompactCodec(8)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert latents.codec_hash(codec) != latents.codec_hash(other)
    with pytest.raises(ValueError, match="no latents of this codec"):
        latents.LatentCohort(cohort, other)
    sorted(latents.folder_of(cohort, codec).glob("*.safetensors"))[0].rename(tmp_path / "gone")
    assert len(latents.LatentCohort(cohort, codec)) == 2


def test_a_missing_view_is_named_and_encoded_again(cohort, checkpoint):
    paths = sorted(encode(cohort, checkpoint, EncodeConfig(views=2)))
    paths[1].unlink()
    assert list(encode(cohort, checkpoint, EncodeConfig(views=1))) == [paths[1]]
    with pytest.raises(ValueError, match="view 1 of 1 is missing"):
        latents.LatentCohort(cohort, model_of(checkpoint).codec)
    assert list(encode(cohort, checkpoint, EncodeConfig(views=2))) == [paths[1]]
    assert latents.LatentCohort(cohort, model_of(checkpoint).codec).views == 2


def test_a_cache_with_a_file_a_view_in_the_cohort_is_still_read(cohort, checkpoint):
    codec = model_of(checkpoint).codec
    list(encode(cohort, checkpoint, EncodeConfig(views=2)))
    now = latents.LatentCohort(cohort, codec)
    new = [now.load(index, view) for index in range(3) for view in range(2)]
    former = cohort / ".latents" / now.folder.name
    former.mkdir(parents=True)
    for number, found in enumerate(new):
        tensors = {k: v.to(torch.bfloat16) for k, v in found.values.items()}
        about = {"case": json.dumps({"spacing_mm": found.spacing_mm})}
        path = former / f"{found.name}.{number % 2}.safetensors"
        save_tensors(tensors | {"mask": found.body.to(torch.uint8)}, path, about)
    shutil.rmtree(now.folder)
    then = latents.LatentCohort(cohort, codec)
    assert (then.names, then.views, then.modalities) == (now.names, now.views, now.modalities)
    for number, found in enumerate(new):
        again = then.load(*divmod(number, 2))
        assert all(torch.equal(found.values[k], again.values[k]) for k in found.values)
        assert torch.equal(found.body, again.body)


def test_the_codec_alone_is_loaded(checkpoint):
    encoder, model = load_encoder(checkpoint), model_of(checkpoint)
    assert all(p.is_meta for p in encoder.backbone.parameters())
    assert latents.codec_hash(encoder.codec) == latents.codec_hash(model.codec)
    assert encoder.multiple == model.multiple


def test_what_it_costs_is_said_before_and_what_a_precision_costs_is_measured(cohort, checkpoint):
    plan = EncodeConfig(views=2, precision="bf16")
    before = expected(cohort, checkpoint, plan)
    exact = expected(cohort, checkpoint, EncodeConfig(views=2))
    files = list(encode(cohort, checkpoint, plan))
    assert before.cases == len(files) == 3
    assert before.disk_gb == pytest.approx(sum(f.stat().st_size for f in files) / 1e9, rel=0.1)
    assert exact.error == 0 < before.error < 0.02
    assert before.hours > 0
    assert expected(cohort, checkpoint, plan).cases == 0
    found = latents.LatentCohort(cohort, model_of(checkpoint).codec).load(0)
    view = latents.draw_view(0, found.name, 0)
    true = encode_view(model_of(checkpoint), Cohort(cohort).load(0), view).values["dose"]
    change = (found.values["dose"] - true).square().mean().sqrt() / true.square().mean().sqrt()
    assert 0 < change < 0.02
    with pytest.raises(ValueError, match="fp32, bf16, fp16"):
        EncodeConfig(precision="int8")


def test_processes_share_the_cases(cohort, checkpoint, monkeypatch):
    for rank, count in ((1, 1), (0, 1)):  # of three, then of the two that are left
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert len(list(encode(cohort, checkpoint, EncodeConfig()))) == count
    assert latents.LatentCohort(cohort, model_of(checkpoint).codec).views == 1


def test_training_from_latents_never_runs_the_codec_and_resumes_exactly(cohort, checkpoint, tmp_path):
    list(encode(cohort, checkpoint, EncodeConfig(views=2)))
    base = TrainConfig(
        name="t", init=str(checkpoint), data=str(cohort), out=str(tmp_path / "whole"), task=ANY2ANY, epochs=2
    )
    base = replace(base, latents=True, save_every=4, warmup=1, lora=2, checkpointing=True, precision="fp32")

    whole = Trainer(base)
    assert whole.steps == 6
    for part in (whole.model.codec.look, whole.model.codec.analysis):
        part.register_forward_hook(refuse)
    rows = [s.metrics["loss"] for s in whole.run()]
    cut = replace(base, out=str(tmp_path / "cut"))
    killed = Trainer(cut).run()
    for _ in range(5):
        next(killed)
    killed.close()
    again = Trainer(cut)
    again.resume()
    assert [s.metrics["loss"] for s in again.run()] == rows[4:]
    assert (tmp_path / "whole" / "t" / "adapter" / "adapter_model.safetensors").is_file()
    trained = model_of(tmp_path / "whole" / "t" / "model.safetensors").config
    voxels = {"trained_mm": trained.trained_mm, "working_mm": trained.working_mm}  # the cohort's
    assert trained == replace(TINY, **voxels)


def refuse(*_):
    raise AssertionError("the codec ran")


def test_equal_channels_pass_the_codec_once_and_the_latents_are_the_same(tmp_path, checkpoint):
    from tiny_cohort import small_case

    from anydose.train import encode as encoding

    case = small_case(0)
    for name in ("pt_0", "pt_1"):  # two plans of a patient
        other = replace(case.dose, array=case.dose.array * 0.5) if name == "pt_1" else case.dose
        store.write_stored(replace(case, dose=other), tmp_path / "store", name)
    encoder = encoding._Encoder(checkpoint, EncodeConfig())
    passed, inner = [], encoder.codec.encode
    encoder.codec.encode = lambda volume: passed.append(1) or inner(volume)
    for name in ("pt_0", "pt_1"):
        sample = encoding.read_sample(tmp_path / "store", name, encoder.organs)
        found = encoder.view(sample, latents.draw_view(0, name, 0))
        plain = encode_view(encoder.model, sample, latents.draw_view(0, name, 0))
        for key, value in plain.values.items():
            assert torch.allclose(found.values[key], value, atol=1e-4), key
    channels = {c.numpy().tobytes() for v in sample.volumes.values() for c in v}
    alone = len(passed) - 2 * len(plain.values)  # encode_view encodes a modality at a time
    assert alone == len(channels) + 1  # of the second plan the dose alone is new
