"""Ways to spoil bytes, text and JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, [], {}, "", "x", -1, 0, 1e308, -1e308, float("nan"), float("inf"), True, 10**30, [[]], [1, 2, 3, 4],
    {"a": 1}, "\0", "nan", "-5", "\u202e", [None], 0.001, 1e9, -0.5, "=1+1", "<b>", "1,5",
)  # fmt: skip


def truncate(rng: random.Random, path: Path) -> str:
    """Cut a file anywhere."""
    data = path.read_bytes()
    at = int(len(data) * rng.random())
    path.write_bytes(data[:at])
    return f"{path.name} cut at {at}"


def flip(rng: random.Random, path: Path, count: int = 5) -> str:
    """Change a few bytes."""
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(bytes(data))
    return f"{path.name}: {count} bytes changed"


def replace_file(rng: random.Random, path: Path) -> str:
    """Something else under its name: nothing, noise, text, a folder, a link to nowhere, to itself."""
    what = rng.randrange(7)
    path.unlink()
    if what == 0:
        path.write_bytes(b"")
    elif what == 1:
        path.write_bytes(rng.randbytes(rng.randrange(1, 5000)))
    elif what == 2:
        path.write_text("no such thing\n" * rng.randrange(1, 50))
    elif what == 3:
        path.mkdir()
    elif what == 4:
        path.symlink_to("nowhere")
    elif what == 5:
        path.symlink_to(path.name)
    else:
        path.write_bytes(b"\0" * 4096)
    return f"{path.name} is {('empty', 'noise', 'text', 'a folder', 'a dead link', 'a loop', 'zeros')[what]}"


def cut_tail(rng: random.Random, path: Path) -> str:
    """Cut a text in the middle of its last lines."""
    data = path.read_bytes().rstrip(b"\n")
    path.write_bytes(data[: -rng.randrange(1, 4)] if rng.random() < 0.5 else data)
    return f"{path.name} ends in the middle of a line"


def nodes(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [where, *(path for key, child in inner for path in nodes(child, (*where, key)))]


def at(value: Any, where: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for key in where:
        value = value[key]
    return value


def put(value: Any, where: tuple[Any, ...], new: Any) -> Any:
    """The JSON value with another one at a path."""
    if not where:
        return new
    at(value, where[:-1])[where[-1]] = new
    return value


def odd_json(rng: random.Random, path: Path, keep: Callable[[tuple[Any, ...]], bool] = lambda _: True) -> str:
    """Another value somewhere in a JSON file; keep: which paths may be changed."""
    value = json.loads(path.read_text(encoding="utf-8-sig"))
    where = rng.choice([place for place in nodes(value) if keep(place)])
    new = rng.choice(ODD)
    path.write_text(json.dumps(put(value, where, new)))
    return f"{path.name}: {'.'.join(map(str, where))} is {new!r}"


def odd_text(rng: random.Random, path: Path) -> str:
    """JSON or YAML that is none, or not of the form that is asked for."""
    texts = (
        "", "[]", "{}", "null", "5", '"x"', "[" * 50_000, "{", "\0", "\ufeff{}", '{"a": ' * 20_000,
        "- a\n- b",
        "a: &x [*x]", "!!python/object/apply:os.system ['true']", "NaN", "[1, 2", "\xff\xfe",
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e]\n",
    )  # fmt: skip
    text = rng.choice(texts)
    path.write_bytes(text.encode("latin-1") if text == "\xff\xfe" else text.encode())
    return f"{path.name} is {text[:24]!r}"
