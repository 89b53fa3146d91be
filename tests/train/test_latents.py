"""The latent cache: what the codec gives, once per view, resumable, and training never runs the codec."""

import shutil
from dataclasses import replace

import pytest
import torch

from anydose.case import modality
from anydose.io import store
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.augment import flipped
from anydose.model.checkpoint import save_model
from anydose.model.codec import compact
from anydose.model.network.dit import DiTConfig
from anydose.model.sample import padded
from anydose.train import latents
from anydose.train.config import TrainConfig
from anydose.train.data import Cohort
from anydose.train.tasks import ANY2ANY
from anydose.train.trainer import Trainer

TINY = ModelConfig(DiTConfig(dim=32, depth=2, heads=2, ffn=64), "compact:8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(Any2Any(TINY), path, {})
    return path


@pytest.fixture
def cohort(cohort_folder, tmp_path):
    return shutil.copytree(cohort_folder, tmp_path / "cohort")


def model_of(checkpoint):
    from anydose.model.checkpoint import load_model

    return load_model(checkpoint)


def test_a_view_is_the_changed_volume_encoded(cohort, checkpoint):
    model = model_of(checkpoint)
    assert len(list(latents.encode(cohort, checkpoint, views=3))) == 9
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
            expected = model.codec.encode(sample.volumes[name][None])
            assert torch.equal(found.values[name], expected.to(torch.bfloat16).float())
        assert torch.equal(found.body, model.latent_body(sample.body[None]))
        assert found.spacing_mm == sample.spacing_mm
    drawn = [latents.draw_view(0, f"case{k}", 1) for k in range(20)]
    assert {(v.left_right, v.cranio_caudal) for v in drawn} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_what_is_there_is_kept_and_the_rest_is_written(cohort, checkpoint):
    first = list(latents.encode(cohort, checkpoint))
    first[1].unlink()
    before = {path: path.stat().st_mtime_ns for path in (first[0], first[2])}
    assert list(latents.encode(cohort, checkpoint, workers=2)) == [first[1]]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_crop_is_at_most_so_large_and_differs_between_views(cohort, checkpoint):
    model, sample = model_of(checkpoint), Cohort(cohort).load(0)
    views = [latents.draw_view(0, "x", k) for k in (0, 1, 2)]
    found = [latents.encode_view(model, sample, view, (16, 16, 16)) for view in views]
    assert {tuple(f.values["dose"].shape[2:]) for f in found} == {(4, 4, 4)}
    assert not torch.equal(found[1].values["ct"], found[2].values["ct"])


def test_a_cohort_store_is_encoded_in_place_and_stays_one(tmp_path, checkpoint):
    from tiny_cohort import small_case

    for k in (0, 1):
        store.write_stored(small_case(k), tmp_path / "store", f"pt_{k}")
    list(latents.encode(tmp_path / "store", checkpoint))
    found = latents.LatentCohort(tmp_path / "store", model_of(checkpoint).codec)
    assert found.names == store.names(tmp_path / "store") == ["pt_0", "pt_1"]
    assert set(found.modalities[0]) == set(modality.NAMES)


def test_latents_of_another_codec_are_not_used(cohort, checkpoint, tmp_path):
    list(latents.encode(cohort, checkpoint))
    codec = model_of(checkpoint).codec
    other = compact.CompactCodec(8)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    assert latents.codec_hash(codec) != latents.codec_hash(other)
    with pytest.raises(ValueError, match="no latents of this codec"):
        latents.LatentCohort(cohort, other)
    sorted(latents.folder_of(cohort, codec).glob("*.safetensors"))[0].rename(tmp_path / "gone")
    assert len(latents.LatentCohort(cohort, codec)) == 2


def test_a_missing_view_is_named(cohort, checkpoint):
    paths = sorted(latents.encode(cohort, checkpoint, views=2))
    paths[3].unlink()
    with pytest.raises(ValueError, match="is missing"):
        latents.LatentCohort(cohort, model_of(checkpoint).codec)


def test_training_from_latents_never_runs_the_codec_and_resumes_exactly(cohort, checkpoint, tmp_path):
    list(latents.encode(cohort, checkpoint, views=2))
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
    assert model_of(tmp_path / "whole" / "t" / "model.safetensors").config == TINY


def refuse(*_):
    raise AssertionError("the codec ran")
