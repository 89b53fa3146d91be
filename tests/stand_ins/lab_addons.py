"""What a laboratory adds from outside the package: a backbone of one convolution, and a codec of averages."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anydose.model.codec.make import CodecRow
from anydose.model.network.backbone import VoxelNetwork


@dataclass(frozen=True)
class LabConfig:
    """One convolution over all slots."""

    kind: str = "lab"
    kernel: int = 3

    @property
    def multiple(self):
        return 2

    def build(self, channels, codec):
        return LabNet(self, channels)


class LabNet(VoxelNetwork):
    """The target's noised latent and the conditions, convolved once."""

    adapted = r"backbone\.mix"

    def __init__(self, config, channels):
        super().__init__()
        self.config, self.channels = config, dict(channels)
        widest = max(channels.values())
        self.mix = nn.Conv3d(sum(channels.values()), widest, config.kernel, padding=config.kernel // 2)

    def forward(self, latents, times, target, spacing_mm, body):
        like = latents[target]
        slots = [
            latents[name] if name in latents else like.new_zeros(len(like), size, *like.shape[2:])
            for name, size in self.channels.items()
        ]
        return self.mix(torch.cat(slots, dim=1)).float()[:, : self.channels[target]]


class MeanCodec:
    """The mean of every block: half of what a codec should be, and enough for a test."""

    latent_channels = 1

    def __init__(self, stride):
        self.stride, self.spec = stride, f"mean:{stride}"

    def encode(self, volume):
        return F.avg_pool3d(volume, self.stride)

    def decode(self, latent):
        return F.interpolate(latent, scale_factor=self.stride, mode="nearest")


MEAN = CodecRow("mean", MeanCodec, (1, 1), "mean:N")
ENTRY_POINTS = """[anydose.backbones]
lab = lab_addons:LabConfig

[anydose.codecs]
mean = lab_addons:MEAN
"""


def install(folder):
    """Make the addons an installed distribution in `folder`, which has to be on sys.path."""
    about = folder / "lab_addons-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-addons\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
