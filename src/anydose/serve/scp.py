"""What peers meet: C-ECHO and C-STORE, for those on the list alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from anydose.serve.config import NodeConfig, Sender
from anydose.serve.outgoing import SECONDARY_CAPTURE
from anydose.serve.received import CLASSES, NotDicom, Received

log = logging.getLogger(__name__)
SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"]
"""Explicit and implicit little endian, deflated, RLE: what is read without another library."""
SUCCESS, NOT_AUTHORISED, NO_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0x0124, 0xA700, 0xC000
PATIENCE_S = 60.0
"""A peer that says nothing for so long is cut off."""


def listen(
    config: NodeConfig, received: Received, on_object: Callable[[str], None]
) -> ThreadedAssociationServer:
    """Open the port and return the server, which has threads of its own. on_object is told each object's
    study. Raises OSError if the port cannot be opened."""
    entity = AE(ae_title=config.ae)
    entity.require_called_aet = True
    entity.require_calling_aet = [sender.ae for sender in config.senders]
    entity.maximum_associations = config.most_associations
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE_S
    entity.add_supported_context(Verification)
    for uid in (*CLASSES, SECONDARY_CAPTURE):  # our own page may come back with its study
        entity.add_supported_context(uid, SYNTAXES)

    def echo(event: Any) -> int:
        return SUCCESS if _sender(config, event) else NOT_AUTHORISED

    def store(event: Any) -> int:
        sender = _sender(config, event)
        if sender is None:
            return NOT_AUTHORISED
        try:
            on_object(received.add(event.encoded_dataset(), sender))
        except NotDicom as error:
            log.warning("object refused: %s", error, extra={"about": {"sender": sender.ae}})
            return NOT_UNDERSTOOD
        except (OSError, MemoryError) as error:
            why = type(error).__name__ if isinstance(error, MemoryError) else _plain(error)
            log.error("object not received: %s", why, extra={"about": {"sender": sender.ae}})
            return NO_RESOURCES
        return SUCCESS

    handlers: list[Any] = [(evt.EVT_C_ECHO, echo), (evt.EVT_C_STORE, store)]
    context = config.tls.server() if config.tls else None
    where = (config.host, config.port)
    server = entity.start_server(where, block=False, evt_handlers=handlers, ssl_context=context)
    assert isinstance(server, ThreadedAssociationServer)
    return server


def _sender(config: NodeConfig, event: Any) -> Sender | None:
    """Who sends, if that address may use that title."""
    ae, address = str(event.assoc.requestor.ae_title).strip(), str(event.assoc.requestor.address)
    sender = config.sender(ae)
    if sender is None or not sender.may_call_from(address):
        log.warning("not on the list", extra={"about": {"sender": ae, "address": address}})
        return None
    return sender


def _plain(error: OSError) -> str:
    return error.strerror or str(error)
