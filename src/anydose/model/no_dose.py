"""What a network gives that can be no dose: refused, or said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydose.case.case import Case

MOST_OF_RX = 1.5  # of the highest prescription: above it a dose is refused
LEAST_OF_RX = -0.5  # below it too; compact-hn goes down to -0.02
ROUNDING_GY = 0.005
Doses = Sequence[NDArray[np.float32]]


def refuse_what_is_no_number(looks: Tensor, case: Case, named: str) -> None:
    """Raises ValueError for values of a model, `named` in the sentence, that are not finite."""
    if not torch.isfinite(looks).all():
        raise ValueError(
            f"{case.name}: {named} gives values that are no numbers; its weights are damaged or not trained"
        )


def refuse_beyond(doses_gy: Doses, case: Case, named: str) -> None:
    """Raises ValueError for doses of a model, `named` in the sentence, that are not finite, or anywhere above
    MOST_OF_RX or below LEAST_OF_RX times the highest prescription."""
    highest_gy = max(float(dose.max()) for dose in doses_gy)
    lowest_gy = min(float(dose.min()) for dose in doses_gy)
    most_gy = MOST_OF_RX * case.rx_max_gy
    if not highest_gy <= most_gy:
        raise ValueError(
            f"{case.name}: {named} gives up to {highest_gy:.0f} Gy, 0 to {most_gy:.0f} Gy "
            f"({MOST_OF_RX} x the highest prescription) is accepted; its weights are damaged or not trained"
        )
    if not lowest_gy >= LEAST_OF_RX * case.rx_max_gy:
        raise ValueError(
            f"{case.name}: {named} gives down to {lowest_gy:.0f} Gy, 0 or more is accepted; its weights are "
            "damaged or not trained"
        )


def below_zero(doses_gy: Doses, body: NDArray[np.bool_]) -> tuple[str, ...]:
    """A sentence on what a network gave below 0 Gy in the body, which is set to 0; none where there is
    nothing of it."""
    low = [dose[..., body] if body.ndim == 3 else dose[body] for dose in doses_gy]
    lowest_gy = min(float(values.min(initial=0.0)) for values in low)
    if lowest_gy >= -ROUNDING_GY:
        return ()
    part = float(np.mean([np.mean(values < -ROUNDING_GY) for values in low]))
    return (f"dose: {part:.1%} of the body was given below 0 Gy, down to {lowest_gy:.2f} Gy; set to 0",)
