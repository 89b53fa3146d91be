"""The table of cost: its counts are those of the code, and its arithmetic worked by hand."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anydose.bench import cost
from anydose.case import modality
from anydose.case.naming.vocabulary import GDPHMM
from anydose.model.network.dit import DiT
from anydose.model.prior import wan


def test_a_pass_costs_what_torch_counts():
    small = wan.WanConfig(dim=96, blocks=2, heads=3, ffn=160)
    channels = {name: 16 * row.channels for name, row in modality.TABLE.items()}
    net = DiT(wan.dit_config(small, modality.NAMES), channels, (4, 8, 8))
    grid = (3, 8, 8)
    latents = {name: torch.zeros(1, channels[name], *grid) for name in ("dose", "ct", "ptv")}
    times = {name: torch.zeros(1) for name in latents}
    plain = sdpa_kernel(SDPBackend.MATH)  # torch does not count the CPU's fused attention
    with torch.inference_mode(), plain, FlopCounterMode(display=False) as counted:
        net(latents, times, "dose", torch.ones(1, 3), torch.ones(1, 1, *grid))
    by_module = counted.get_flop_counts()
    blocks = sum(
        sum(flops.values()) for name, flops in by_module.items() if name.endswith(("blocks.0", "blocks.1"))
    )
    tokens = 3 * 3 * 4 * 4
    assert blocks == pytest.approx(cost.forward_flop(tokens, small), rel=1e-3)


def test_sizes_are_the_paper_s():
    assert cost.latent_grid() == (25, 16, 20)
    assert cost.tokens_each() == 2000
    stored, passing = cost.volumes(cost.CostSettings())
    assert stored == 1 + 1 + len(GDPHMM.organs) + 1 + 10 + 1 + 1
    assert passing == pytest.approx(12 + 23.5 / 2.27)


def test_everything_visible_costs_the_whole_and_nothing_the_target_alone():
    whole, alone = cost.drawn_flop((1.0, 1.0)), cost.drawn_flop((0.0, 0.0))
    assert whole == pytest.approx(cost.forward_flop(14000)) and alone == pytest.approx(
        cost.forward_flop(2000)
    )


@pytest.mark.slow
def test_hours_are_work_by_rate_and_more_gpus_wait_for_more():
    settings = cost.CostSettings(tflops=100.0, share=0.5, disk_gb_s=1e9, inside_gb_s=1e9, between_gb_s=1e9)
    one, eight = (cost.training_row(settings, 3700, gpus) for gpus in (1, 8))
    flop = cost.drawn_flop((0.9, 0.9)) * 4 * 370000
    assert one["dose_hours"] == pytest.approx(flop / 50e12 / 3600, abs=0.06)
    assert eight["dose_hours"] == pytest.approx(one["dose_hours"] / 8, abs=0.06)
    assert one["waits_first"] == "computing"
    slow = cost.training_row(cost.CostSettings(disk_gb_s=0.01), 3700, 64)
    assert (
        slow["waits_first"].startswith("reading latents") and slow["dose_hours"] > 5 * eight["dose_hours"] / 8
    )
    quick = cost.prediction_row(cost.CostSettings(codec_share=1.0, share=1.0))
    assert quick["total_s"] < 3 and quick["steps_in_time"] > 10


@pytest.mark.slow
def test_organs_in_one_volume_are_predicted_within_the_challenge_s_time():
    """Eleven volumes of the beams, CT, targets and body, and the organs: 20.5 of a plan, or one."""
    settings = cost.CostSettings()
    each, levels = (cost.prediction_row(settings, form) for form in ("channels", "levels"))
    assert (each["volumes_encoded"], levels["volumes_encoded"]) == (34.5, 15.0)
    assert levels["total_s"] < settings.prediction_s < each["total_s"]
    enough = replace(settings, codec_share=each["codec_share_in_time"])
    assert cost.prediction_row(enough)["total_s"] == pytest.approx(settings.prediction_s, abs=0.02)
