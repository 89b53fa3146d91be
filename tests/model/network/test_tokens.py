"""Body-sparse tokens: what is kept, where it is, and that padding leaks nothing."""

import pytest
import torch

from anydose.case.modality import TABLE
from anydose.model.network.dit import DiT, DiTConfig
from anydose.model.network.tokens import kept_blocks, pack, rope_frequencies, rope_phases, rotate, unpack

CHANNELS = {"ct": 2, "ptv": 2, "dose": 2}
PATCH = (("ct", 4), ("ptv", 2), ("dose", 2))
TINY = DiTConfig(dim=32, depth=2, heads=2, ffn=64, patch=PATCH)


def body_with(n_voxels, shape=(8, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    body = torch.zeros(shape, dtype=torch.bool)
    body.view(-1)[torch.randperm(body.numel(), generator=generator)[:n_voxels]] = True
    return body[None, None]


def tiny(config=TINY, channels=CHANNELS):
    torch.manual_seed(0)
    model = DiT(config, channels, stride=4).eval()
    for p in model.parameters():  # zero-initialised parts would hide every effect
        torch.nn.init.normal_(p, std=0.1) if p.abs().sum() == 0 else None
    return model


def inputs(n=1, shape=(8, 8, 8), channels=CHANNELS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    latents = {m: torch.randn(n, c, *shape, generator=generator) for m, c in channels.items()}
    times = {m: torch.zeros(n) for m in channels} | {"dose": torch.full((n,), 0.6)}
    return latents, times, torch.tensor([[4.0, 4.0, 2.5]]).expand(n, -1)


def test_pack_keeps_exactly_the_blocks_with_body_and_unpack_restores_them():
    latent, body = torch.randn(1, 3, 8, 8, 8), body_with(5)
    patches = pack(latent, body, 2, torch.ones(1, 3))
    keep = kept_blocks(body, 2)
    assert patches.features.shape == (1, int(keep.sum()), 24)
    restored = unpack(patches.features, patches, 2)
    inside = torch.nn.functional.interpolate(keep.float(), scale_factor=2) > 0
    assert torch.equal(restored, torch.where(inside, latent, 0.0))


def test_positions_are_millimetres_of_patch_centres():
    body = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    body[0, 0, 2, 4, 6] = True
    fine = pack(torch.zeros(1, 1, 8, 8, 8), body, 2, torch.tensor([[10.0, 16.0, 16.0]]))
    assert fine.position_mm[0, 0].tolist() == [30.0, 80.0, 112.0]  # blocks 1, 2, 3 of 20, 32, 32 mm
    coarse = pack(torch.zeros(1, 1, 8, 8, 8), body, 4, torch.tensor([[10.0, 16.0, 16.0]]))
    assert coarse.position_mm[0, 0].tolist() == [20.0, 96.0, 96.0]


def test_a_ragged_batch_gives_each_case_the_result_it_has_alone():
    model = tiny()
    latents, times, spacing = inputs(n=2)
    body = torch.cat([body_with(3, seed=3), body_with(200, seed=4)])
    together = model(latents, times, "dose", spacing, body)
    for k in range(2):
        alone = model(
            {m: v[k : k + 1] for m, v in latents.items()},
            {m: t[k : k + 1] for m, t in times.items()},
            "dose",
            spacing[k : k + 1],
            body[k : k + 1],
        )
        assert torch.allclose(together[k : k + 1], alone, atol=1e-5)


def test_what_lies_in_blocks_without_body_has_no_influence():
    model, body = tiny(), body_with(4)
    latents, times, spacing = inputs()
    for m, p in PATCH:
        outside = ~(torch.nn.functional.interpolate(kept_blocks(body, p).float(), scale_factor=p) > 0)
        changed = {**latents, m: torch.where(outside, torch.tensor(9.0), latents[m])}
        before, after = (model(x, times, "dose", spacing, body) for x in (latents, changed))
        assert torch.equal(before, after)


def test_every_visible_condition_has_influence_and_absent_ones_need_no_tensor():
    model, body = tiny(), body_with(30)
    latents, times, spacing = inputs()
    base = model(latents, times, "dose", spacing, body)
    for m in ("ct", "ptv"):
        moved = model({**latents, m: latents[m] + 1}, times, "dose", spacing, body)
        assert (moved - base).abs().max() > 1e-4
    only = {"dose": latents["dose"]}
    assert model(only, {"dose": times["dose"]}, "dose", spacing, body).shape == (1, 2, 8, 8, 8)


@pytest.mark.parametrize("target", ["ct", "ptv", "dose"])
def test_any_modality_can_be_the_target(target):
    latents, times, spacing = inputs()
    times = {m: torch.full((1,), float(m == target)) for m in CHANNELS}
    v = tiny()(latents, times, target, spacing, body_with(40))
    assert v.shape == latents[target].shape
    assert v.abs().max() > 0


def test_dense_tokens_equal_sparse_ones_where_everything_is_body():
    latents, times, spacing = inputs()
    body = torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    from dataclasses import replace

    sparse, dense = tiny(), tiny(replace(TINY, dense=True))
    given = (latents, times, "dose", spacing, body)
    assert torch.equal(sparse(*given), dense(*given))


def test_each_ablation_switch_changes_the_network():
    from dataclasses import replace

    latents, times, spacing = inputs()
    body = body_with(60)
    base = tiny()(latents, times, "dose", spacing, body)
    for switch in ("role", "modality_patchify", "slot_axis", "full_attention", "visible_code"):
        other = tiny(replace(TINY, **{switch: False}))(latents, times, "dose", spacing, body)
        assert (other - base).abs().max() > 1e-5, switch


def test_causal_attention_leaves_the_target_every_condition_that_is_given():
    from dataclasses import replace

    latents, times, spacing = inputs()
    body = body_with(60)
    model = tiny(replace(TINY, full_attention=False))
    base = model(latents, times, "dose", spacing, body)
    for name in latents.keys() - {"dose"}:
        changed = {**latents, name: latents[name] + 1.0}
        assert (model(changed, times, "dose", spacing, body) - base).abs().max() > 1e-5, name


def test_rotation_keeps_length_and_attention_depends_on_distance_alone():
    table = rope_frequencies(16, 1)
    latent = torch.zeros(1, 1, 4, 4, 4)
    everywhere = torch.ones(1, 1, 4, 4, 4, dtype=torch.bool)
    here = pack(latent, everywhere, 2, torch.full((1, 3), 7.3))
    q, k = torch.randn(2, 1, 1, 8, 16)
    phases = rope_phases([here], [2], table, 16.0)
    assert torch.allclose(rotate(q, phases).norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    from dataclasses import replace

    moved = rope_phases([replace(here, position_mm=here.position_mm + 31.7)], [2], table, 16.0)
    scores = [rotate(q, p) @ rotate(k, p).mT for p in (phases, moved)]
    assert torch.allclose(*scores, atol=1e-4)
    slots = [rotate(q, phases) @ rotate(k, rope_phases([here], [s], table, 16.0)).mT for s in (2, 3)]
    assert (slots[0] - slots[1]).abs().max() > 1e-2


def test_spatial_frequencies_are_those_of_wan():
    """priors.md 1.5: head 128 has 22 + 21 + 21 pairs, frequencies 10000^(-2 i / d_axis)."""
    table = rope_frequencies(128, 8)
    assert torch.allclose(table[2, 22:43], 1e4 ** (-2 * torch.arange(21, dtype=torch.float64) / 42))
    assert torch.allclose(table[1, :14], 1e4 ** (-2 * torch.arange(14, dtype=torch.float64) / 44))
    assert (table[1, 14:22] == 0).all()
    assert (table[0, 14:22] > 0).all()
    assert ((table != 0).sum(dim=0) == 1).all()


def test_the_default_transformer_has_a_slot_for_every_modality():
    model = DiT(DiTConfig(), {m: r.channels for m, r in TABLE.items()}, stride=4)
    assert set(model.head) == set(TABLE)
