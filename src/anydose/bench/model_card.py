"""What the docs say of a model, written from its checkpoint and from results files alone: the model card and
the scores table of the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anydose.bench import markdown
from anydose.io.files import whole
from anydose.model.checkpoint import describe, stages, trained_targets
from anydose.model.weights import file_hash

COLUMNS = (
    "model",
    "sampler",
    "steps",
    "samples",
    "looks",
    "mimic",
    "dose_score",
    "dvh_score",
    "patients",
    "seconds_per_case",
    "train_examples",
    "train_minutes",
)
INTRODUCTION = """\
Research software, not for clinical use. Written by `anydose card` from the checkpoint's metadata and
docs/results."""
MEASURED = """\
OpenKBP, official arithmetic, Gy. Choices (steps, looks, dose mimicking) were made on these
validation patients; the 100 test patients were never looked at."""
LIMITS = """\
OpenKBP: A. Babier et al., Medical Physics 48, 2021. Its repository (ababier/open-kbp) carries an MIT
licence file; a secondary source states CC BY-NC-SA 4.0 for the data. Trained on head-and-neck IMRT with
nine equispaced coplanar fields, 70 / 63 / 56 Gy in 35 fractions, voxels of about 4 x 4 x 2.5 mm: other
sites, techniques, prescriptions or spacings are outside what the model has seen. A dose predicted here
has no plan behind it."""


def cohort_rows(results: Sequence[Path]) -> list[dict[str, Any]]:
    """The cohort rows of `anydose evaluate --json` files; ValueError for a file that holds none."""
    rows = []
    for path in results:
        found = [row for row in json.loads(path.read_text()) if "dose_score" in row]
        if not found:
            raise ValueError(
                f"{path}: no row with a dose_score; a file of `anydose evaluate --json` is needed"
            )
        rows += found
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table, best dose score first."""
    best_first = sorted(rows, key=lambda row: row["dose_score"])
    lines = ([markdown.cell(row.get(name, "")) for name in COLUMNS] for row in best_first)
    return markdown.table(COLUMNS, lines)


def into_readme(readme: Path, name: str, shown: str) -> None:
    """Put a table between the marks of that name in `readme`; ValueError without the marks."""
    text, begin, end = readme.read_text(), f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"{readme}: the marks {begin} and {end} are needed")
    head, _, rest = text.partition(begin)
    with whole(readme) as scratch:
        scratch.write_text(f"{head}{begin}\n{shown.rstrip()}\n{end}{rest.partition(end)[2]}")


def _stage(record: Mapping[str, Any]) -> str:
    recipe = record["recipe"]
    settings = ("accumulate", "crop", "optimiser", "learning_rate", "dvh", "clip", "ema", "seed")
    said = ", ".join(f"{k} {recipe[k]}" for k in settings if recipe.get(k))
    start = "" if not recipe["init"] or record.get("before") else f", started from {recipe['init']}"
    return (
        f"`{recipe['name']}`: {record['step']} steps ({said}), {record['seconds'] / 60:.0f} minutes, "
        f"{record['threads']} CPU threads{start}"
    )


def model_card(checkpoint: Path, rows: Sequence[dict[str, Any]]) -> str:
    """A model card in Markdown from a checkpoint's own metadata and the results measured with it."""
    about = describe(checkpoint)
    config, record = about["config"], about["record"]
    recipe, backbone = record["recipe"], config["backbone"]
    mine = [row for row in rows if row["model"] == checkpoint.stem]
    in_mirror = "keep" if config.get("keep_laterality") else "exchange"
    facts = {
        "Backbone": f"{backbone['kind']} {json.dumps({k: v for k, v in backbone.items() if k != 'kind'})}",
        "Codec": config["codec"],
        "May be given": ", ".join(config["modalities"]),
        "Trained to give": ", ".join(trained_targets(record, config["modalities"])),
        "In a mirror image, organs": f"{in_mirror} their names",
        "Trained on": f"{record['cases']} OpenKBP training patients",
        "Objective": f"{recipe['objective']}: " + ", ".join(f"{k} {v}" for k, v in recipe["task"].items()),
        "Budget": "; then ".join(_stage(stage) for stage in stages(record)),
        "File": f"{about['bytes'] / 1e6:.1f} MB, SHA-256 `{file_hash(checkpoint)}`",
    }
    lines = [f"# {checkpoint.stem}", "", INTRODUCTION, "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(
        [*lines, "", "## Measured", "", MEASURED, "", table(mine), "", "## Data and limits", "", LIMITS, ""]
    )
