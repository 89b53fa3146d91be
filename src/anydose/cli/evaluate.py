"""anydose evaluate and codec-check: a cohort in, scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anydose.cli.options import Cohort, Device, JsonLines, Limit, Model, Out, Split, takes
from anydose.cli.output import print_line, tell, write_result
from anydose.model.options import Options


@takes(Options, "options", without=("target",), panel="Sampling")
def evaluate(
    cohort: Cohort,
    split: Split = "validation",
    model: Model = "compact-hn",
    predictions: Annotated[
        Path | None, typer.Option(help="Score this folder's pt_N.csv instead of a model.")
    ] = None,
    device: Device = "auto",
    limit: Limit = 0,
    out: Out = None,
    as_json: JsonLines = False,
    *,
    options: Options,
) -> None:
    """Score a model, or somebody's predictions, on a cohort: OpenKBP dose and DVH score in Gy."""
    from anydose import evaluate as evaluation

    rows = evaluation.openkbp_split(
        cohort,
        split,
        model,
        predictions,
        options,
        device=device,
        limit=limit,
        on_case=tell,
    )
    write_result(rows, out)
    if as_json:
        for row in [*rows[1:], rows[0]]:
            print_line(row)
    else:
        typer.echo(summary(rows[0]))


def summary(row: dict[str, Any]) -> str:
    """The cohort's scores in one line."""
    return (
        f"{row['model']}, {row['split']}: dose score {row['dose_score']:.3f} Gy, DVH score "
        f"{row['dvh_score']:.3f} Gy ({row['patients']} patients, {row['seconds_per_case']:.1f} s a case)"
    )


def codec_check(
    cohort: Cohort,
    split: Split = "validation",
    codec: Annotated[str, typer.Option(help="Only this codec: identity:N, compact or a file.")] = "",
    limit: Limit = 0,
    out: Out = None,
    as_json: JsonLines = False,
) -> None:
    """Print each codec's own round trip of the true dose: what no model behind it can beat."""
    from anydose import evaluate as evaluation

    rows = []
    for row in evaluation.codec_round_trips(
        cohort, split, [codec] if codec else ["identity:2", "compact"], limit
    ):
        rows.append(row)
        if as_json:
            print_line(row)
        else:
            typer.echo(
                f"{row['codec']}: dose {row['dose_score']:.4f} Gy, DVH {row['dvh_score']:.4f} Gy, "
                f"stride {row['stride']}, compression {row['compression']:g}"
            )
    write_result(rows, out)
