"""The codecs that a config or a checkpoint can name, as 'KIND:NUMBERS'.

To add one: a file with the codec (`codec.py`), and a row below. From outside the package: `register(row)`
before a model is made, or an entry point of the group `anydose.codecs` whose object is the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from torch import nn

from anydose.model.codec import compact
from anydose.model.codec.codec import Codec, IdentityCodec
from anydose.model.codec.compact import CompactCodec
from anydose.model.codec.maisi import MaisiCodec
from anydose.model.codec.wan import WanCodec
from anydose.model.weights import WEIGHTS

GROUP = "anydose.codecs"


@dataclass(frozen=True)
class CodecRow:
    """One kind of codec."""

    kind: str
    """Its name, before the first colon of a spec."""
    make: Callable[..., Codec]
    """The codec of a spec's numbers; a learned one is still without its weights."""
    numbers: tuple[int, int]
    """How many numbers a spec may have: fewest and most."""
    spec: str
    """The form of a spec, for messages."""


CODECS: dict[str, CodecRow] = {
    row.kind: row
    for row in (
        CodecRow("identity", IdentityCodec, (1, 1), "identity:N"),  # patches of N^3 voxels
        CodecRow("compact", CompactCodec, (1, 1), "compact:N"),  # N latent channels
        CodecRow(
            "wan", WanCodec, (1, 2), "wan:Z[:BASE]"
        ),  # Z channels; width of its first level, 96 in Wan 2.1
        CodecRow("maisi", MaisiCodec, (1, 2), "maisi:Z[:BASE]"),
    )
}


def register(row: CodecRow) -> None:
    """Add a codec. Raises ValueError for a kind that another row has."""
    if CODECS.setdefault(row.kind, row) is not row:
        raise ValueError(f"codec {row.kind!r}: another codec has this name already")


def make_codec(spec: str) -> Codec:
    """The codec of a spec, frozen; a learned one is still without its weights. Raises ValueError for an
    unknown one."""
    kind, *numbers = spec.split(":")
    for entry in entry_points(group=GROUP) if kind not in CODECS else ():
        register(entry.load())
    row = CODECS.get(kind)
    usable = all(n.isdigit() and int(n) > 0 for n in numbers)
    if row is None or not usable or not row.numbers[0] <= len(numbers) <= row.numbers[1]:
        raise ValueError(f"codec {spec!r}: one of {', '.join(r.spec for r in CODECS.values())} is accepted")
    codec = row.make(*(int(n) for n in numbers))
    return codec.requires_grad_(False) if isinstance(codec, nn.Module) else codec


def named_codec(name: str) -> Codec:
    """A codec that is ready to use: 'compact' (the shipped weights), the file of a trained one, or the spec
    of one that is not learned. Raises ValueError for any other."""
    if name == "compact":
        return compact.load(WEIGHTS / "codec-compact.safetensors")
    if Path(name).is_file():
        return compact.load(Path(name))
    codec = make_codec(name)
    if isinstance(codec, nn.Module) and any(True for _ in codec.parameters()):
        raise ValueError(
            f"codec {name!r} is learned, and this names no weights; 'compact' or a file is accepted"
        )
    return codec
