"""anydose predict and complete: a patient in, a dose or any other missing modality out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from anydose.model.options import Options

Patient = Annotated[
    Path, typer.Argument(help="A patient: an OpenKBP, DICOM or NIfTI folder, a GDP-HMM .npz.")
]
Model = Annotated[str, typer.Option(help="A shipped model's name or a .safetensors file.")]
Steps = Annotated[int, typer.Option(help="Network evaluations a sample, 1 to 50.")]
Seed = Annotated[int, typer.Option(help="Every seed starts from other noise.")]
Given = Annotated[str, typer.Option(help="Modalities to use, as ct,ptv,...; default: all there are.")]
Sampler = Annotated[str, typer.Option(help="ddim or dpm2m.")]
Looks = Annotated[
    int,
    typer.Option(
        "--looks", "--views", help="Augmented looks averaged in a sample (test-time augmentation): 1, 2 or 4."
    ),
]
Mimic = Annotated[
    bool,
    typer.Option(
        "--mimic/--no-mimic",
        "--reachable/--as-predicted",
        help="Move the dose towards what the beams can deliver, or keep the network's own.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Beams = Annotated[
    str, typer.Option(help="Beams instead of the plan's: a number of equispaced ones, or angles.")
]
Rx = Annotated[list[str] | None, typer.Option(help="A target's prescription, as PTV70=70; may be repeated.")]
Series = Annotated[list[str] | None, typer.Option(help="DICOM series to use where there are several.")]
Gaps = Annotated[bool, typer.Option(help="DICOM: interpolate one or two missing slices.")]


def predict(
    case: Patient,
    out: Annotated[Path, typer.Option(help="Folder for the dose, DVH, page and run record.")],
    model: Model = "compact-hn",
    steps: Steps = Options.steps,
    samples: Annotated[int, typer.Option(help="Doses to sample: more than one adds mean and spread.")] = 1,
    seed: Seed = 0,
    given: Given = "",
    sampler: Sampler = "ddim",
    looks: Looks = Options.looks,
    mimic: Mimic = Options.mimic,
    fast: Annotated[
        bool, typer.Option("--fast", help="One step, one sample, at most two looks, whatever else is asked.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Calibrated intervals: uncertainty.nii.gz, dvh_bands.csv.")
    ] = False,
    device: Device = "auto",
    beams: Beams = "",
    rx: Rx = None,
    series: Series = None,
    fill_gaps: Gaps = False,
    dose_grid: Annotated[
        str, typer.Option(help="RTDOSE: ct, reference or mm; default: the reference's, else 2.5.")
    ] = "",
    bits: Annotated[int, typer.Option(help="RTDOSE: 16 or 32 bits a voxel.")] = 32,
    anonymize: Annotated[bool, typer.Option(help="RTDOSE: nothing that names the patient.")] = False,
    placeholder_plan: Annotated[bool, typer.Option(help="RTDOSE: a beamless RTPLAN to refer to.")] = False,
) -> None:
    """Predict a patient's dose."""
    from anydose.deliver.dose import Dicom, predict_to

    if fast:
        steps, samples, looks = 1, 1, min(looks, 2)  # the second look: 0.05 Gy, 0.4 s (docs/results)
    options = sampling(steps, sampler, samples, seed, given, "dose", looks, mimic)
    read = {"series": series or (), "beams": beams or None, "rx": rx or (), "fill_gaps": fill_gaps}
    dicom = Dicom(dose_grid, bits, anonymize, placeholder_plan)
    with working(f"predicting {case.name}"):
        run = predict_to(case, out, model, options, device, read, dicom, uncertainty)
    say(run, out)


def complete(
    case: Patient,
    target: Annotated[str, typer.Option(help="ct, ptv, oar, body, beam, angle or dose.")],
    out: Annotated[Path, typer.Option(help="Folder for the modality, the completed patient and a page.")],
    model: Model = "compact-hn",
    steps: Steps = Options.steps,
    seed: Seed = 0,
    given: Given = "",
    sampler: Sampler = "ddim",
    looks: Looks = Options.looks,
    levels: Annotated[
        str, typer.Option(help="Prescribed Gy of a case that has no targets, as 70,63,56.")
    ] = "",
    device: Device = "auto",
    beams: Beams = "",
    rx: Rx = None,
    series: Series = None,
    fill_gaps: Gaps = False,
) -> None:
    """Generate one modality of a patient, missing or hidden, from the others."""
    from anydose.deliver.completion import complete_to

    options = sampling(steps, sampler, 1, seed, given, target, looks)
    read = {"series": series or (), "beams": beams or None, "rx": rx or (), "fill_gaps": fill_gaps}
    with working(f"completing {case.name}"):
        run = complete_to(case, out, model, options, _numbers(levels), device, read)
    for name, value in run["figures"].items():
        typer.echo(f"{name}: {value:g}")
    say(run, out)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"levels {text!r}: doses in Gy are accepted, as 70,63,56") from error


def sampling(
    steps: int,
    sampler: str,
    samples: int,
    seed: int,
    given: str,
    target: str,
    looks: int,
    mimic: bool = True,
) -> Options:
    """The options of a command line; given: modality names with commas between."""
    wanted = tuple(name.strip() for name in given.split(",") if name.strip())
    return Options(
        steps=steps,
        sampler=sampler,
        samples=samples,
        seed=seed,
        given=wanted,
        target=target,
        looks=looks,
        mimic=mimic,
    )


def say(run: dict[str, Any], out: Path) -> None:
    """What a run record holds for whoever waits at the terminal."""
    for sentence in run["inferred"]:
        typer.echo(f"inferred: {sentence}")
    for sentence in run.get("warnings", ()):
        typer.echo(f"warning: {sentence}")
    timing = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in run["seconds"].items())
    typer.echo(f"{out}: {', '.join(run['outputs'])} ({timing}, {run['peak_memory_mb']} MB)")


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on the terminal while something takes long; silent where there is no terminal."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
