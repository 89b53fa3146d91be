"""The backbones that a config or a checkpoint can name.

To add one: a file with a config and a network (`backbone.py`), and a row below. From outside the package:
`register(MyConfig)` before a model is made, or an entry point of the group `anydose.backbones` whose name is
the kind and whose object is the config's class; then no import is needed.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from anydose.model.network.baselines import KINDS, BaselineConfig
from anydose.model.network.dit import DiTConfig
from anydose.model.network.maisi import MaisiConfig
from anydose.model.network.unet import UNetConfig

GROUP = "anydose.backbones"
BACKBONES: dict[str, type[Any]] = {
    "unet": UNetConfig,
    "dit": DiTConfig,
    "maisi": MaisiConfig,
    **dict.fromkeys(KINDS, BaselineConfig),
}


def register(config: type[Any], kind: str = "") -> None:
    """Add a backbone by its config's class, under `kind` (default: that of the class). Raises ValueError for
    a kind that another class has."""
    kind = kind or config.kind
    if BACKBONES.setdefault(kind, config) is not config:
        raise ValueError(f"backbone {kind!r}: {BACKBONES[kind].__name__} has this name already")


def config_class(kind: str) -> type[Any]:
    """The config's class of a kind: of the table, or of an installed package. Raises ValueError for none."""
    if not isinstance(kind, str):
        raise ValueError(f"backbone {str(kind)[:40]}; one of {', '.join(BACKBONES)} is accepted")
    for entry in entry_points(group=GROUP) if kind not in BACKBONES else ():
        register(entry.load(), entry.name)
    if kind not in BACKBONES:
        raise ValueError(f"backbone {kind!r}: one of {', '.join(BACKBONES)} is accepted")
    return BACKBONES[kind]
