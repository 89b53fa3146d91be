"""anydose predict and complete: a patient in, a dose or any other missing modality out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydose.cli.names import Name, Names, name_map
from anydose.cli.options import EACH_CORE, Device, DoseAbove, DoseUnit, JsonLines, Model, Patient, takes
from anydose.cli.output import is_quiet, print_line, tell, working
from anydose.engine.engine import Engine
from anydose.model.options import Options

if TYPE_CHECKING:
    from anydose.case.names import NameMap
    from anydose.deliver.cohort import Outcome, Request

Beams = Annotated[
    str, typer.Option(help="Beams instead of the plan's: a number of equispaced ones, or angles.")
]
Rx = Annotated[list[str] | None, typer.Option(help="A target's prescription, as PTV70=70; may be repeated.")]
Series = Annotated[
    list[str] | None,
    typer.Option(rich_help_panel="DICOM", help="DICOM series to use where there are several."),
]
Gaps = Annotated[
    bool, typer.Option(rich_help_panel="DICOM", help="DICOM: interpolate one or two missing slices.")
]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what the folder holds: another case's result, or else.")
]


@takes(Options, "options", without=("target",), panel="Sampling")
@takes(Engine, "engine", panel="Many patients", start=EACH_CORE)
def predict(
    cases: Annotated[
        list[Path],
        typer.Argument(help="A patient in any format; or several, or folders of them, for a cohort."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for dose, DVH, page and run record; of a cohort: one in it a case.")
    ],
    model: Model = "compact-hn",
    fast: Annotated[
        bool, typer.Option("--fast", help="One step, one sample and at most two looks, or it is refused.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Calibrated intervals: uncertainty.nii.gz, dvh_bands.csv.")
    ] = False,
    device: Device = "auto",
    beams: Beams = "",
    rx: Rx = None,
    series: Series = None,
    fill_gaps: Gaps = False,
    dose_unit: DoseUnit = "Gy",
    allow_dose_above: DoseAbove = None,
    names: Names = None,
    name: Name = None,
    dose_grid: Annotated[
        str,
        typer.Option(
            rich_help_panel="DICOM",
            help="RTDOSE: ct, reference or mm; default: the reference's, else the CT's voxels.",
        ),
    ] = "",
    bits: Annotated[int, typer.Option(rich_help_panel="DICOM", help="RTDOSE: 16 or 32 bits a voxel.")] = 32,
    anonymize: Annotated[
        bool, typer.Option(rich_help_panel="DICOM", help="RTDOSE: nothing that names the patient.")
    ] = False,
    placeholder_plan: Annotated[
        bool, typer.Option(rich_help_panel="DICOM", help="RTDOSE: a beamless RTPLAN to refer to.")
    ] = False,
    overwrite: Overwrite = False,
    zip: Annotated[
        Path | None,
        typer.Option(help="Of a cohort: one file with all doses, as GDP-HMM or OpenKBP take it."),
    ] = None,
    as_json: JsonLines = False,
    *,
    options: Options,
    engine: Engine,
) -> None:
    """Predict a patient's dose, or those of many patients; a cohort goes on where it stopped."""
    from anydose.deliver.cohort import Request
    from anydose.deliver.dose import predict_to
    from anydose.io.format import DoseOptions
    from anydose.io.sources import is_cohort
    from anydose.model import registry

    if fast:
        options = hastened(registry.options_for(options, model))
    read = _reading(
        series=series,
        beams=beams,
        rx=rx,
        fill_gaps=fill_gaps,
        dose_unit=dose_unit,
        allow_dose_above=allow_dose_above,
        names=name_map(names, name),
    )
    dicom = DoseOptions(grid=dose_grid, bits=bits, anonymize=anonymize, placeholder_plan=placeholder_plan)
    if zip is not None or len(cases) > 1 or is_cohort(cases[0]):
        request = Request(
            model=model,
            options=options,
            device=device,
            read=read,
            dicom=dicom,
            intervals=uncertainty,
            overwrite=overwrite,
        )
        _predict_many(cases, out, request, engine, as_json, zip)
        return
    with working(f"predicting {cases[0].name}"):
        run = predict_to(
            cases[0],
            out,
            model,
            options,
            device=device,
            read=read,
            dicom=dicom,
            intervals=uncertainty,
            overwrite=overwrite,
        )
    say(run, out, as_json)


def _predict_many(
    cases: list[Path], out: Path, request: Request, engine: Engine, as_json: bool, zip: Path | None
) -> None:
    """A line a case as it is done; exit code 2 if one failed."""
    from anydose.deliver.cohort import counts, predict_cohort

    def told(outcome: Outcome) -> None:
        if as_json:
            print_line(outcome.line())
        else:
            typer.echo(f"{outcome.case}: {outcome.state} {outcome.why}".rstrip())

    outcomes = predict_cohort(cases, out, request, engine=engine, on_case=told)
    tell(f"{out}: {', '.join(counts(outcomes))}")
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(2)
    if zip is not None:
        from anydose.deliver.submission import write_submission

        tell(f"{zip}: {len(write_submission(outcomes, out, zip))} doses")


@takes(Options, "options", without=("target", "samples", "mimic"), panel="Sampling")
def complete(
    case: Patient,
    target: Annotated[str, typer.Option(help="ct, ptv, oar, body, beam, angle or dose.")],
    out: Annotated[Path, typer.Option(help="Folder for the modality, the completed patient and a page.")],
    model: Model = "compact-hn",
    levels: Annotated[
        str, typer.Option(help="Prescribed Gy of a case that has no targets, as 70,63,56.")
    ] = "",
    device: Device = "auto",
    beams: Beams = "",
    rx: Rx = None,
    series: Series = None,
    fill_gaps: Gaps = False,
    dose_unit: DoseUnit = "Gy",
    allow_dose_above: DoseAbove = None,
    names: Names = None,
    name: Name = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Write, with a mark, what is no better than having no model."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: JsonLines = False,
    *,
    options: Options,
) -> None:
    """Generate one modality of a patient, missing or hidden, from the others."""
    from anydose.deliver.completion import complete_to

    options = replace(options, target=target)
    read = _reading(
        series=series,
        beams=beams,
        rx=rx,
        fill_gaps=fill_gaps,
        dose_unit=dose_unit,
        allow_dose_above=allow_dose_above,
        names=name_map(names, name),
    )
    with working(f"completing {case.name}"):
        run = complete_to(
            case,
            out,
            model,
            options,
            levels_gy=_numbers(levels),
            device=device,
            read=read,
            anyway=anyway,
            overwrite=overwrite,
        )
    say(run, out, as_json)


def _reading(
    *,
    series: list[str] | None,
    beams: str,
    rx: list[str] | None,
    fill_gaps: bool,
    dose_unit: str,
    allow_dose_above: float | None,
    names: NameMap | None,
) -> dict[str, Any]:
    """The keywords of `read_case` that the options mean."""
    return {
        "series": series or (),
        "beams": beams or None,
        "rx": rx or (),
        "fill_gaps": fill_gaps,
        "names": names,
        "dose_unit": dose_unit,
        "allow_dose_above": allow_dose_above,
    }


def hastened(options: Options) -> Options:
    """The options, as far as they are fast ones. A second look costs 0.4 s and is worth 0.05 Gy. ValueError
    if more than one step or sample, or more than two looks, was asked for."""
    if options.steps > 1 or options.samples > 1 or options.looks > 2:
        asked = f"{options.steps} steps, {options.samples} samples and {options.looks} looks"
        raise ValueError(f"--fast with {asked}: one step, one sample and at most two looks are accepted")
    return options


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"levels {text!r}: doses in Gy are accepted, as 70,63,56") from error


def say(run: dict[str, Any], out: Path, as_json: bool = False) -> None:
    """What a run record holds for whoever waits at the terminal; with --json the record itself on one line,
    without the hashes of its inputs."""
    from anydose.case.naming import table

    if as_json:
        print_line({"out": str(out)} | {name: value for name, value in run.items() if name != "inputs"})
        return
    for name, value in run.get("figures", {}).items():
        typer.echo(f"{name}: {value:g}")
    for line in () if is_quiet() else table.lines(run.get("structures", ())):
        typer.echo(line)
    for sentence in () if is_quiet() else run["inferred"]:
        typer.echo(f"inferred: {sentence}")
    for sentence in run.get("warnings", ()):
        typer.echo(f"warning: {sentence}")
    timing = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in run["seconds"].items())
    typer.echo(f"{out}: {', '.join(run['outputs'])} ({timing}, {run['peak_memory_mb']} MB)")
