"""The command line, run in this process: what it prints and its exit code, without seconds of imports."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from anydose.cli.app import main


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


def anydose(*words: object) -> Done:
    """Run `anydose WORDS`. An exception that the command lets through leaves this function too."""
    out, err = io.StringIO(), io.StringIO()
    line = mock.patch.object(sys, "argv", ["anydose", *map(str, words)])
    still_collected = mock.patch("gc.freeze")  # what is frozen at a command's end would stay for all tests
    code = 0
    with line, still_collected, redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
