"""Structure matching (5.5, rules 1 to 7) and the StructureComment grammar."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anydose.case.grid import Grid
from anydose.score.structures import Matching, StructureReference, build, match, read_synonyms, with_margin

GRID = Grid((41, 41, 41), (2.0, 2.0, 2.0), (-40.0, -40.0, -40.0))
Z, Y, X = np.meshgrid(*[np.arange(-40.0, 41.0, 2.0)] * 3, indexing="ij")
BALL = X**2 + Y**2 + Z**2 <= 20.0**2
BOX = (np.abs(X) <= 10) & (np.abs(Y) <= 10) & (np.abs(Z) <= 10)
LEFT = X > 0
MASKS = {"PTV": BOX, "Body": BALL, "Left side": LEFT}


def made(comment: str) -> np.ndarray:
    return build(comment, MASKS.__getitem__, GRID)


def found(wanted: StructureReference, *present: str, **by: object) -> str | None:
    return match(wanted, present, Matching(**by))  # type: ignore[arg-type]


def test_rule_1_exact_code_and_id_come_first() -> None:
    codes = {"CORD": "7647", "cord": "1"}
    assert (
        found(StructureReference("CORD", code="7647"), "cord", "CORD", by_hand={"CORD": "cord"}, codes=codes)
        == "CORD"
    )


def test_rule_2_a_manual_map_comes_before_the_ids() -> None:
    assert found(StructureReference("Cord"), "Cord", "Myelon", by_hand={"Cord": "Myelon"}) == "Myelon"


def test_rule_2_a_map_to_a_structure_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no such structure"):
        found(StructureReference("Cord"), "Cord", by_hand={"Cord": "Myelon"})


def test_rule_3_the_structure_id_ignores_case() -> None:
    assert found(StructureReference("SPINALCORD", "Brainstem"), "spinalcord", "Brainstem") == "spinalcord"


def test_rule_4_then_the_template_id() -> None:
    assert found(StructureReference(None, "PTV_High"), "ptv_high", "PTV") == "ptv_high"
    assert found(StructureReference("gone", "PTV"), "PTV") == "PTV"


def test_rule_5_then_the_synonym_dictionary(tmp_path: Path) -> None:
    for key in ("StructureSynonyms", "StructureSynonoyms"):
        row = {"StructureID": "Myelon", "TG263": "SpinalCord", key: ["Medulla", "RM"]}
        (tmp_path / "d.json").write_text(json.dumps([row]))
        synonyms = read_synonyms(tmp_path / "d.json")
        assert found(StructureReference("Myelon"), "PTV", "rm", synonyms=synonyms) == "rm"


def test_rule_5_our_own_table_of_names_is_a_dictionary_too() -> None:
    assert found(StructureReference(None, "Bone_Mandible"), "Mandible", "Larynx") == "Mandible"
    assert found(StructureReference("Body"), "possible_dose_mask") == "possible_dose_mask"


def test_rule_6_then_the_code_alone() -> None:
    assert found(StructureReference("Cord", code="7647"), "Myelon", codes={"Myelon": "7647"}) == "Myelon"


@pytest.mark.parametrize("code", ["CONTROL", "PTVp", "CTV_High", "GTVp"])
def test_rule_6_never_by_a_target_or_control_code(code: str) -> None:
    assert found(StructureReference("x", code=code), "y", codes={"y": code}) is None


def test_a_structure_that_matches_twice_is_refused_with_both_names() -> None:
    with pytest.raises(ValueError, match="several structures: CORD, cord"):
        found(StructureReference("Cord"), "CORD", "cord")


def test_no_rule_bends_a_name() -> None:
    assert found(StructureReference("Parotid_L"), "Parotid_R", "Parotids", "PTV") is None


def test_rule_7_the_published_rind_is_a_shell_of_its_thickness() -> None:
    rind = made("{<Body>} SUB {<Body>|-6}")
    radius = np.sqrt(X**2 + Y**2 + Z**2)
    assert rind[BALL & (radius > 16)].all()
    assert not rind[radius < 13].any()


def test_rule_7_the_published_ring_lies_between_its_margins() -> None:
    ring = made("{<PTV>|20} SUB {<PTV>|5}")
    axis = X[0, 0]
    inside = axis[ring[20, 20]]
    assert inside.min() == -30 and inside.max() == 30
    assert np.abs(inside).min() == 16  # 10 + 5 reaches the voxel at 14


def test_operators_run_from_left_to_right() -> None:
    assert (made("<PTV> OR <Body> SUB <Left side>") == ((BOX | BALL) & ~LEFT)).all()
    assert (made("<PTV> OR {<Body> SUB <Left side>}") == (BOX | (BALL & ~LEFT))).all()
    assert (made("<PTV> AND <Left side>") == (BOX & LEFT)).all()


def test_a_group_may_carry_its_own_margin() -> None:
    assert (made("{<PTV> AND <Left side>}|4") == with_margin(BOX & LEFT, GRID, (4.0,))).all()


def test_six_margins_are_left_right_superior_inferior_posterior_anterior() -> None:
    grown = made("<PTV>|2^4^6^8^10^12")
    reach = {
        "left": X[grown].max() - 10,
        "right": -X[grown].min() - 10,
        "superior": Z[grown].max() - 10,
        "inferior": -Z[grown].min() - 10,
        "posterior": Y[grown].max() - 10,
        "anterior": -Y[grown].min() - 10,
    }
    assert list(reach.values()) == [2, 4, 6, 8, 10, 12]


def test_six_negative_margins_shrink_each_side_by_its_own() -> None:
    shrunk = made("<PTV>|-2^-4^-6^-8^-4^-2")
    assert (X[shrunk].max(), X[shrunk].min()) == (8, -6)
    assert (Z[shrunk].max(), Z[shrunk].min()) == (4, -2)
    assert (Y[shrunk].max(), Y[shrunk].min()) == (6, -8)


@given(st.sampled_from([2.0, 3.0, 5.0, 8.0]))
def test_one_margin_and_six_equal_ones_agree(margin: float) -> None:
    assert (with_margin(BOX, GRID, (margin,)) == with_margin(BOX, GRID, (margin,) * 6)).all()
    assert (with_margin(BOX, GRID, (-margin,)) == with_margin(BOX, GRID, (-margin,) * 6)).all()


def test_margins_follow_the_patient_on_a_turned_grid() -> None:
    """Index axes reversed in x and y: the left margin still reaches to the patient's left."""
    turned = Grid(GRID.shape, GRID.spacing_mm, (40.0, 40.0, -40.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    grown = with_margin(BOX[:, ::-1, ::-1], turned, (6, 0, 0, 0, 0, 4))
    assert (grown[:, ::-1, ::-1] == with_margin(BOX, GRID, (6, 0, 0, 0, 0, 4))).all()


def test_what_lies_beyond_the_grid_is_outside_the_structure() -> None:
    everywhere = np.ones(GRID.shape, dtype=bool)
    assert not with_margin(everywhere, GRID, (-4.0,))[:2].any()


@pytest.mark.parametrize(
    "comment",
    ["", "<PTV> AND", "{<PTV>", "PTV", "<PTV>|x", "<PTV>|1^2", "<PTV> <Body>", "<PTV>}", "<PTV> XOR <Body>"],
)
def test_a_comment_outside_the_grammar_is_refused(comment: str) -> None:
    with pytest.raises(ValueError, match="structure comment"):
        made(comment)
