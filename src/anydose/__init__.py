"""anydose: 3D radiotherapy dose prediction with one Any2Any diffusion model.

    import anydose as ad

    dose = ad.predict("folder")

The names below load what they need when they are first used, so that `import anydose` needs no torch."""

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.2.0"

PUBLIC = {
    "Case": "anydose.case.case",
    "Completion": "anydose.complete",
    "Engine": "anydose.engine.engine",
    "Options": "anydose.model.options",
    "Prediction": "anydose.predict",
    "complete": "anydose.complete",
    "evaluate": "anydose.evaluate",
    "load_model": "anydose.model.registry:load",
    "predict": "anydose.predict",
    "read_case": "anydose.io.read",
    "save": "anydose.deliver.save",
    "score": "anydose.evaluate",
}
__all__ = ["__version__", *PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'anydose' has no attribute {name!r}")
    return _loaded(name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _loaded(name: str) -> Any:
    """The public name of the module in which it is defined, under its own or another name there."""
    module, _, other = PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), other or name)


class _Room(ModuleType):
    """A module that is named as a public function: `ad.predict(case)` calls the function, and
    `from anydose.predict import Options` still finds the module."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _loaded(self.__name__.removeprefix("anydose."))(*args, **kwargs)


class _FrontDoor(ModuleType):
    """Importing `anydose.predict` puts that module in the place of the function of the same name; here it is
    made callable, so that both are there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in PUBLIC and type(value) is ModuleType:
            value.__class__ = _Room
            value.__doc__ = f"{value.__doc__}\n\nCall it as the function `{name}` of {PUBLIC[name]}."
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
