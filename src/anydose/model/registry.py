"""Models by name: the ones that the package ships, or any checkpoint by its path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anydose.model.any2any import Any2Any, ModelConfig, pick_device
from anydose.model.checkpoint import describe, load_model
from anydose.model.options import Options, filled_in
from anydose.model.weights import WEIGHTS

DEFAULT = "compact-hn"


def shipped() -> dict[str, Path]:
    """Name -> file of every model inside the package."""
    return {
        path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors")) if not path.stem.startswith("codec")
    }


def find(name: str) -> Path:
    """The checkpoint of a shipped model's name or of a path; ValueError lists what there is."""
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    if path.is_dir() and (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if path.is_file():
        return path
    raise ValueError(
        f"model {name!r} not found: {', '.join(known) or 'no shipped model'} or a .safetensors file"
    )


def options_for(options: Options, name: str | Path) -> Options:
    """The options with what they leave open as the model of that name or path was trained for; its weights
    are not read."""
    about = describe(find(str(name)))
    own = {**about["config"], **about.get("resolution", {})}
    steps, mimic = (own.get(key, getattr(ModelConfig, key)) for key in ("sampling_steps", "mimic"))
    return filled_in(options, steps, mimic)


def is_model(thing: object) -> bool:
    """True for a model, a shipped model's name, a .safetensors file and the folder of a training run."""
    if isinstance(thing, str | Path):
        path = Path(thing)
        run = (path / "model.safetensors").is_file()
        return str(thing) in shipped() or path.suffix == ".safetensors" or run
    return isinstance(thing, Any2Any)


def load(name: str | Path = DEFAULT, device: str = "auto") -> Any2Any:
    """A shipped model by its name, or a checkpoint by its path, on a device ('auto', 'cpu', 'cuda:0').
    Raises ValueError where there is none, or the file is no model of this version."""
    return load_model(find(str(name))).on(pick_device(device))


def completing(name: str, target: str) -> str:
    """The model that completes `target` for the model of this name: its adapter for that, NAME-any, where one
    is shipped and the target is not the dose."""
    return f"{name}-any" if target != "dose" and f"{name}-any" in shipped() else name


def listing(files: Mapping[str, Path] | None = None) -> list[dict[str, Any]]:
    """One row per model of `files` (name -> checkpoint), default the shipped ones: name, backbone, codec,
    modalities, how it was trained, bytes."""
    rows = []
    for name, path in (shipped() if files is None else files).items():
        about = describe(path)
        config, record = about["config"], about["record"]
        rows.append(
            {
                "name": name,
                "default": name == DEFAULT,
                "backbone": config["backbone"]["kind"],
                "codec": config["codec"],
                "modalities": config["modalities"],
                "base": about.get("base", {}).get("name"),
                "cases": record.get("cases"),
                "steps": record.get("step"),
                "bytes": about["bytes"],
            }
        )
    return rows
