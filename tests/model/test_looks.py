"""One look at a patient: what lies beyond the target's region, and whose noise it is."""

import torch
from patients import phantom_of

from anydose.case.volume import bounding_box
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.looks import sample_target
from anydose.model.network.dit import DiTConfig
from anydose.model.options import Options
from anydose.model.sample import draw_sample, padded


class Recorded(Any2Any):
    """The model, which keeps the latent that it decodes."""

    def decode(self, target, latent):
        self.latent = latent
        return super().decode(target, latent)


def test_beyond_the_body_a_latent_is_the_background_that_it_learned():
    """The decoder is a convolution: what it is given beyond the body shows within it."""
    torch.manual_seed(0)
    model = Recorded(ModelConfig(DiTConfig(dim=32, depth=1, heads=2, ffn=64), "compact:4")).eval()
    case = phantom_of(0)
    start, shape = bounding_box(case.structures["PTV70"])
    sample, _ = draw_sample(case.block(tuple(s - 12 for s in start), (32, 48, 64)))
    sample.volumes.pop("dose", None)
    list(sample_target(model, sample, Options(steps=2, looks=1, mimic=False)))
    space = padded(sample, model.multiple).body.shape
    background = model.background("dose", space, sample.rx_max_gy)
    differs = (model.latent - background).abs().amax(dim=(0, 1)) > 1e-6
    assert 0 < differs.float().mean() < 1, "some of it is the patient, some is not"
