"""What a transformer may have beside its free read-out of the target's tokens: the dose as a weighted sum of
the beams' plates, and convolutions at the latent grid's own resolution. Axes: n batch, l tokens, c channels,
d h w latent grid."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anydose.case import modality
from anydose.model.network.backbone import Edges
from anydose.model.network.body_voxels import gather, pyramid, scatter
from anydose.model.network.layers import ModulatedNorm, zero_read_outs
from anydose.model.network.tokens import Patches, interpolate
from anydose.model.network.unet import Block


class PlateReadOut(nn.Module):
    """The dose as physics has it: each token of the dose says how much each beam plate counts there, the
    weights vary smoothly between tokens, and the plates bring the sharp edges of the beams."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weights = nn.Linear(dim, modality.TABLE["beam"].channels)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def forward(self, features: Tensor, tokens: Patches, p: Edges, beam: Tensor) -> Tensor:
        """Features (n, l, dim) of the dose's tokens, patches of edges `p`; beam (n, plates * c, d, h, w): the
        latent of voxel patches. Returns the sum of weights times plates, (n, c, d, h, w)."""
        weights = interpolate(self.weights(features), tokens, p)
        plates = (beam.float().unflatten(1, (weights.shape[1], -1)) + 1) / 2  # share of the open beam
        total: Tensor = (weights[:, :, None] * plates).sum(dim=1)
        return total


class ConvolutionalHead(nn.Module):
    """Residual 3 x 3 x 3 convolutions over the body's latent voxels, which see every slot as it is, the
    estimate of the tokens and their features interpolated; what they read out is added, and starts as
    nothing. channels: {modality: latent channels}; width: of the convolutions; code: size of the condition
    code."""

    def __init__(self, dim: int, channels: Mapping[str, int], width: int, blocks: int, code: int) -> None:
        super().__init__()
        self.channels = dict(channels)
        self.context = nn.Linear(dim, width)
        self.slots = nn.Linear(sum(channels.values()), width)
        self.estimate = nn.ModuleDict({name: nn.Linear(c, width) for name, c in channels.items()})
        self.residual = nn.ModuleList(Block(width, code) for _ in range(blocks))
        self.norm = ModulatedNorm(width, code)
        self.read_out = zero_read_outs(width, channels)

    def forward(
        self,
        features: Tensor,
        estimate: Tensor,
        latents: Mapping[str, Tensor],
        target: str,
        code: Tensor,
        where: Tensor,
    ) -> Tensor:
        """Features (n, width, d, h, w): `context` of the tokens, interpolated; estimate (n, c, d, h, w) of
        the target; latents: {modality: (n, c, d, h, w)}; code (n, e); where (n, d, h, w): what to compute.
        Returns what to add to the estimate, zero elsewhere."""
        level = pyramid(where, 1)[0]
        count = sum(level.counts)
        slots = [
            gather(latents[name], level) if name in latents else estimate.new_zeros(count, c)
            for name, c in self.channels.items()
        ]
        x = self.slots(torch.cat(slots, dim=1)) + self.estimate[target](gather(estimate, level))
        x = x + gather(features, level).to(x.dtype)
        for block in self.residual:
            x = block(x, code, level)
        x = F.silu(self.norm(x, code, level.counts))
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would quantise the dose
            return scatter(self.read_out[target](x.float()), level)
