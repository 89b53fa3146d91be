"""Docs written from measurements: the table's order and values, and that nothing else of the README moves."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anydose.bench import model_card as card
from anydose.bench.markdown import tables
from anydose.cli import app as cli
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import budget, describe, export, save_model, stages
from anydose.model.network.unet import UNetConfig

REPOSITORY = Path(__file__).parents[2]
TINY = ModelConfig(UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16))
RECORD = {
    "recipe": {
        "name": "second", "accumulate": 4,
        "task": {"at_one": 0.5}, "objective": "diffusion", "learning_rate": 1e-3, "clip": 1.0,
        "ema": 0.9, "seed": 0,
        "init": "runs/first/model.safetensors",
    },
    "step": 7, "seconds": 120.0, "cases": 3, "threads": 2,
}  # fmt: skip
FIRST = {**RECORD, "recipe": {**RECORD["recipe"], "name": "first", "init": ""}, "step": 5, "seconds": 600.0}


def results(path, *scores):
    rows = [
        {"model": f"m{k}", "dose_score": s, "dvh_score": s / 2, "patients": 40} for k, s in enumerate(scores)
    ]
    path.write_text(json.dumps([rows[0], {"patient": "pt_1", "dose_error": 1.0}, *rows[1:]]))
    return path


def test_the_readme_s_table_is_replaced_and_the_rest_is_kept(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- scores:begin -->\nold\n<!-- scores:end -->\nafter\n")
    rows = card.cohort_rows([results(tmp_path / "r.json", 3.25, 2.5)])
    card.into_readme(readme, "scores", card.table(rows))
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.index("| m1 |") < text.index("| m0 |")  # best first
    assert "2.50 | 1.25 | 40" in text


def test_missing_marks_or_scores_are_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="marks"):
        card.into_readme(tmp_path / "README.md", "scores", "")
    (tmp_path / "r.json").write_text('[{"patient": "pt_1"}]')
    with pytest.raises(ValueError, match="dose_score"):
        card.cohort_rows([tmp_path / "r.json"])


def test_a_card_says_what_the_checkpoint_says_and_export_halves_it(tmp_path):
    save_model(Any2Any(TINY), tmp_path / "run.safetensors", RECORD)
    export(tmp_path / "run.safetensors", tmp_path / "m0.safetensors")
    assert describe(tmp_path / "m0.safetensors")["record"] == RECORD
    assert (tmp_path / "m0.safetensors").stat().st_size < 0.7 * (tmp_path / "run.safetensors").stat().st_size
    text = card.model_card(
        tmp_path / "m0.safetensors", card.cohort_rows([results(tmp_path / "r.json", 3.0, 2.0)])
    )
    for words in (
        "`second`: 7 steps (accumulate 4, learning_rate 0.001, clip 1.0, ema 0.9), 2 minutes, 2 CPU threads, "
        "started from runs/first",
        "at_one 0.5",
        "3 OpenKBP",
        "| m0 |",
    ):
        assert words in text
    assert "| m1 |" not in text


def test_the_budget_counts_every_stage():
    both = {**RECORD, "before": FIRST}
    assert [stage["recipe"]["name"] for stage in stages(both)] == ["first", "second"]
    assert budget(both) == {"train_examples": 4 * 7 + 4 * 5, "train_minutes": 12}


def test_rows_of_any_benchmark_are_tables_by_their_columns():
    rows = [{"bench": "b", "a": 1.234, "n": 3}, {"bench": "b", "a": 2.0, "n": 4}, {"said": ["x", "y"]}]
    assert tables(rows).splitlines() == [
        "| a | n |",
        "| --- | --- |",
        "| 1.23 | 3 |",
        "| 2.00 | 4 |",
        "",
        "| said |",
        "| --- |",
        "| x; y |",
    ]


@pytest.mark.parametrize("page", ["README.md", "docs/results/index.md"])
def test_tables_and_card_are_what_their_command_writes(tmp_path, page):
    results = sorted((REPOSITORY / "docs/results").glob("compact-hn*.json"))
    results += sorted((REPOSITORY / "docs/results").glob("budget-*.json"))
    copy = Path(shutil.copy(REPOSITORY / page, tmp_path))
    command = ["card", *map(str, results), "--out", str(tmp_path / "card.md"), "--readme", str(copy)]
    if "<!-- ablation:begin -->" in copy.read_text():
        command += ["--ablation", str(REPOSITORY / "docs/results/ablation.json")]
    assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert copy.read_text() == (REPOSITORY / page).read_text()
    assert (tmp_path / "card.md").read_text() == (REPOSITORY / "docs/models/compact-hn.md").read_text()
