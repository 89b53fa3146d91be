"""anydose prior: check and import public weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydose.cli.options import EACH_CORE, Device, Json, JsonLines, Out, takes
from anydose.cli.output import print_json, print_line, tell, write_result
from anydose.cli.words import Command, WritingCommand
from anydose.engine.engine import Engine

app = typer.Typer(
    name="prior", no_args_is_help=True, help="Check and import the weights of Wan 2.1 or MAISI."
)
Folder = Annotated[Path, typer.Argument(help="As its hub lays it out: Wan2.1-T2V-1.3B, NV-Generate-CT.")]
Vae = Annotated[Path | None, typer.Option(help="Wan's VAE as safetensors, where it lies elsewhere.")]


@app.command(cls=Command)
def check(
    folder: Folder,
    vae: Vae = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Say what a folder of weights holds, what is used and dropped, and the memory and time to expect."""
    from anydose.model.prior import load as prior

    found = prior.check(folder, vae, device)
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['prior']}: {found['used']} tensors used, {found['parameters'] / 1e6:.1f} M parameters"
    )
    typer.echo(f"dropped: {', '.join(found['dropped']) or 'nothing'}")
    typer.echo(f"new, from zero: {', '.join(found['new'])}")
    for file in found["files"]:
        typer.echo(f"{file['sha256']}  {file['bytes']:>11}  {file['file']}")
    e = found["expected"]
    typer.echo(
        f"on {e['device']} at {e['tflop_per_s']} TFLOP/s, {e['voxels']} voxels: {e['forward_s']} s a forward "
        f"pass, {e['inference_gb']} GB of weights in bfloat16, {e['training_gb']} GB to train in full"
    )
    for note in found["notes"]:
        typer.echo(note)


@app.command("import", cls=Command)
def import_(
    prior: Annotated[str, typer.Argument(help="wan or maisi.")],
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="Folder for model.safetensors, the start of a training.")],
    vae: Vae = None,
    compose: Annotated[
        bool, typer.Option(help="Wan: slot and depth turn together (exact for one slot).")
    ] = False,
    backbone: Annotated[str, typer.Option(help="MAISI: its unet, or its VAE under a dit.")] = "unet",
    bf16: Annotated[bool, typer.Option(help="Store bfloat16: half the bytes.")] = False,
    vocabulary: Annotated[
        str,
        typer.Option(help="Organs, a channel each: a cohort store, which records its own, a name or a file."),
    ] = "",
    organs_as: Annotated[
        str,
        typer.Option(help="channels, one an organ, or levels: all in one volume, as the paper draws them."),
    ] = "channels",
) -> None:
    """Turn public weights into an Any2Any model to train from."""
    from anydose.io.vocabularies import vocabulary_of
    from anydose.model.prior import load as priors

    organs = vocabulary_of(vocabulary).organs
    if prior not in ("wan", "maisi"):
        raise ValueError(f"prior {prior!r}: wan or maisi is accepted")
    if prior == "wan":
        record = priors.import_wan(
            folder, out, vae, compose=compose, bf16=bf16, organs=organs, organs_as=organs_as
        )
    else:
        record = priors.import_maisi(folder, out, backbone, bf16, organs, organs_as)
    counts = ", ".join(f"{n} tensors {what}" for what, n in record["tensors"].items())
    typer.echo(f"{out}/model.safetensors: {record['prior']}, {counts}")


@app.command(cls=Command)
@takes(Engine, "engine", panel="Many patients", start=EACH_CORE)
def encode(
    cohort: Annotated[Path, typer.Argument(help="A cohort store or a folder of drawn cases.")],
    model: Annotated[Path, typer.Argument(help="A model.safetensors; its codec encodes.")],
    views: Annotated[int, typer.Option(help="Crops and mirror images of each case.")] = 1,
    crop: Annotated[str, typer.Option(help="At most so many voxels, as 96,128,160; '' for all.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="What the codec runs in: fp32, bf16 or fp16.")] = "fp32",
    *,
    engine: Engine,
) -> None:
    """Write every case's latents once, so that training never runs the codec; resumes where it stopped.

    Disk, time and the error of the precision are measured on the first case and printed before. On several
    GPUs: torchrun --nproc-per-node N -m anydose.cli prior encode ...
    """
    from anydose.train import encode as encoding

    size = tuple(int(n) for n in crop.split(",") if n.strip().isdigit())
    if crop and len(size) != 3:
        raise ValueError(f"crop {crop!r}: three numbers of voxels along z, y, x are accepted, as 96,128,160")
    config = encoding.EncodeConfig(views=views, crop=size, precision=precision, device=device)
    cost = encoding.expected(cohort, model, config)
    typer.echo(
        f"{cohort}: {cost.cases} cases left, {cost.disk_gb:.2f} GB, {cost.hours:.1f} h for one process; "
        f"{precision} changes latents by {cost.error:.2%} (root mean square)",
        err=True,
    )
    done = sum(1 for _ in encoding.encode(cohort, model, config, engine))
    typer.echo(f"{cohort}: {done} files written")


@app.command("train-tiny", cls=WritingCommand)
def train_tiny(
    folder: Annotated[Path, typer.Argument(help="Folder for the prior, laid out as its release.")],
    form: Annotated[str, typer.Option(help="Whose: wan or maisi.")] = "wan",
    steps: Annotated[int, typer.Option(help="Steps of the VAE, and of the network.")] = 600,
    seed: Annotated[int, typer.Option(help="Of weights and pictures.")] = 0,
    losses: Out = None,
    as_json: Json = False,
) -> None:
    """Train a tiny prior of either form on procedural moving pictures: to try the whole chain with."""
    from anydose.model.prior import tiny, tiny_maisi

    if form not in ("wan", "maisi"):
        raise ValueError(f"form {form!r}: wan or maisi is accepted")
    result = (tiny if form == "wan" else tiny_maisi).train(folder, steps, seed, tell)
    write_result(result, losses)
    if as_json:
        print_json(result)


@app.command("size-check", cls=WritingCommand)
def size_check(
    tokens: Annotated[str, typer.Option(help="dense, sparse or both.")] = "both",
    modalities: Annotated[int, typer.Option(help="How many are visible, the dose with them.")] = 7,
    out: Out = None,
    as_json: JsonLines = False,
) -> None:
    """Build the 1.3B transformer in bfloat16 with random weights and time one forward pass at full size."""
    from anydose.model.prior.full_size import measure

    kinds = ("sparse", "dense") if tokens == "both" else (tokens,)
    rows = []
    for row in measure(kinds, modalities, tell):
        rows.append(row)
        write_result(rows, out)
        if as_json:
            print_line(row)
        else:
            typer.echo(", ".join(f"{name} {value}" for name, value in row.items()))
