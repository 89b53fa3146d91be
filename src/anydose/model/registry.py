"""Models by name: the ones that the package ships, or any checkpoint by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anydose.model.checkpoint import describe
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


def completing(name: str, target: str) -> str:
    """The model that completes `target` for the model of this name: its adapter for that, NAME-any, where one
    is shipped and the target is not the dose."""
    return f"{name}-any" if target != "dose" and f"{name}-any" in shipped() else name


def listing() -> list[dict[str, Any]]:
    """One row per shipped model: name, backbone, codec, modalities, how it was trained, bytes."""
    rows = []
    for name, path in shipped().items():
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
