"""anydose serve: the viewer in the browser, and the HTTP API behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from anydose.cli.options import Device
from anydose.cli.output import tell

TOKEN = "ANYDOSE_TOKEN"  # noqa: S105 - the name of a variable
GB = 1_000_000_000


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8765,
    data: Annotated[Path, typer.Option(help="Folder for uploads, queue and results.")] = Path("anydose-data"),
    node: Annotated[
        Path | None,
        typer.Option(help="Review the doses that the DICOM node of this YAML file holds, instead of DATA."),
    ] = None,
    device: Device = "auto",
    token_file: Annotated[
        Path | None, typer.Option(help=f"File that holds the token; else the variable {TOKEN}.")
    ] = None,
    keep_days: Annotated[
        float,
        typer.Option(help="Results, and uploads that no job needs, are removed then.", min=0.0),
    ] = 30.0,
    remove_released: Annotated[
        bool, typer.Option("--remove-released", help="Remove an upload as soon as its result is released.")
    ] = False,
    max_gb: Annotated[float, typer.Option(help="Largest upload of one patient, in GB.", min=0.001)] = 2.0,
) -> None:
    """Serve the viewer and its HTTP API."""
    try:
        from anydose.serve.config import read_config
        from anydose.serve.room import Room
        from anydose.serve.server import serve as run
        from anydose.serve.upload import Limits
    except ModuleNotFoundError as error:
        raise ValueError(f"anydose serve needs {error.name}: pip install 'anydose[serve]'") from error
    token = token_file.read_text(encoding="utf-8").strip() if token_file else os.environ.get(TOKEN, "")
    if token_file and not token:
        raise ValueError(f"{token_file}: empty; a token is accepted")
    limits = Limits(max_bytes=int(max_gb * GB), max_unpacked_bytes=int(2 * max_gb * GB))
    room = Room(data, limits, keep_days, remove_released)
    if node is not None:
        config = read_config(node)
        data, room = config.data, Room(config.data, limits, node_queue=config.queue_url)
    tell(f"http://{host}:{port} (data in {data}; {'with' if token else 'without'} a token)")
    run(room, host, port, token, device)
