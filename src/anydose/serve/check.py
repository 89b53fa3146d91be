"""What must be right before a node starts, and whether its destinations answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib import error as url_error
from urllib import request as url_request

from anydose.serve.config import Destination, NodeConfig
from anydose.serve.jobs import Jobs
from anydose.serve.predicting import refuse_other_weights
from anydose.serve.received import Received
from anydose.serve.send import NotSent, associate

VERIFICATION = "1.2.840.10008.1.1"


def refuse_wrong(config: NodeConfig) -> None:
    """Raises ValueError or OSError, one sentence, for a configuration that no node could run with."""
    refuse_other_weights(_weights(config.prediction.model), config.prediction.sha256)
    if config.prediction.looks == 3 or config.prediction.bits not in (16, 32):
        raise ValueError("prediction: 1, 2 or 4 looks and 16 or 32 bits are accepted")
    for path in (sender.names for sender in config.senders if sender.names):
        from anydose.case.names import NameMap

        NameMap.load(path)
    if config.tls is not None:
        config.tls.server()
    for place in config.destinations:
        place.trusted()
    if config.watch is not None and not config.watch.is_dir():
        raise ValueError(f"{config.watch}: no folder; one that exists is accepted as watch")
    config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    Received(config.data / "received", config.keep_free_gb).refuse_full()
    Jobs(config.queue_url)


def _weights(name: str) -> Path:
    """The file of a model, without the seconds that torch takes, which a restart would cost. ValueError if
    there is none."""
    for path in (Path(__file__).parent.parent / "weights" / f"{name}.safetensors", Path(name)):
        if path.is_file():
            return path
    from anydose.model.registry import find

    return find(name)


def answers(config: NodeConfig) -> Iterator[tuple[str, bool]]:
    """(a sentence, whether that is well) of the port and of every destination."""
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind((config.host, config.port))
            yield f"port {config.port} on {config.host}: free", True
        except OSError as error:
            yield f"port {config.port} on {config.host}: {(error.strerror or 'not to be had').lower()}", False
    for place in config.destinations:
        try:
            _greet(place, config)
            yield f"{place.name}: answers", True
        except NotSent as error:
            yield str(error), False


def _greet(place: Destination, config: NodeConfig) -> None:
    """C-ECHO, or a look at the DICOMweb root. Raises NotSent."""
    if place.url:
        try:
            asked = f"{place.url.rstrip('/')}/studies?limit=1"
            with url_request.urlopen(asked, timeout=10, context=place.trusted()):
                return
        except url_error.HTTPError as error:
            if error.code >= 500:
                raise NotSent(f"{place.name} answers {error.code}") from error
            return
        except OSError as error:
            raise NotSent(f"{place.name} does not answer") from error
    association = associate(place, config, VERIFICATION)
    status = association.send_c_echo().get("Status")
    association.release()
    if status != 0:
        raise NotSent(f"{place.name} answers C-ECHO with {status}")
