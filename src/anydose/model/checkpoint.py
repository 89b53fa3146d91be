"""Checkpoints that explain themselves: weights and, in the safetensors metadata, everything needed to rebuild
the model and to know where it came from. Loaded strictly: a missing or an extra tensor is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anydose import __version__
from anydose.model import lora
from anydose.model.any2any import Any2Any, config_from_dict, tuples
from anydose.model.former_names import present_config, present_tensors
from anydose.model.tensors import check_finite, load_metadata, load_tensors, save_tensors
from anydose.model.weights import SEAL, WEIGHTS, file_hash

FORMAT, ADAPTER = "anydose-model-2", "anydose-adapter-2"
WITHOUT_HASHES = {"anydose-model-1": FORMAT, "anydose-adapter-1": ADAPTER}
"""What this version reads and no longer writes, and what became of it."""
MUST_HOLD = {FORMAT: ("config", "channels", "record"), ADAPTER: ("base", "settings", "record")}
"""The metadata of each format, all JSON objects."""


RESOLUTION = ("trained_mm", "working_mm", "sampling_steps", "mimic")
"""The settings of a model that an adapter brings along: what it was trained on, and how it is sampled."""


def describe(path: Path) -> dict[str, Any]:
    """The metadata of a model file without its weights: format, config, table, training record, bytes; of an
    adapter file with its base's config and table. Raises ValueError for another file or damaged metadata."""
    about = _parsed(path, load_metadata(path))
    base = describe(base_of(path, about["base"])) if "base" in about else {}
    return {**base, **about, "bytes": path.stat().st_size}


def _parsed(path: Path, meta: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of a model or adapter file as values. Raises ValueError, naming the file, where something
    is missing or of another kind."""
    named = meta.get("format", "")
    kind = WITHOUT_HASHES.get(named, named)
    if kind not in MUST_HOLD:
        raise ValueError(
            f"{path}: format {meta.get('format')!r:.60} found, {FORMAT!r} or {ADAPTER!r} is accepted"
        )
    if named == kind and SEAL not in meta:
        raise ValueError(f"{path}: damaged, a file of format {kind!r} holds the SHA-256 of its tensors")
    about: dict[str, Any] = {"format": kind}
    for key, text in meta.items():
        if key in ("format", SEAL):
            continue
        try:
            about[key] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: its metadata {key!r} are no JSON ({error})") from error
    for key in MUST_HOLD[kind]:
        if not isinstance(about.get(key), dict):
            found = type(about[key]).__name__ if key in about else "nothing"
            raise ValueError(f"{path}: {found} found as metadata {key!r}, an object is needed")
    if kind == FORMAT:
        about["config"] = present_config(about["config"])
    return about


def save_model(
    model: Any2Any,
    path: Path,
    record: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    base: Path | None = None,
) -> None:
    """Write a model; `record`: how it was trained; `dtype`: of the stored floating-point weights; `base`: a
    model's file, whose tensors are left out where they are equal (never the codec's, which are read
    alone)."""
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    meta = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config)),
        "channels": json.dumps(_table(model)),
        "record": json.dumps(dict(record)),
        "version": json.dumps(__version__),
    }
    if base is not None:
        theirs, _ = load_tensors(base)
        weights = {
            name: tensor
            for name, tensor in weights.items()
            if name.startswith("codec.") or name not in theirs or not torch.equal(tensor, theirs[name])
        }
        meta["base"] = json.dumps(_named(base))
    save_tensors(weights, path, meta)


def _named(base: Path) -> dict[str, str]:
    """What a file says of the weights that it goes with: their name and hash, and where they are unless they
    are shipped."""
    where = "" if base.parent == WEIGHTS else str(base)
    return {"name": base.stem, "file": where, "sha256": file_hash(base)}


def export(source: Path, path: Path) -> None:
    """The model at `source` stored as bfloat16, with its record."""
    save_model(load_model(source), path, describe(source)["record"], torch.bfloat16)


def load_model(path: Path) -> Any2Any:
    """Rebuild a model in evaluation mode, float32; of an adapter's file the base model with the adapter
    merged into it.

    Raises:
        ValueError: the file is no model or is damaged; its modality table differs from this version's; a
            tensor is missing, left over, of another shape or not finite; the base is not the one that the
            adapter was made for.
    """
    weights, meta = load_tensors(path)
    check_finite(path, weights)
    about = _parsed(path, meta)
    if about["format"] == ADAPTER:
        model = load_model(base_of(path, about["base"]))
        lora.put_adapter(model, about["settings"], weights, str(path))
        lora.merge(model)
        model.config = replace(model.config, **_resolution(about.get("resolution", {})))
    else:
        shared: dict[str, Tensor] = {}
        if "base" in about:
            base = base_of(path, about["base"])
            shared, _ = load_tensors(base)
            check_finite(base, shared)
        model = _plain_model(path, about, {**shared, **weights})
    if about["format"] == FORMAT or about["record"].get("recipe", {}).get("adapter"):
        model.trained_for = trained_targets(about["record"], model.config.modalities)
    model.was_trained = bool(model.trained_for)
    model.file = path
    return model.eval()


def _resolution(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of RESOLUTION in an adapter's metadata, as ModelConfig has them."""
    return {key: tuples(stored[key]) for key in RESOLUTION if key in stored}


def _plain_model(path: Path, about: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any2Any:
    try:
        model = Any2Any(config_from_dict(about["config"]))
    except (TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: its config describes no model ({said})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    theirs, ours = about["channels"], json.loads(json.dumps(_table(model)))
    if theirs != ours:
        other = next(name for name in (*theirs, *ours) if theirs.get(name) != ours.get(name))
        raise ValueError(
            f"{path}: made for another modality table ({other}: {theirs.get(other)!s:.99}); this version has "
            f"{ours.get(other)!s:.120}"
        )
    try:
        present = present_tensors({k: v.float() for k, v in weights.items()})
        model.load_state_dict(present, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error
    return model


def trained_targets(record: Mapping[str, Any], modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a model was trained to give, in the order of `modalities`: those of all its stages,
    or of the last alone where that was an adapter for other targets. The dose is among them if it was learned
    to the end: a stage without it has moved the weights away from it. All of them where a record does not
    say."""
    found: set[str] = set()
    for stage in stages(record):
        recipe = stage.get("recipe", {})
        if "task" not in recipe:
            found |= set() if "prior" in stage else set(modalities)
            continue
        dose_share, named = recipe["task"].get("dose_share", 1.0), recipe["task"].get("targets")
        targets = {"dose"} if dose_share > 0 else set()
        targets |= set(named or modalities) if dose_share < 1 else set()
        found = targets if recipe.get("adapter") else found - {"dose"} | targets
    return tuple(name for name in modalities if name in found)


def save_adapted(
    model: Any2Any, whole: Sequence[str], base: Path, path: Path, record: Mapping[str, Any]
) -> None:
    """Write a model's adapters, and its layers named in `whole`, in bfloat16 to one file that names the base
    weights they belong to, and where those are unless they are shipped."""
    meta = {
        "format": ADAPTER,
        "settings": json.dumps(lora.settings(model, whole)),
        "resolution": json.dumps({key: getattr(model.config, key) for key in RESOLUTION}),
        "base": json.dumps(_named(base)),
        "record": json.dumps(dict(record)),
        "version": json.dumps(__version__),
    }
    weights = {k: v.to(torch.bfloat16) for k, v in lora.weights(model, whole).items()}
    save_tensors(weights, path, meta)


def base_of(path: Path, base: Mapping[str, str]) -> Path:
    """The file that an adapter at `path` was made for: beside it, among the shipped weights, or where it was.
    ValueError if there is none of that hash."""
    places = (path.parent / f"{base['name']}.safetensors", WEIGHTS / f"{base['name']}.safetensors")
    found = [place for place in (*places, Path(base["file"])) if place.is_file() and place != path]
    for place in found:
        if file_hash(place) == base["sha256"]:
            return place
    there = f"{found[0]} has {file_hash(found[0])[:12]}" if found else "they are not there"
    raise ValueError(f"{path}: made for the weights {base['name']} {base['sha256'][:12]}; {there}")


def _table(model: Any2Any) -> dict[str, dict[str, Any]]:
    rows = (model.table[name] for name in model.config.modalities)
    return {r.name: {"channels": r.channels, "low": r.low, "high": r.high, "unit": r.unit} for r in rows}


def stages(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of a training and of the ones it went on from, first to last."""
    before = record.get("before")
    return [*(stages(before) if before else []), record]


def budget(record: dict[str, Any]) -> dict[str, float | int]:
    """Examples seen and minutes trained in all stages; of an adapter: patients, and the adapter's alone."""
    recipes = ((stage["step"], stage["recipe"]) for stage in stages(record))
    seen = sum(step * recipe.get("accumulate", recipe.get("patients", 1)) for step, recipe in recipes)
    return {"train_examples": seen, "train_minutes": round(sum(s["seconds"] for s in stages(record)) / 60)}
