"""Muon on convolution weights is torch's Muon on their matrices, whatever the memory's order."""

import pytest
import torch
from torch import nn

from anydose.model.network.dit import DiT, DiTConfig
from anydose.train.optimiser import make_optimisers

CHANNELS = {"ct": 2, "ptv": 2, "dose": 3}


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
def test_muon_updates_a_convolution_as_torch_updates_its_matrix(memory):
    torch.manual_seed(0)
    conv = nn.Conv3d(6, 8, 3).to(memory_format=memory)
    plain = nn.Parameter(conv.weight.detach().clone(memory_format=torch.contiguous_format).flatten(1))
    adam, muon = make_optimisers("muon", conv, 0.01, 0.1)
    reference = torch.optim.Muon([plain], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(8, 6, 3, 3, 3)
        conv.weight.grad = gradient  # in whatever order it comes
        plain.grad = gradient.flatten(1)
        muon.step()
        reference.step()
    # the iteration itself runs in bfloat16, where the order of a sum shows
    assert torch.allclose(conv.weight.flatten(1), plain, atol=2e-4)
    assert [p.shape for p in adam.param_groups[0]["params"]] == [conv.bias.shape]


def test_muon_takes_the_blocks_of_a_transformer_and_leaves_embeddings_and_heads():
    tiny = DiTConfig(dim=64, depth=2, heads=2, ffn=96, patch=tuple((name, 4) for name in CHANNELS))
    adam, muon = make_optimisers("muon", DiT(tiny, CHANNELS, 4), 0.01, 0.1)
    assert len(muon.weights) == 2 * 6  # q, k, v, o and two of the MLP
    assert len(adam.param_groups[0]["params"]) == len(list(DiT(tiny, CHANNELS, 4).parameters())) - 12


def test_an_unknown_optimiser_is_named():
    with pytest.raises(ValueError, match="sgd: adamw or muon"):
        make_optimisers("sgd", nn.Conv3d(1, 1, 3), 1e-3, 0.0)


def test_a_layer_of_many_inputs_has_its_share_of_adamws_rate_and_a_default_changes_nothing():
    net = nn.Sequential(nn.Linear(256, 4), nn.Linear(32, 4))
    (adam,) = make_optimisers("adamw", net, 0.01, 0.1, full_rate_inputs=64)
    shares = {id(p): group["share"] for group in adam.param_groups for p in group["params"]}
    assert shares == {
        id(net[0].weight): 0.25,
        id(net[0].bias): 1.0,
        id(net[1].weight): 1.0,
        id(net[1].bias): 1.0,
    }
    (plain,) = make_optimisers("adamw", net, 0.01, 0.1)
    assert [group["share"] for group in plain.param_groups] == [1.0]
