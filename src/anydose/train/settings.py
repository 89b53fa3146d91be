"""The settings of a run as a list: name, type, default and what the docstring under the field says. No torch
here; what a configuration class imports is its own matter."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Setting:
    """One field of a configuration."""

    name: str
    """Its name; a field of a part has the part's name and a dot before it, as `task.seed`."""
    type: Any
    """The type it is annotated with."""
    default: Any
    """Its value where nobody sets one; MISSING if it has to be given."""
    says: str
    """The docstring under the field, on one line; '' if there is none."""

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING


def settings_of(config: Any, prefix: str = "") -> list[Setting]:
    """Every setting of a configuration (a dataclass, or an instance whose values are then the defaults), in
    order. A field that holds another dataclass is followed by that one's settings instead."""
    found: list[Setting] = []
    types, said = get_type_hints(_class_of(config)), docstrings(_class_of(config))
    for field in fields(config):
        value = getattr(config, field.name) if not isinstance(config, type) else default_of(field)
        name = prefix + field.name
        if is_dataclass(value):
            found += settings_of(value, f"{name}.")
        else:
            found.append(Setting(name, types[field.name], value, said.get(field.name, "")))
    return found


def default_of(field: Field[Any]) -> Any:
    """A field's default, made if it has to be; MISSING if it has none."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def docstrings(config: type) -> dict[str, str]:
    """Field -> the string that stands under it in the source, of the class and of those it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if is_dataclass(cls):
            found |= _docstrings(cls)
    return found


def _docstrings(cls: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # a class typed at a prompt has no source
        return {}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        text = _string(after)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and text:
            found[statement.target.id] = " ".join(text.split())
    return found


def _string(statement: ast.stmt) -> str:
    """The text of a statement that is a bare string, else ''."""
    is_bare = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    value = statement.value.value if is_bare else ""  # type: ignore[attr-defined]
    return value if isinstance(value, str) else ""


def _class_of(config: Any) -> type:
    return config if isinstance(config, type) else type(config)
