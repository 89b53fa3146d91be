"""Cases of a cohort store, and the weights of models."""

from __future__ import annotations

import json
import random
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from damage import flip, odd_json, odd_text, replace_file, truncate
from judge import KINDS, Kind, a_case, same_or_said


def truth(folder: Path) -> Any:
    """A stored case beside another one, of which the wrong chunks come."""
    from linear_patient import patient

    from anydose.io.read import read_case
    from anydose.io.store import write_stored

    case = patient()
    write_stored(case, folder / "store", "other")
    shifted = replace(case.ct, array=case.ct.array + 7)  # type: ignore[type-var]
    write_stored(replace(case, ct=shifted), folder / "store", "case")
    (folder / "store" / "case").rename(folder / "case")
    return read_case(folder / "case")


def _file(rng: random.Random, folder: Path, name: str = "") -> Path:
    files = sorted(p for p in (folder / "case").rglob("*") if p.is_file() and name in p.name)
    return rng.choice(files)


def cut(rng: random.Random, folder: Path) -> str:
    """A file of the store cut anywhere."""
    return truncate(rng, _file(rng, folder))


def changed(rng: random.Random, folder: Path) -> str:
    """Bytes of a file changed."""
    return flip(rng, _file(rng, folder), rng.randrange(1, 6))


def gone(rng: random.Random, folder: Path) -> str:
    """A file, or all of an array, gone."""
    path = _file(rng, folder)
    if rng.random() < 0.5 and path.parent != folder / "case":
        array = folder / "case" / path.relative_to(folder / "case").parts[0]
        shutil.rmtree(array)
        return f"{array.name} gone"
    path.unlink()
    return f"{path.relative_to(folder)} gone"


def of_another(rng: random.Random, folder: Path) -> str:
    """A file of another case in its place."""
    path = _file(rng, folder)
    shutil.copy(folder / "store" / "other" / path.relative_to(folder / "case"), path)
    return f"{path.relative_to(folder)} of another case"


def something_else(rng: random.Random, folder: Path) -> str:
    """Something else under a file's name."""
    return replace_file(rng, _file(rng, folder))


def words(rng: random.Random, folder: Path) -> str:
    """An odd value in a zarr.json."""
    return odd_json(rng, _file(rng, folder, "zarr.json"))


def text(rng: random.Random, folder: Path) -> str:
    """A zarr.json that is none."""
    return odd_text(rng, _file(rng, folder, "zarr.json"))


KINDS["store"] = Kind(
    "store",
    truth,
    a_case,
    (cut, changed, gone, of_another, something_else, words, words, words, text),
    share=350,
)


RESEALED = "resealed"


def model_truth(folder: Path) -> Any:
    """A small model and the files beside it."""
    import torch

    from anydose.model.any2any import Any2Any, ModelConfig
    from anydose.model.checkpoint import load_model, save_model
    from anydose.model.network.unet import UNetConfig
    from anydose.model.registry import WEIGHTS

    torch.manual_seed(0)
    model = Any2Any(ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16)))
    save_model(model, folder / "m.safetensors", {})
    for kind in ("ranges", "uncertainty"):
        shutil.copy(WEIGHTS / f"compact-hn.{kind}.json", folder / f"m.{kind}.json")
    loaded = load_model(folder / "m.safetensors")
    return {k: v.clone() for k, v in loaded.state_dict().items()}, loaded.config, _beside(folder)


def _beside(folder: Path) -> Any:
    from anydose.score import calibration, training_ranges

    return (
        training_ranges.as_json(training_ranges.read(folder / "m.ranges.json")),
        calibration.as_json(calibration.read(folder / "m.uncertainty.json")),
    )


def a_model(folder: Path, true: Any) -> tuple[str, str]:
    """Load the model and the files beside it."""
    import torch

    from anydose.model.checkpoint import describe, load_model

    weights, config, beside = true
    about = describe(folder / "m.safetensors")
    model = load_model(folder / "m.safetensors")
    state = model.state_dict()
    differs = [k for k in weights if k not in state or not torch.equal(weights[k], state[k])]
    if not (folder / RESEALED).exists():  # with hashes that fit, another config is another model
        differs += ["config"] * (model.config != config) + ["record"] * (about.get("record") != {})
    found = _beside(folder)
    differs += [
        what
        for what, a, b in zip(("ranges", "intervals"), found, beside, strict=True)
        if _text(a) != _text(b)
    ]
    return same_or_said(iter(differs), said=False)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def model_bytes(rng: random.Random, folder: Path) -> str:
    """Bytes changed, or the file cut."""
    path = folder / "m.safetensors"
    return flip(rng, path, rng.randrange(1, 50)) if rng.random() < 0.6 else truncate(rng, path)


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _write(path: Path, head: Any, rest: bytes) -> None:
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def model_head(rng: random.Random, folder: Path) -> str:
    """The head of the file with an odd value, or without an entry."""
    path = folder / "m.safetensors"
    head, rest = _parts(path)
    inside = rng.random() < 0.6
    part = head["__metadata__"] if inside else head
    key = rng.choice(sorted(part))
    what = rng.randrange(4)
    if what == 0:
        del part[key]
    elif inside:
        part[key] = rng.choice(("", "x", "[]", "{}", "5", "null", '{"backbone": 5}', "[" * 9000, '{"": 1}'))
    else:
        part[key] = rng.choice((None, {}, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, 5, "x"))
    _write(path, head, rest)
    return f"{'metadata' if inside else 'head'} {key} {'gone' if what == 0 else 'is odd'}"


def model_json(rng: random.Random, folder: Path) -> str:
    """An odd value inside the JSON of the metadata."""
    path = folder / "m.safetensors"
    head, rest = _parts(path)
    key = rng.choice(("config", "channels", "record"))
    inner = folder / "inner.json"
    inner.write_text(head["__metadata__"][key])
    said = odd_json(rng, inner)
    head["__metadata__"][key] = inner.read_text()
    inner.unlink()
    _write(path, head, rest)
    return f"metadata {key}, {said}"


def model_resealed(rng: random.Random, folder: Path) -> str:
    """Odd metadata with a hash that fits, as another program could write them."""
    from anydose.model.weights import REST, SEAL, _hash_of_rest

    said = model_json(rng, folder) if rng.random() < 0.6 else model_head(rng, folder)
    path = folder / "m.safetensors"
    head, rest = _parts(path)
    meta = head.get("__metadata__")
    if isinstance(meta, dict) and SEAL in meta and all(isinstance(v, str) for v in meta.values()):
        try:
            hashes = json.loads(meta[SEAL])
            meta[SEAL] = json.dumps({**hashes, REST: _hash_of_rest(meta)})
        except (ValueError, TypeError, RecursionError):
            return said
        _write(path, head, rest)
        (folder / RESEALED).touch()
    return f"{said}, sealed again"


def model_other(rng: random.Random, folder: Path) -> str:
    """Something else under its name."""
    return replace_file(rng, folder / "m.safetensors")


def model_beside(rng: random.Random, folder: Path) -> str:
    """Odd ranges or intervals beside the model."""
    path = folder / f"m.{rng.choice(('ranges', 'uncertainty'))}.json"
    return rng.choice((odd_json, odd_json, odd_text, replace_file, truncate))(rng, path)


MODEL = (
    model_bytes,
    model_bytes,
    model_head,
    model_json,
    model_resealed,
    model_other,
    model_beside,
    model_beside,
)
KINDS["model"] = Kind("model", model_truth, a_model, MODEL, share=300)
