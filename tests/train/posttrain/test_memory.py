"""Post-training of the 1.3B transformer on 80 GB: from bytes measured on a block of the real width."""

import pytest

from anydose.model.network.dit import DiTConfig
from anydose.train.posttrain.memory import needed, saved_bytes_per_token
from anydose.train.recipes import RECIPES

WAN = DiTConfig(dim=1536, depth=30, heads=12, ffn=8960)  # Wan 2.1, 1.3B
WHOLE_BODY = 22_869  # tokens of seven modalities of a head-and-neck patient at 2.5 x 2.5 x 2 mm


def test_80_gb_suffice_for_24_candidates_and_rank_64_with_checkpointing_and_not_without():
    recipe = RECIPES["paper-posttrain"]
    assert (recipe.candidates, recipe.rank, recipe.checkpointing) == (24, 64, True)
    found = needed(WAN, recipe.rank, WHOLE_BODY, rows=recipe.pairs + 1)
    assert 20 < found.total < 0.7 * 80  # room for what is transient, and for fragments
    assert needed(WAN, recipe.rank, WHOLE_BODY, checkpointing=False).total > 100


def test_what_a_block_keeps_grows_with_its_tokens_alone():
    few, many = (saved_bytes_per_token(WAN, 64, tokens) for tokens in (16, 48))
    assert few == pytest.approx(many, rel=0.02)
    assert 60e3 < few < 300e3


def test_a_block_of_twice_the_width_keeps_twice_as_much():
    """Widths double; what a rank of 2 keeps is nothing beside them."""
    narrow, wide = (DiTConfig(dim=64 * k, depth=1, heads=2 * k, ffn=128 * k) for k in (1, 2))
    ratio = saved_bytes_per_token(wide, 2) / saved_bytes_per_token(narrow, 2)
    assert ratio == pytest.approx(2, rel=0.05)
