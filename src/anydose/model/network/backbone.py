"""What the Any2Any model asks of a backbone, and the defaults of one that computes on voxels.

A backbone is a `torch.nn.Module` with these methods; its config is a frozen dataclass that builds it. One
file holds both; `network/backbones.py` lists them, and `register` there adds one from outside the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anydose.model.codec.codec import Codec

Edges = int | tuple[int, int, int]
"""Sizes along (z, y, x); one number stands for all three."""


@dataclass(frozen=True, eq=False)
class Place:
    """A tensor of a backbone that has an axis of the modalities' latent channels."""

    tensor: str
    """Its name in the backbone's state."""
    axis: int
    """The axis."""
    channels: Mapping[str, Tensor]
    """{modality: where each of its latent channels lies along the axis, (channels, places)}."""


def in_turn(channels: Mapping[str, int], first: int = 0, every: int = 1) -> dict[str, Tensor]:
    """Where the channels of modalities lie that stand one after another, `every` places for each of them."""
    found = {}
    for name, count in channels.items():
        found[name] = first + torch.arange(count * every).view(count, every)
        first += count * every
    return found


class Backbone(Protocol):
    """A network that predicts one modality's latent from the noised one and the others' clean ones."""

    config: Any
    """The `BackboneConfig` that rebuilds it."""
    checkpointing: bool
    """Whether training computes activations again in the backward pass instead of keeping them."""
    adapted: str
    """Regular expression of the layers, by their whole name in the model, that LoRA adapts."""

    @property
    def blind_at_one(self) -> bool:
        """Whether what it gives at t = 1 does not depend on the noise, so that one evaluation serves any
        number of samples."""
        ...

    def __call__(
        self,
        latents: Mapping[str, Tensor],
        times: Mapping[str, Tensor],
        target: str,
        spacing_mm: Tensor,
        body: Tensor,
    ) -> Tensor:
        """Predict v (or what `ModelConfig.predicts` says) of the target.

        Args:
            latents: {modality: (n, c, d, h, w)}, the target's among them, noised.
            times: {modality: (n,)}, 0 for conditions.
            target: the modality to predict.
            spacing_mm: (n, 3) of the voxels along (x, y, z).
            body: (n, 1, d, h, w) on the latent grid.

        Returns:
            (n, c, d, h, w), the target's.
        """
        ...

    def region(self, body: Tensor, target: str) -> Tensor:
        """The part of the latent grid (n, 1, d, h, w) that it predicts for a body mask of that shape."""
        ...

    def adopt(self, config: Any) -> None:
        """Go on with those settings of `config` that any of its weights fit."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its weights by name, as of every `torch.nn.Module`."""
        ...

    def places(self) -> Sequence[Place]:
        """Where the channels of modalities lie in its tensors, so that a model can be taught other organs;
        () where it does not say."""
        ...


class BackboneConfig(Protocol):
    """A frozen dataclass: the settings of a backbone, stored in every checkpoint. Fields have defaults,
    `kind` is one of them."""

    @property
    def kind(self) -> str:
        """The name under which checkpoints know it."""
        ...

    @property
    def multiple(self) -> Edges:
        """Latent sizes must be multiples of this."""
        ...

    def build(self, channels: Mapping[str, int], codec: Codec) -> Backbone:
        """The network, a `torch.nn.Module`. channels: {modality: latent channels}. Raises ValueError where
        the codec does not suit it."""
        ...


class VoxelNetwork(nn.Module):
    """Defaults of a backbone that predicts the body's latent voxels (all of them where the body itself is
    wanted) and has no setting that could change under its weights."""

    adapted = r"$^"  # no layer

    def __init__(self) -> None:
        super().__init__()
        self.checkpointing = False

    @property
    def blind_at_one(self) -> bool:
        """Whether noise has no say at t = 1."""
        return False

    def region(self, body: Tensor, target: str) -> Tensor:
        """The body, or everything where the body itself is wanted."""
        return torch.ones_like(body) if target == "body" else body

    def adopt(self, config: Any) -> None:
        """Nothing changes."""

    def places(self) -> Sequence[Place]:
        """It does not say."""
        return ()

    def run(self, layer: nn.Module, *inputs: Any) -> Any:
        """`layer(*inputs)`, computed again in the backward pass where `checkpointing` is on."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)
