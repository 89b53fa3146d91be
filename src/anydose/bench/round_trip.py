"""What a codec alone costs: the true dose through it and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.volume import block
from anydose.evaluate import rows, summary
from anydose.io import openkbp
from anydose.model.codec.codec import Codec, strides
from anydose.model.codec.make import named_codec
from anydose.model.sample import draw_sample, padded


def codec_round_trips(
    cohort: Path, split: str, codecs: list[str], limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Dose and DVH score of the true dose after encoding and decoding, one row a codec."""
    for name in codecs:
        codec = named_codec(name)
        folders = openkbp.patients(cohort, split)[: limit or None]
        cases = (openkbp.read_case(folder) for folder in folders)
        row = summary(list(rows(cases, partial(round_trip, codec=codec))))
        compression = math.prod(strides(codec)) / codec.latent_channels
        yield {"codec": name, "stride": codec.stride, "compression": compression, "split": split, **row}


@torch.inference_mode()
def round_trip(case: Case, codec: Codec) -> NDArray[np.float32]:
    """The case's own dose (d, h, w) in Gy through the codec and back."""
    sample, start = draw_sample(case, ("dose",))
    whole = padded(sample, codec.stride, (0.0, 0.0, 0.0))
    decoded = codec.decode(codec.encode(whole.volumes["dose"][None]))[0].numpy()
    d, h, w = sample.body.shape
    dose_gy = modality.TABLE["dose"].from_range(decoded[0, :d, :h, :w], sample.rx_max_gy)
    back = (-start[0], -start[1], -start[2])
    return block(np.maximum(dose_gy, 0.0), back, case.grid.shape, 0.0)
