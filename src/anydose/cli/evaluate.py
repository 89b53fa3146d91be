"""anydose evaluate and codec-check: a cohort in, scores out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydose.cli.names import Name, Names, name_map
from anydose.cli.options import EACH_CORE, Cohort, Device, JsonLines, Limit, Model, Out, Split, takes
from anydose.cli.output import print_line, tell, write_result
from anydose.engine.engine import Engine
from anydose.model.options import Options

if TYPE_CHECKING:
    from anydose.score.cohort_scores import Evaluation


@takes(Options, "options", without=("target",), panel="Sampling")
@takes(Engine, "engine", panel="Many patients", start=EACH_CORE)
def evaluate(
    cohort: Cohort,
    split: Split = "validation",
    model: Model = "compact-hn",
    predictions: Annotated[
        Path | None, typer.Option(help="Score this folder's pt_N.csv instead of a model.")
    ] = None,
    device: Device = "auto",
    limit: Limit = 0,
    metrics: Annotated[
        str, typer.Option(help="Any of openkbp, gdphmm, paper (MAE, Score, PSNR, SSIM, LPIPS), with commas.")
    ] = "openkbp",
    splits: Annotated[
        Path | None,
        typer.Option(
            help="CSV (case, split) or YAML (split: [cases]); --split names one, or all for a "
            "cross-validation, in which {split} in --model stands for each case's own."
        ),
    ] = None,
    versus: Annotated[
        str, typer.Option(help="A second model (name or file) on the same cases: paired differences.")
    ] = "",
    tables: Annotated[
        Path | None,
        typer.Option(help="Folder for tables, page and each case's scores; a run goes on there."),
    ] = None,
    lpips: Annotated[
        tuple[Path, Path] | None, typer.Option(help="LPIPS too: your AlexNet and LPIPS head weights (.pth).")
    ] = None,
    names: Names = None,
    name: Name = None,
    out: Out = None,
    as_json: JsonLines = False,
    *,
    options: Options,
    engine: Engine,
) -> None:
    """Score a model, or somebody's predictions, on a cohort in any format: OpenKBP's scores, or others."""
    from anydose.evaluate import evaluate as score_cohort
    from anydose.evaluate import openkbp_split
    from anydose.io.gdphmm_meta import is_cohort as is_challenge
    from anydose.io.openkbp import is_dataset

    known = name_map(names, name)
    more = (metrics != "openkbp", splits, tables, lpips, versus, known)
    if is_dataset(cohort) and not any(more):
        rows = openkbp_split(
            cohort,
            split,
            model,
            predictions,
            options,
            device=device,
            limit=limit,
            on_case=tell,
            engine=engine,
        )
        _show_openkbp(rows, out, as_json)
        return

    has_splits = splits is not None or is_dataset(cohort) or is_challenge(cohort)

    def scored(by: str, doses: Path | None, folder: Path | None) -> Evaluation:
        return score_cohort(
            cohort,
            by,
            metrics=[word.strip() for word in metrics.split(",")],
            split=split if has_splits else "",
            splits=splits,
            predictions=doses,
            options=options,
            device=device,
            lpips=lpips,
            limit=limit,
            folder=folder,
            names=known,
            engine=engine,
            on_case=tell,
        )

    found = scored(model, predictions, tables)
    if versus:
        second = scored(versus, None, tables and tables / "versus")
        _show_both(found, second, tables, out, as_json)
    else:
        _show(found, tables, out, as_json)


def _show_openkbp(rows: list[dict[str, Any]], out: Path | None, as_json: bool) -> None:
    """The challenge's two scores; rows: the cohort's, then one a patient."""
    write_result(rows, out)
    if not as_json:
        typer.echo(summary(rows[0]))
        return
    for row in [*rows[1:], rows[0]]:
        print_line(row)


def _show(found: Evaluation, tables: Path | None, out: Path | None, as_json: bool) -> None:
    """The cohort's figures; exit code 2 if a case failed."""
    from anydose.deliver.evaluation import write_evaluation

    means = found.summary()
    if tables is not None:
        tell(f"{tables}: {', '.join(write_evaluation(found, tables))}")
    write_result(found.to_json(), out)
    if as_json:
        print_line(found.to_json())
    else:
        for name, value in means.items():
            typer.echo(f"{name}: {value}")
    _fail(found.failed)


def _show_both(
    first: Evaluation, second: Evaluation, tables: Path | None, out: Path | None, as_json: bool
) -> None:
    """Two models on the cases that both have; exit code 2 if a case failed."""
    from anydose.deliver.evaluation import write_evaluation
    from anydose.score.cohort_scores import paired_models

    failed = {**first.failed, **second.failed}
    both = {case.case for case in first.cases} & {case.case for case in second.cases}
    first, second = first.of(both), second.of(both)
    paired = paired_models(first, second)
    if tables is not None:
        tell(f"{tables}: {', '.join(write_evaluation(first, tables))}; versus: the second model's")
        write_evaluation(second, tables / "versus")
    names = [str(found.about["model"]) for found in (first, second)]
    result = {"first": names[0], "second": names[1], "patients": len(both), "paired": paired}
    write_result(result, out)
    if as_json:
        print_line(result)
    else:
        typer.echo(f"{names[1]} minus {names[0]}, {len(both)} cases")
        for name, row in paired.items():
            interval = f"95 % {row['low']:+.4f} to {row['high']:+.4f}, Wilcoxon p {row['p']:.2g}"
            typer.echo(
                f"{name}: {row['first']:.4f}, {row['second']:.4f}; {row['difference']:+.4f} ({interval})"
            )
    _fail(failed)


def _fail(failed: Mapping[str, str]) -> None:
    """Exit code 2 if there is a case that failed, each with why."""
    for name, why in failed.items():
        typer.echo(f"{name}: {why}", err=True)
    if failed:
        raise typer.Exit(2)


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
    from anydose.bench import round_trip

    rows = []
    for row in round_trip.codec_round_trips(
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
