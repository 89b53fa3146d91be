"""An extender: a network of one's own in the Any2Any model, without a change in anydose.

python examples/extender.py OUT
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import anydose as ad
from anydose.io.phantom import make_phantom
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.codec.codec import Codec
from anydose.model.network.backbone import VoxelNetwork
from anydose.model.network.backbones import register


@dataclass(frozen=True)
class OneConvolutionConfig:
    """The smallest backbone there is."""

    width: int = 8
    """Channels between its two convolutions."""
    kind: str = "one-convolution"
    multiple: int = 1

    def build(self, channels: Mapping[str, int], codec: Codec) -> "OneConvolution":
        """The network for latents of so many channels."""
        return OneConvolution(self, channels)


class OneConvolution(VoxelNetwork):
    """Absent modalities are zeros; the target is read out from a slot of its own."""

    def __init__(self, config: OneConvolutionConfig, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.config, self.channels = config, dict(channels)
        self.first = nn.Conv3d(sum(channels.values()), config.width, kernel_size=3, padding=1)
        self.last = nn.ModuleDict({name: nn.Conv3d(config.width, n, 1) for name, n in channels.items()})
        for layer in self.last.values():  # untrained, it gives the middle of the range everywhere
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        latents: Mapping[str, Tensor],
        times: Mapping[str, Tensor],
        target: str,
        spacing_mm: Tensor,
        body: Tensor,
    ) -> Tensor:
        """v of the target (n, c, d, h, w)."""
        like = latents[target]
        slots = [
            latents[name] if name in latents else like.new_zeros(len(like), count, *like.shape[2:])
            for name, count in self.channels.items()
        ]
        return self.last[target](torch.relu(self.first(torch.cat(slots, dim=1))))


register(OneConvolutionConfig)
torch.manual_seed(0)
path = Path(sys.argv[1]) / "one-convolution.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_model(Any2Any(ModelConfig(backbone=OneConvolutionConfig())), path, {"trained": "not at all"})

model = ad.load_model(path)  # the checkpoint knows its backbone by name
prediction = ad.predict(make_phantom(0), model, ad.Options(mimic=False))  # no beams deliver such a dose
print(prediction)
