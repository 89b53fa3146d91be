"""Checkpoints that explain themselves: weights and, in the safetensors metadata, everything needed to rebuild
the model and to know where it came from. Loaded strictly: a missing or an extra tensor is an error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from anydose import __version__
from anydose.case import modality
from anydose.model import lora
from anydose.model.any2any import Any2Any, config_from_dict
from anydose.model.tensors import load_tensors, save_tensors
from anydose.model.weights import WEIGHTS

FORMAT = "anydose-model-1"
ADAPTER = "anydose-adapter-1"


def describe(path: Path) -> dict[str, Any]:
    """The metadata of a model file without its weights: format, config, table, training record, bytes; of an
    adapter file with its base's config and table."""
    with safe_open(path, "pt") as file:
        meta = file.metadata() or {}
    if meta.get("format") not in (FORMAT, ADAPTER):
        raise ValueError(f"{path}: format {meta.get('format')!r} found, {FORMAT!r} is accepted")
    about = {key: json.loads(value) if key != "format" else value for key, value in meta.items()}
    base = describe(base_of(path, about["base"])) if "base" in about else {}
    return {**base, **about, "bytes": path.stat().st_size}


def save_model(
    model: Any2Any, path: Path, record: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a model; `record`: how it was trained; `dtype`: of the stored floating-point weights."""
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    meta = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config)),
        "channels": json.dumps(_table(model.config.modalities)),
        "record": json.dumps(dict(record)),
        "version": json.dumps(__version__),
    }
    save_tensors(weights, path, meta)


def export(source: Path, path: Path) -> None:
    """The model at `source` stored as bfloat16, with its record."""
    save_model(load_model(source), path, describe(source)["record"], torch.bfloat16)


def load_model(path: Path) -> Any2Any:
    """Rebuild a model in evaluation mode, float32. ValueError if the file is no model, if its modality table
    differs from this version's, or if a tensor is missing, left over or of another shape. Of an adapter's
    file: the base model with the adapter merged into it; ValueError unless the base is the one it was made
    for."""
    weights, meta = load_tensors(path)
    if meta.get("format") == ADAPTER:
        model = load_model(base_of(path, json.loads(meta["base"])))
        lora.put_adapter(model, json.loads(meta["settings"]), weights, str(path))
        lora.merge(model)
        model.file = path
        return model.eval()
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: format {meta.get('format')!r} found, {FORMAT!r} is accepted")
    model = Any2Any(config_from_dict(json.loads(meta["config"])))
    theirs, ours = json.loads(meta["channels"]), _table(model.config.modalities)
    if theirs != json.loads(json.dumps(ours)):
        raise ValueError(f"{path}: made for the modality table {theirs}, this version has {ours}")
    try:
        model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error
    model.file = path
    return model.eval()


def save_adapted(
    model: Any2Any, whole: Sequence[str], base: Path, path: Path, record: Mapping[str, Any]
) -> None:
    """Write a model's adapters, and its layers named in `whole`, in bfloat16 to one file that names the base
    weights they belong to, and where those are unless they are shipped."""
    where = "" if base.parent == WEIGHTS else str(base)
    meta = {
        "format": ADAPTER,
        "settings": json.dumps(lora.settings(model, whole)),
        "base": json.dumps({"name": base.stem, "file": where, "sha256": file_hash(base)}),
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


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _table(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    rows = (modality.TABLE[name] for name in names)
    return {r.name: {"channels": r.channels, "low": r.low, "high": r.high, "unit": r.unit} for r in rows}


def stages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of a training and of the ones it went on from, first to last."""
    before = record.get("before")
    return [*(stages(before) if before else []), record]


def budget(record: dict[str, Any]) -> dict[str, float | int]:
    """Examples seen and minutes trained in all stages; of an adapter: patients, and the adapter's alone."""
    recipes = ((stage["step"], stage["recipe"]) for stage in stages(record))
    seen = sum(step * recipe.get("accumulate", recipe.get("patients", 1)) for step, recipe in recipes)
    return {"train_examples": seen, "train_minutes": round(sum(s["seconds"] for s in stages(record)) / 60)}
