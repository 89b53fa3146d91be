"""Data inside pages: text that cannot become markup, script, mathematics or a mark of the template."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

LONGEST_NAME = 64  # characters shown of a structure or case name
MARK = re.compile(r"<!--([A-Z]+)-->|/\*([A-Z]+)\*/")
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def shown(name: str, longest: int = LONGEST_NAME) -> str:
    """A name as pages show it: without control and direction characters, at most `longest` characters."""
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in name).strip()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def figure_text(name: str, longest: int = LONGEST_NAME) -> str:
    """A name as matplotlib shows it letter by letter: it would typeset what stands between two dollars, and
    leave a label that begins with an underscore out of the legend."""
    plain = shown(name, longest).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def script_json(value: Any) -> str:
    """JSON for a script element. No character of it can end the element, open a comment or be a mark:
    <, > and & stand as their Unicode escapes. Numbers that are not finite become null."""
    text = json.dumps(_finite(value), allow_nan=False)
    return "".join(ESCAPES.get(character, character) for character in text)


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with its marks <!--NAME--> and /*NAME*/ replaced by `parts`, all in one pass: a mark
    inside a part stays text. KeyError for a mark without a part."""
    return MARK.sub(lambda found: parts[found[1] or found[2]], template)


def content_security_policy(scripts: Iterable[str]) -> str:
    """The policy of a page that runs these inline scripts and no other, and that fetches nothing."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    rules = (
        "default-src 'none'",
        f"script-src {hashes}",
        "style-src 'unsafe-inline'",  # plotly writes style attributes
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
