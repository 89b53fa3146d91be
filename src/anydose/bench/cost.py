"""What the paper's recipe costs: hours, disk and what waits first, for so many GPUs and plans. Arithmetic
from the code's own sizes (tokens, parameters, FLOPs counted by torch on the meta device) and stated rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb, prod

import torch
from torch.utils.flop_counter import FlopCounterMode

from anydose.bench.registry import Row, benchmark
from anydose.case import modality
from anydose.case.naming.vocabulary import GDPHMM
from anydose.model.codec.codec import Codec, lead, strides
from anydose.model.codec.make import make_codec
from anydose.model.network.tokens import edges
from anydose.model.organ_levels import FORMS
from anydose.model.prior import wan
from anydose.train.posttrain.config import PostConfig
from anydose.train.recipes import PAPER, PAPER_ANY2ANY, PAPER_DOSE, PAPER_POSTTRAIN

TERA, GIGA, HOUR = 1e12, 1e9, 3600.0
TRAINING = 4  # forward passes that a step with recomputed blocks is worth: two, and a backward pass of two
LATENT_BYTES, GRADIENT_BYTES = 2, 4  # bfloat16, float32
STEPS = PAPER_DOSE.sampling_steps


@dataclass(frozen=True)
class CostSettings:
    """What is bought, and how fast it is. Rates say whether they were measured."""

    gpus: tuple[int, ...] = (1, 8, 64)
    """How many GPUs."""
    cases: tuple[int, ...] = (3700, 100000)
    """How many plans."""
    views: int = 4
    """Crops and mirror images of each, encoded once."""
    tflops: float = 788.0
    """TFLOP/s of one GPU in a bfloat16 product of 8192^3 (measured on an H200)."""
    share: float = 0.35
    """Share of it that the transformer reaches (assumed)."""
    codec_share: float = 0.15
    """Share of it that the codec's 3D convolutions reach (assumed)."""
    present: float = 20.5
    """Organs of a plan, of the 43 that have a channel (measured on the challenge's own Pat_Obj_DICT.json:
    32.4 of head and neck, 8.0 of lung)."""
    plans_a_patient: float = 2.27
    """Plans that share CT and organs (measured on the challenge's meta_data.csv)."""
    body: float = 0.583
    """Share of the tokens that touch the body (measured by `prior size-check` for an ellipse)."""
    inside_gb_s: float = 150.0
    """GB/s at which one GPU exchanges gradients within a machine of eight (assumed)."""
    between_gb_s: float = 40.0
    """GB/s at which it does between machines (assumed)."""
    disk_gb_s: float = 2.0
    """GB/s of one shared disk (assumed)."""
    prediction_s: float = 3.0
    """Seconds that the challenge allows a prediction."""


@benchmark(
    "cost",
    settings=CostSettings,
    says="What the paper's recipe costs on so many GPUs and plans: hours, disk and what waits first, by "
    "arithmetic from the code's own counts.",
    has_page=True,
)
def measure_cost(settings: CostSettings) -> Iterator[Row]:
    """A row for each number of plans and of GPUs, then one of a prediction for each form of the organs."""
    for cases in settings.cases:
        for gpus in settings.gpus:
            yield training_row(settings, cases, gpus)
    for organs_as in FORMS:
        yield prediction_row(settings, organs_as)


def latent_grid() -> tuple[int, int, int]:
    """The latent of the recipe's crop in Wan's VAE, (z, y, x)."""
    codec = wan_codec()
    d, h, w = (n // s for n, s in zip(PAPER["crop"], strides(codec), strict=True))
    return d + lead(codec), h, w


def tokens_each() -> int:
    """Tokens of one modality over the whole crop."""
    return prod(n // p for n, p in zip(latent_grid(), edges(wan.PATCH), strict=True))


def forward_flop(tokens: float, config: wan.WanConfig | None = None) -> float:
    """FLOP of the transformer's blocks, which is all but a hundredth of a pass: products of matrices and
    attention."""
    c = config or wan.WanConfig()
    linear = 2 * (4 * c.dim**2 + 2 * c.dim * c.ffn) * tokens
    return c.blocks * (linear + 4 * tokens**2 * c.dim)


def drawn_flop(keep: tuple[float, float]) -> float:
    """Mean FLOP of a forward pass where every condition is visible with a probability that goes from the
    first to the second."""
    conditions, each = len(modality.NAMES) - 1, tokens_each()
    total, places = 0.0, 11
    for k in range(places):
        p = keep[0] + (keep[1] - keep[0]) * k / (places - 1)
        for n in range(conditions + 1):
            chance = comb(conditions, n) * p**n * (1 - p) ** (conditions - n)
            total += chance * forward_flop((n + 1) * each)
    return total / places


@lru_cache(maxsize=1)
def wan_codec() -> Codec:
    """Wan's VAE at its size, without memory."""
    with torch.device("meta"):
        codec = make_codec("wan:16")
    return codec


@lru_cache(maxsize=2)
def codec_flop(decode: bool) -> int:
    """FLOP of one channel through Wan's VAE over the crop, counted by torch."""
    codec = wan_codec()
    shape = (1, codec.latent_channels, *latent_grid()) if decode else (1, 1, *PAPER["crop"])
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        (codec.decode if decode else codec.encode)(torch.empty(shape, device="meta"))
    return int(counted.get_total_flops())


def volumes(settings: CostSettings) -> tuple[float, float]:
    """(channels of a plan that are stored, those that pass the codec): equal ones pass it once, so that only
    the organs that are there do, and of a patient's plans CT, targets, body and organs once."""
    rows = modality.table(GDPHMM)
    own = rows["beam"].channels + rows["angle"].channels + rows["dose"].channels
    shared = rows["ct"].channels + rows["ptv"].channels + rows["body"].channels + settings.present
    return sum(row.channels for row in rows.values()), own + shared / settings.plans_a_patient


def parameters() -> int:
    """Of the transformer."""
    with torch.device("meta"):
        channels = {name: 16 * row.channels for name, row in modality.table(GDPHMM).items()}
        net = wan.dit_config(wan.WanConfig(), modality.NAMES).build(channels, wan_codec())
    assert isinstance(net, torch.nn.Module)
    return sum(p.numel() for p in net.parameters())


def posttrain_flop(config: PostConfig) -> float:
    """FLOP of one patient's step of post-training: its candidates sampled without a gradient, then the dual
    loss of `pairs` of them and of the reference dose, with the old and the base policy beside."""
    whole = forward_flop(len(modality.NAMES) * tokens_each())
    sampled = config.candidates * config.sampling_steps * whole
    return sampled + (config.pairs + 1) * (TRAINING + 2) * whole


@dataclass(frozen=True)
class Step:
    """The seconds of one training step."""

    compute_s: float
    """The transformer."""
    exchange_s: float
    """Gradients between GPUs."""
    read_s: float
    """Latents from the shared disk."""

    @property
    def slowed(self) -> float:
        """How many times longer it takes than computing: reading goes on meanwhile, exchanging does not."""
        return max(1.0, self.read_s / self.compute_s) + self.exchange_s / self.compute_s

    @property
    def waits_first(self) -> str:
        """The part beside computing that takes most of it."""
        parts = {"exchange of gradients": self.exchange_s, "reading latents": self.read_s}
        first = max(parts, key=lambda name: parts[name])
        return f"{first}, {parts[first] / self.compute_s:.0%} of a step"


def training_step(settings: CostSettings, gpus: int, flop: float, example_gb: float) -> Step:
    """One step of one example a GPU."""
    exchanged_gb = 2 * (gpus - 1) / gpus * parameters() * GRADIENT_BYTES / GIGA
    return Step(
        compute_s=flop / (settings.tflops * TERA * settings.share),
        exchange_s=exchanged_gb / (settings.inside_gb_s if gpus <= 8 else settings.between_gb_s),
        read_s=gpus * example_gb / settings.disk_gb_s,
    )


def training_row(settings: CostSettings, cases: int, gpus: int) -> Row:
    """Hours of every stage, disk, and of a training step the seconds of each part."""
    rate, codec_rate = (settings.tflops * TERA * s for s in (settings.share, settings.codec_share))
    stored, passing = volumes(settings)
    example_gb = stored * wan_codec().latent_channels * prod(latent_grid()) * LATENT_BYTES / GIGA
    flop = {
        "any2any": drawn_flop(PAPER_ANY2ANY.task.condition_keep_probability) * TRAINING,
        "dose": drawn_flop(PAPER_DOSE.task.condition_keep_probability) * TRAINING,
    }
    step = training_step(settings, gpus, flop["dose"], example_gb)
    examples = PAPER["epochs"] * cases
    hours = {stage: examples * each / rate / gpus / HOUR * step.slowed for stage, each in flop.items()}
    hours["encode"] = cases * settings.views * passing * codec_flop(False) / codec_rate / gpus / HOUR
    post = PAPER_POSTTRAIN.steps * PAPER_POSTTRAIN.patients * posttrain_flop(PAPER_POSTTRAIN)
    hours["posttrain"] = post / rate / min(gpus, PAPER_POSTTRAIN.patients) / HOUR
    return {
        "bench": "cost",
        "plans": cases,
        "gpus": gpus,
        **{f"{name}_hours": round(value, 1) for name, value in hours.items()},
        "total_hours": round(sum(hours.values()), 1),
        "disk_tb": round(cases * settings.views * example_gb / 1e3, 2),
        "step_compute_s": round(step.compute_s, 3),
        "step_exchange_s": round(step.exchange_s, 3),
        "step_read_s": round(step.read_s, 3),
        "waits_first": step.waits_first if gpus > 1 else "computing",
        "tokens": len(modality.NAMES) * tokens_each(),
        "tflop_a_step": round(flop["dose"] / TERA, 1),
    }


def prediction_row(settings: CostSettings, organs_as: str = "channels") -> Row:
    """Seconds of one prediction of the recipe's crop on one GPU: its conditions encoded, the organs in one of
    the FORMS, the transformer's steps on the body's tokens, the dose decoded. Then how many steps the
    challenge's time leaves, and the share of the GPU's rate at which the codec would leave time for all."""
    rate, codec_rate = (settings.tflops * TERA * s for s in (settings.share, settings.codec_share))
    rows = modality.table(GDPHMM)
    organs = settings.present if organs_as == "channels" else 1
    passing = rows["beam"].channels + rows["angle"].channels + 3 + organs
    tokens = settings.body * len(modality.NAMES) * tokens_each()
    encode_s, decode_s = passing * codec_flop(False) / codec_rate, codec_flop(True) / codec_rate
    step_s = forward_flop(tokens) / rate
    left = settings.prediction_s - encode_s - decode_s
    for_codec_s = max(settings.prediction_s - STEPS * step_s, 1e-9)
    return {
        "bench": "prediction",
        "organs_as": organs_as,
        "encode_s": round(encode_s, 2),
        "steps_s": round(STEPS * step_s, 2),
        "decode_s": round(decode_s, 2),
        "total_s": round(encode_s + STEPS * step_s + decode_s, 2),
        "allowed_s": settings.prediction_s,
        "steps_in_time": max(0, int(left / step_s)),
        "codec_share_in_time": round(settings.codec_share * (encode_s + decode_s) / for_codec_s, 3),
        "volumes_encoded": round(passing, 1),
        "tflop_a_volume": round(codec_flop(False) / TERA, 2),
        "tokens": round(tokens),
        "tflop_a_pass": round(forward_flop(tokens) / TERA, 1),
    }
