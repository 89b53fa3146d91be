"""Pulling studies: a PACS is asked which it has (C-FIND) and told to send them here (C-MOVE), where they come
in as any others do."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pydicom import Dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind as FIND,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove as MOVE,
)

from anydose.serve.config import Destination, NodeConfig
from anydose.serve.send import NotSent, associate

log = logging.getLogger(__name__)
PENDING = (0xFF00, 0xFF01)
WARNING = 0xB000  # some objects could not be sent


@dataclass(frozen=True)
class Pulled:
    """What became of one study."""

    uid: str
    objects: int
    """That the PACS says it sent."""
    failed: int
    """That it could not send."""


def pull(config: NodeConfig, place: Destination, study: str = "", patient: str = "") -> list[Pulled]:
    """Have the studies of a StudyInstanceUID or a PatientID sent to this node, which must be running and have
    the PACS among its senders.

    Raises:
        ValueError: the place is no DICOM peer, both or none of study and patient are given, or it has no such
            study.
        NotSent: the PACS does not answer, or refuses.
    """
    if place.ae is None:
        raise ValueError(f"{place.name}: C-FIND and C-MOVE need an ae, host and port")
    if bool(study) == bool(patient):
        raise ValueError("either a study or a patient is accepted")
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.StudyInstanceUID, asked.PatientID = study, patient
    found = _found(config, place, asked)
    if not found:
        raise ValueError(f"{place.name}: no such study")
    return [_moved(config, place, uid) for uid in found]


def _found(config: NodeConfig, place: Destination, asked: Dataset) -> list[str]:
    association = associate(place, config, FIND)
    try:
        answers = list(association.send_c_find(asked, FIND))
    finally:
        association.release()
    _refuse_failure(place, "C-FIND", answers[-1][0] if answers else Dataset())
    return [
        str(one.StudyInstanceUID) for status, one in answers if one is not None and status.Status in PENDING
    ]


def _moved(config: NodeConfig, place: Destination, uid: str) -> Pulled:
    which = Dataset()
    which.QueryRetrieveLevel, which.StudyInstanceUID = "STUDY", uid
    association = associate(place, config, MOVE)
    last = Dataset()
    try:
        for last, _ in association.send_c_move(which, config.ae, MOVE):  # noqa: B007  (the last one counts)
            pass
    finally:
        association.release()
    _refuse_failure(place, "C-MOVE", last)
    log.info("study pulled", extra={"about": {"from": place.name}})
    return Pulled(
        uid,
        int(last.get("NumberOfCompletedSuboperations", 0)),
        int(last.get("NumberOfFailedSuboperations", 0)),
    )


def _refuse_failure(place: Destination, what: str, status: Dataset) -> None:
    code = status.get("Status")
    if code is None:
        raise NotSent(f"{place.name} answers {what} with nothing")
    if code not in (0, WARNING):
        raise NotSent(f"{place.name} answers {what} with 0x{code:04X}")
