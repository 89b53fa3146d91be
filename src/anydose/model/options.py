"""How to predict: one set of defaults for Python, the command line, benchmarks and evaluation. No torch
here, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Options:
    """How to predict. The defaults are what ships: command line, benchmarks and evaluation read them here."""

    steps: int = 0
    """Network evaluations a sample, 1 to 50; 0: as many as the model was trained for, which is one for those
    that ship (two were 0.05 to 0.1 Gy worse on validation)."""
    sampler: str = "ddim"
    """How the steps are made: ddim or dpm2m."""
    samples: int = 1
    """Doses to draw; more than one gives a mean and a standard deviation."""
    seed: int = 0
    """Every seed starts from other noise."""
    given: tuple[str, ...] = ()
    """Modalities to show, as ct,ptv; without, all that the case has."""
    target: str = "dose"
    """The modality to predict."""
    looks: int = 2
    """Augmented looks at the patient averaged in every sample (test-time augmentation): 1, 2 or 4. Four are
    0.01 Gy better in dose and worse in DVH."""
    mimic: bool | None = None
    """Move a dose towards the nearest one that the given beams can deliver, or keep the network's own;
    without a word, as the model was made for: doses of those that ship are moved."""
    precision: str = "bf16"
    """Numbers of the network: bf16 (autocast) or fp32."""


def filled_in(options: Options, steps: int, mimic: bool) -> Options:
    """The options with what they leave open as a model was trained for."""
    return replace(
        options, steps=options.steps or steps, mimic=mimic if options.mimic is None else options.mimic
    )
