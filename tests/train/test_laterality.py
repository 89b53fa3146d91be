"""The clinic's plans have a side: in the mirror image of a model that keeps laterality, organs keep their
names."""

from dataclasses import replace

import pytest
import torch
from tiny_cohort import small_case
from tiny_run import TINY

from anydose.case import modality
from anydose.model.any2any import Any2Any
from anydose.model.augment import flipped
from anydose.model.checkpoint import load_model, save_model
from anydose.model.looks import sample_looks
from anydose.model.sample import draw_sample
from anydose.predict import Options
from anydose.train.config import TrainConfig
from anydose.train.examples import example
from anydose.train.tasks import Augmentation, Draw
from anydose.train.trainer import Trainer

CONDITIONS = tuple(name for name in modality.NAMES if name != "dose")
EXCHANGED = list(modality.TABLE["oar"].mirror)


@pytest.fixture(scope="module")
def sample():
    return draw_sample(small_case(0))[0]


def some_model(keep_laterality):
    torch.manual_seed(0)
    model = Any2Any(replace(TINY, keep_laterality=keep_laterality)).eval()
    torch.nn.init.normal_(model.backbone.read_out["dose"].weight)
    return model


def dose_of(model, sample):
    given = replace(sample, volumes={name: sample.volumes[name] for name in CONDITIONS})
    plain, _, mirrored, _ = next(
        sample_looks(model, given, Options(steps=1, looks=4, precision="fp32", mimic=False))
    )
    return (plain + mirrored) / 2


@pytest.mark.parametrize("keep_laterality", [True, False])
def test_two_views_of_a_patient_and_of_its_mirror_image_agree(sample, keep_laterality):
    """The mean over mirror images is the same for a patient and its mirror image: for a model that keeps
    laterality for the image in which organs keep their names, for any other for the one in which they are
    exchanged."""
    model = some_model(keep_laterality)
    dose = dose_of(model, sample)
    images = {names: dose_of(model, flipped(sample, True, False, names)) for names in (("oar",), ())}
    same, other = (images[("oar",)], images[()]) if keep_laterality else (images[()], images[("oar",)])
    assert torch.allclose(same.flip(-1), dose, atol=1e-5)
    assert (other.flip(-1) - dose).abs().max() > 1e-3


@pytest.mark.parametrize("keep_laterality", [True, False])
@pytest.mark.parametrize("target", ["dose", "oar"])
def test_organs_keep_their_names_in_training_where_they_are_given_but_not_where_they_are_wanted(
    sample, keep_laterality, target
):
    model = some_model(keep_laterality)
    visible = tuple(name for name in modality.NAMES if name != target)
    mirrored = Draw(0, target, visible, 1.0, 0, Augmentation(left_right=True))
    image = example(model, sample, mirrored, "regression")
    plain = example(model, sample, replace(mirrored, augmentation=Augmentation()), "regression")
    if target == "oar":
        per_organ, plainly = (e.v_true.unflatten(1, (len(EXCHANGED), -1)).sum(dim=2) for e in (image, plain))
        assert torch.equal(per_organ, plainly[:, EXCHANGED].flip(-1))
        assert not torch.equal(per_organ, plainly.flip(-1))
    else:
        organs, plainly = (
            e.inputs["given"]["oar"].unflatten(1, (len(EXCHANGED), -1)).sum(dim=2) for e in (image, plain)
        )
        assert torch.equal(organs, (plainly if keep_laterality else plainly[:, EXCHANGED]).flip(-1))


def test_weights_keep_laterality_once_they_do_and_older_ones_do_not(cohort_folder, tmp_path):
    start = tmp_path / "start.safetensors"
    save_model(some_model(True), start, {})
    config = TrainConfig(name="t", model=TINY, init=str(start), data=str(cohort_folder), out=str(tmp_path))
    assert Trainer(config).model.config.keep_laterality
    save_model(some_model(False), start, {})
    assert not load_model(start).config.keep_laterality
    assert not Trainer(config).model.config.keep_laterality
    assert Trainer(replace(config, model=replace(TINY, keep_laterality=True))).model.config.keep_laterality
    with pytest.raises(ValueError, match="keep_laterality"):
        Trainer(replace(config, model=replace(TINY, keep_laterality=True), latents=True))
