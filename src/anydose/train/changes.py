"""A configuration changed by `key=value` or by a YAML file, and written as one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from anydose.io.files import whole
from anydose.model import former_names
from anydose.model.any2any import config_from_dict
from anydose.train import tasks
from anydose.train.posttrain import config as posttrain
from anydose.train.settings import docstrings

Config = TypeVar("Config")
MOST = 1e9  # no step, size or rate is larger
FORMER_NAMES = former_names.SETTINGS | tasks.FORMER_NAMES | posttrain.FORMER_NAMES  # one release longer


def changed(config: Config, changes: Sequence[str]) -> Config:
    """A configuration with `key=value` changes; a dotted key reaches into a part (task.zoom=0.1). ValueError
    for an unknown key or a value of another type."""
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator:
            raise ValueError(f"{change!r}: key=value is accepted")
        config = _changed(config, key.split("."), yaml.safe_load(text), change)
    return config


def changed_by(config: Config, values: Mapping[str, Any], where: str = "") -> Config:
    """A configuration with the values of a mapping, which may leave out any and nests like the configuration.
    A `kind` of backbone other than the present one brings its own defaults. ValueError as `changed`."""
    for key, value in values.items():
        old = getattr(config, key, None)
        if isinstance(value, Mapping) and is_dataclass(old):
            kind = getattr(old, "kind", "")
            if key == "backbone" and value.get("kind", kind) != kind:
                old = config_from_dict({"backbone": {"kind": value["kind"]}}).backbone
            part = changed_by(old, value, f"{where}{key}.")
            config = replace(config, **{key: part})  # type: ignore[type-var]
        else:
            config = _changed(config, [str(key)], value, f"{where}{key}: {value}")
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ValueError with the file's name if there is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no recipe file; YAML with settings is accepted") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a mapping of settings is needed, {type(values).__name__} found")
    return values


def write_yaml(config: Any, path: Path) -> None:
    """Write a resolved configuration, with a comment before every setting; `read_yaml` takes it back."""
    with whole(path) as scratch:
        scratch.write_text("\n".join(_yaml_lines(config)) + "\n", encoding="utf-8")


def _yaml_lines(config: Any, indent: str = "") -> Iterator[str]:
    docs = docstrings(type(config))
    for entry in fields(config):
        value = getattr(config, entry.name)
        for line in textwrap.wrap(docs.get(entry.name, ""), 100 - len(indent)):
            yield f"{indent}# {line}"
        if is_dataclass(value):
            yield f"{indent}{entry.name}:"
            yield from _yaml_lines(value, indent + "  ")
        else:
            text = yaml.safe_dump(_lists(value), default_flow_style=True, width=10_000)
            yield f"{indent}{entry.name}: {text.removesuffix('...' + chr(10)).strip()}"


def _changed(config: Any, keys: list[str], value: Any, change: str) -> Any:
    known = [f.name for f in fields(config)]
    key = keys[0] if keys[0] in known else FORMER_NAMES.get(keys[0], keys[0])
    if key not in known:
        raise ValueError(f"{change!r}: {key!r} is no setting; one of {', '.join(known)} is accepted")
    old = getattr(config, key)
    if len(keys) > 1:
        if not is_dataclass(old):
            raise ValueError(f"{change!r}: {key!r} has no parts")
        return replace(config, **{key: _changed(old, keys[1:], value, change)})
    value = _like(old, value)
    if is_dataclass(old) or type(value) is not type(old):
        raise ValueError(f"{change!r}: {type(old).__name__} is accepted, {value!r} found")
    if not _is_like(old, value):
        raise ValueError(
            f"{change!r}: {str(value)[:60]} found; the kind of {old!r} is accepted, numbers of 0 to {MOST:g}"
        )
    return replace(config, **{key: value})


def _is_like(old: Any, value: Any) -> bool:
    """Whether a value is of the kind of the one that it replaces: lists item by item, numbers finite and not
    below 0 where the present one is not."""
    if isinstance(old, tuple) and isinstance(value, tuple):
        if value and not old:
            old = (() if isinstance(value[0], tuple) else type(value[0])(),)
        return all(_is_like(old[min(k, len(old) - 1)], part) for k, part in enumerate(value))
    if type(old) in (int, float) and type(value) in (int, float):
        return bool(-MOST <= value <= MOST and (value >= 0 or old < 0))
    return type(old) is type(value)


def _like(old: Any, value: Any) -> Any:
    """A value as YAML gives it, in the type of the one that it replaces, where that loses nothing."""
    if isinstance(old, tuple) and isinstance(value, list):
        return _tuples(value)
    if isinstance(old, str) and value is None:
        return ""  # of `init=`
    if isinstance(old, float) and not isinstance(value, bool):
        try:
            return float(value)  # of 1e-3 too, which YAML takes for text
        except (TypeError, ValueError):
            return value
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple) else value
