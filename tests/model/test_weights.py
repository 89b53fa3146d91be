"""Weights that are damaged, incomplete or another model's are refused by name; impossible doses are too."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_cohort import small_case

from anydose.model import checkpoint, registry
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import describe, load_model, save_model, trained_targets
from anydose.model.network.unet import UNetConfig
from anydose.model.tensors import load_tensors, save_tensors
from anydose.model.weights import HASHES, WEIGHTS, file_hash, tensor_hash
from anydose.predict import Options, predict

TINY = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    save_model(Any2Any(TINY), tmp_path / "m.safetensors", {"step": 7})
    return tmp_path / "m.safetensors"


def rewritten(path, change=None, metadata=None):
    """The file with changed tensors or metadata, as another program would write it."""
    with safe_open(path, "pt") as file:
        about = dict(file.metadata())
    tensors = load_file(path)
    if change:
        change(tensors)
    save_file(tensors, path, {k: v for k, v in {**about, **(metadata or {})}.items() if v is not None})


def test_one_flipped_bit_anywhere_is_found(path):
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in np.random.default_rng(0).integers(8, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(place % 8)
        path.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match=r"m\.safetensors"):
            load_model(path)
        if place >= start:
            with pytest.raises(ValueError, match="damaged, tensor .* differs from its SHA-256"):
                load_model(path)
    path.write_bytes(whole)
    load_model(path)


def test_a_hash_is_of_type_shape_and_values():
    x = torch.arange(6.0)
    others = (x.reshape(2, 3), x.double(), x.to(torch.bfloat16), x + torch.tensor([0, 0, 0, 0, 0, 1e-6]))
    hashes = {tensor_hash(y) for y in (x, x.clone(), *others)}
    assert len(hashes) == 5
    assert tensor_hash(torch.tensor(1.0)) != tensor_hash(torch.tensor([1.0]))


def test_the_shipped_weights_are_the_ones_whose_hashes_are_shipped():
    listed = json.loads((WEIGHTS / HASHES).read_text())
    for name, row in listed.items():
        assert (WEIGHTS / name).stat().st_size == row["bytes"]
        assert file_hash(WEIGHTS / name) == row["sha256"]
    for file in WEIGHTS.glob("*.safetensors"):
        assert file.name in listed or "sha256" in safe_open(file, "pt").metadata()


def test_a_damaged_copy_of_shipped_weights_is_refused_whatever_it_is_called(tmp_path):
    copy = tmp_path / "mine.safetensors"
    shutil.copy(WEIGHTS / "compact-hn-any.safetensors", copy)
    load_tensors(copy)
    whole = bytearray(copy.read_bytes())
    whole[-1000] ^= 4
    copy.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=r"mine.*damaged.*compact-hn-any\.safetensors"):
        load_tensors(copy)


def test_a_file_of_an_earlier_version_without_hashes_still_loads(path):
    rewritten(path, metadata={"sha256": None, "format": "anydose-model-1"})
    assert load_model(path).config == TINY
    assert describe(path)["record"] == {"step": 7}
    rewritten(path, metadata={"format": "anydose-model-2"})
    with pytest.raises(ValueError, match="holds the SHA-256"):
        load_model(path)


def test_weights_that_are_not_finite_are_refused_by_their_name(path):
    rewritten(
        path,
        lambda t: t["backbone.stem.weight"].view(-1)[3:4].fill_(float("nan")),
        {"sha256": None, "format": "anydose-model-1"},
    )
    with pytest.raises(ValueError, match=r"backbone\.stem\.weight holds numbers that are not finite"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channels": None}, "nothing found as metadata 'channels'"),
        ({"config": None}, "nothing found as metadata 'config'"),
        ({"config": "[]"}, "list found as metadata 'config'"),
        ({"config": "{}"}, "describes no model"),
        ({"config": '{"backbone": 3}'}, "describes no model"),
        ({"config": '{"backbone": {"kind": "unet", "widths": "a"}}'}, "describes no model"),
        ({"config": '{"backbone": {"kind": "unet", "widths": [8]}}'}, r"m\.safetensors"),
        ({"config": "{"}, "'config' are no JSON"),
        ({"record": "7"}, "int found as metadata 'record'"),
        ({"format": None}, "format None found"),
    ],
)
def test_a_file_whose_metadata_describe_no_model_is_one_sentence(path, changes, sentence):
    rewritten(path, metadata={"sha256": None, "format": "anydose-model-1", **changes})
    with pytest.raises(ValueError, match=sentence) as refused:
        load_model(path)
    assert str(path) in str(refused.value)


def test_the_scratch_file_is_gone_where_writing_fails(tmp_path):
    with pytest.raises((TypeError, RuntimeError, ValueError)):
        save_tensors({"x": torch.ones(2)}, tmp_path / "x.safetensors", {"about": 3})
    assert not list(tmp_path.iterdir())


NAMES = TINY.modalities


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"step": 7}, NAMES),
        ({"prior": "wan, original names"}, ()),
        ({"recipe": {"task": {"dose_share": 1.0}}}, ("dose",)),
        ({"recipe": {"task": {"dose_share": 0.85}}}, NAMES),
        ({"recipe": {"task": {"dose_share": 0.0, "targets": ["oar", "ct", "oar"]}}}, ("ct", "oar")),
        ({"recipe": {"task": {"dose_share": 1.0}}, "before": {"prior": "maisi rflow"}}, ("dose",)),
        (
            {
                "recipe": {"task": {"dose_share": 0.0, "targets": ["body"]}, "adapter": True},
                "before": {"recipe": {"task": {"dose_share": 0.9}}},
            },
            ("body",),
        ),
        (
            {
                "recipe": {"task": {"dose_share": 0.0, "targets": ["body"]}},
                "before": {"recipe": {"task": {"dose_share": 0.5, "targets": ["ct"]}}},
            },
            ("ct", "body"),
        ),
    ],
)
def test_what_a_model_was_trained_to_give_is_read_from_its_record(record, expected):
    assert trained_targets(record, NAMES) == expected


def test_a_model_is_used_for_what_it_was_trained_for(path):
    shipped = {name: load_model(registry.find(name)) for name in registry.shipped()}
    for name in ("compact-hn-any", "compact-hn-dit-any"):
        assert set(shipped[name].trained_for) == set(NAMES) - {"dose"}
    assert shipped["compact-hn"].trained_for == shipped["compact-hn-scard"].trained_for == NAMES
    case = small_case(3)
    with pytest.raises(ValueError, match=r"compact-hn-any\S* was trained to give ct, ptv, .*; not dose"):
        predict(shipped["compact-hn-any"], case)
    save_model(Any2Any(TINY), path, {"prior": "wan, original names"})
    with pytest.raises(ValueError, match=r"m\.safetensors was trained to give nothing yet; not dose"):
        predict(path, case)


@pytest.mark.parametrize("bias", [8.0, 3e38])
def test_a_model_that_gives_nonsense_gives_no_prediction(path, bias):
    """Before mimicking, which could make something plausible of it."""
    torch.manual_seed(0)
    model = Any2Any(TINY).eval()
    with torch.no_grad():
        model.backbone.read_out["dose"].bias.fill_(-bias)  # the data is minus the estimate
    save_model(model, path, {})
    model = load_model(path)
    with pytest.raises(ValueError, match=r"model m\.safetensors gives (up to|values that are no numbers)"):
        predict(model, replace(small_case(2), dose=None), Options(precision="fp32"))


def test_an_adapter_file_without_its_settings_is_one_sentence(tmp_path):
    with safe_open(WEIGHTS / "compact-hn-any.safetensors", "pt") as file:
        about = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in list(file.keys())[:3]}
    for key in ("settings", "base", "record"):
        save_file(tensors, tmp_path / "a.safetensors", {k: v for k, v in about.items() if k != key})
        with pytest.raises(ValueError, match=f"a.safetensors: nothing found as metadata '{key}'"):
            load_model(tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "a.safetensors", {**about, "settings": '{"peft_type": "LORA"}'})
    with pytest.raises(ValueError, match="a.safetensors"):
        checkpoint.load_model(tmp_path / "a.safetensors")


def test_a_model_that_names_a_base_holds_what_differs_alone(path, tmp_path):
    base, model = tmp_path / "base.safetensors", Any2Any(TINY).eval()
    save_model(model, base, {})
    with torch.no_grad():
        model.backbone.read_out["dose"].bias.fill_(0.5)
    save_model(model, path, {}, base=base)
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["backbone.read_out.dose.bias"]
    again = load_model(path).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())
    save_model(Any2Any(TINY), base, {})
    with pytest.raises(ValueError, match="made for the weights base"):
        load_model(path)
