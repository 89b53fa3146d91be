"""One verb for every result: its files into a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anydose.complete import Completion
from anydose.deliver import completion, dose
from anydose.predict import Prediction


def save(result: Prediction | Completion, folder: str | Path, **how: Any) -> dict[str, Any]:
    """Write a prediction or a completion into a folder of its own, as the command does; returns the run
    record. The keywords and errors are those of `dose.save` and `completion.save`."""
    if isinstance(result, Completion):
        return completion.save(result, folder, **how)
    return dose.save(result, folder, **how)
