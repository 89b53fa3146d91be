"""Words of the last release that still work: each is said once on standard error, and goes with the next
release."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

RENAMED = {
    "--views": "--looks",
    "--reachable": "--mimic",
    "--as-predicted": "--no-mimic",
    "--train-steps": "--training-steps",
    "--change": "--changes",
}
ANYWHERE = {"-v", "--verbose", "-vv", "-q", "--quiet", "--debug"}  # options of the root that may stand last


class Command(TyperCommand):
    """A command that takes renamed options too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what is meant by the arguments."""
        return super().parse_args(ctx, list(self.meant(args)))

    def meant(self, args: Sequence[str]) -> Iterator[str]:
        """The arguments in this release's words."""
        own = {option for param in self.params for option in param.opts}
        for word in args:
            name, separator, value = word.partition("=")
            new = RENAMED.get(name)
            if new is None or name in own or new not in own | _negations(self.params):
                yield word
            else:
                deprecated(name, new)
                yield new + separator + value


class WritingCommand(Command):
    """A command whose `--json FILE` wrote a file; now `--json` prints, and `--out FILE` writes."""

    def meant(self, args: Sequence[str]) -> Iterator[str]:
        """The arguments in this release's words; a file after --json stands after --out."""
        words = list(super().meant(args))
        for place, word in enumerate(words):
            follows = words[place + 1] if place + 1 < len(words) else ""
            name, separator, file = word.partition("=")
            if name == "--json" and (separator or self._is_file(follows)):
                deprecated("--json FILE", "--out FILE")
                yield f"--out={file}" if separator else "--out"
            else:
                yield word

    def _is_file(self, word: str) -> bool:
        """Whether a word after --json can only be the file that it once took: the command has no argument
        that it could be, or it is called .json."""
        has_arguments = any(param.param_type_name == "argument" for param in self.params)
        return bool(word) and not word.startswith("-") and (word.endswith(".json") or not has_arguments)


class Root(TyperGroup):
    """The root: its options may stand anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse with the root's own options first."""
        end = args.index("--") if "--" in args else len(args)
        words, rest = args[:end], args[end:]
        ours = [word for word in words if word in ANYWHERE]
        others = [word for word in words if word not in ANYWHERE]
        return super().parse_args(ctx, [*ours, *others, *rest])


def deprecated(old: str, new: str) -> None:
    """Say that a word goes away."""
    sys.stderr.write(f"anydose: {old} is deprecated and goes with the next release: {new}\n")


def _negations(params: Sequence[Any]) -> set[str]:
    return {option for param in params for option in param.secondary_opts}
