"""Sending results by C-STORE or STOW-RS: every object is acknowledged by every place once.

If a node dies before it has noted an acknowledgement, the object is sent again, with the same UID (see
serve/outgoing.py), so that it is the same object to whoever receives it."""

from __future__ import annotations

import logging
import time
import uuid
from io import BytesIO
from urllib import error as url_error
from urllib import request as url_request

from pydicom import Dataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from anydose.serve.config import Destination, NodeConfig
from anydose.serve.jobs import RELEASED, Job, Jobs
from anydose.serve.outgoing import outgoing
from anydose.serve.predicting import result_folder
from anydose.serve.work import heard

log = logging.getLogger(__name__)
OWNER = "node: delivery"
LONGEST_WAIT_S = 3600.0
PATIENCE_S = 60.0


class NotSent(Exception):
    """A place did not take an object; perhaps later."""


def deliver_next(config: NodeConfig, jobs: Jobs) -> Job | None:
    """Take a released job and send what was not acknowledged yet; None if there is none."""
    job = jobs.take(OWNER, RELEASED)
    if job is None:
        return None
    try:
        with heard(jobs, job, OWNER):
            _deliver(config, jobs, job)
    except NotSent as error:
        _later(config, jobs, job, str(error))
    except (ValueError, OSError, AttributeError) as error:
        jobs.fail(job.id, OWNER, f"the result cannot be sent: {type(error).__name__}")
        log.error("delivery failed: %s", type(error).__name__, extra={"about": {"job": job.id}})
    else:
        jobs.finish(job.id, OWNER)
        log.info("job done", extra={"about": {"job": job.id}})
    return job


def _deliver(config: NodeConfig, jobs: Jobs, job: Job) -> None:
    places, done = {place.name: place for place in config.destinations}, jobs.acknowledged(job.id)
    for dataset in outgoing(result_folder(config, job), job.id, config.secondary_capture):
        uid = str(dataset.SOPInstanceUID)
        for name in (name for name in job.send_to if (name, uid) not in done):
            if name not in places:
                raise NotSent(f"{name}: no destination of that name is configured any more")
            send(dataset, places[name], config)
            jobs.sent(job.id, OWNER, name, uid)
            log.info("object sent", extra={"about": {"job": job.id, "to": name, "uid": uid}})


def _later(config: NodeConfig, jobs: Jobs, job: Job, why: str) -> None:
    """Put a delivery off, each time for longer, and give it up in the end."""
    wait_s = min(config.retry_s * 2 ** min(job.attempts - 1, 20), LONGEST_WAIT_S)
    if time.time() - (job.finished or job.created) > config.give_up_h * 3600:
        jobs.fail(job.id, OWNER, f"not delivered within {config.give_up_h:g} h: {why}")
    else:
        jobs.put_off(job.id, OWNER, why, wait_s)
    log.warning("not sent: %s", why, extra={"about": {"job": job.id, "attempt": job.attempts}})


def send(dataset: Dataset, place: Destination, config: NodeConfig) -> None:
    """Send one object. Raises NotSent unless it was acknowledged."""
    if place.url:
        _stow(dataset, place)
    else:
        _store(dataset, place, config)


def associate(place: Destination, config: NodeConfig, sop_class: str) -> Association:
    """An association with a C-STORE place for one class. Raises NotSent if there is none."""
    entity = AE(ae_title=config.ae)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE_S
    entity.connection_timeout = 10.0
    entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, "1.2.840.10008.1.2"])
    tls = (config.tls.client(), place.host) if place.tls and config.tls else None
    association = entity.associate(place.host, place.port, ae_title=str(place.ae), tls_args=tls)
    if association.is_established:
        return association
    why = "refuses the association" if association.is_rejected else "does not answer"
    raise NotSent(f"{place.name} {why}")


def _store(dataset: Dataset, place: Destination, config: NodeConfig) -> None:
    association = associate(place, config, str(dataset.SOPClassUID))
    try:
        status = association.send_c_store(dataset)
    except (ValueError, RuntimeError) as error:
        raise NotSent(f"{place.name} takes no {dataset.Modality} ({type(error).__name__})") from error
    finally:
        association.release()
    code = status.get("Status")
    if code is None or not (code == 0 or 0xB000 <= code <= 0xBFFF):
        raise NotSent(f"{place.name} answers {'nothing' if code is None else f'0x{code:04X}'}")


def _stow(dataset: Dataset, place: Destination) -> None:
    """PS3.18 10.5, one instance a request; 409 with the instance among those that failed is no success."""
    body, boundary = BytesIO(), uuid.uuid4().hex
    body.write(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode())
    encoded = BytesIO()
    dcmwrite(encoded, dataset, enforce_file_format=True)
    body.write(encoded.getvalue() + f"\r\n--{boundary}--\r\n".encode())
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    if place.token_file is not None:
        headers["Authorization"] = f"Bearer {place.token_file.read_text().strip()}"
    asked = url_request.Request(f"{place.url.rstrip('/')}/studies", body.getvalue(), headers, method="POST")
    try:
        with url_request.urlopen(asked, timeout=PATIENCE_S, context=place.trusted()) as answer:
            code = answer.status
    except url_error.HTTPError as error:
        raise NotSent(f"{place.name} answers {error.code}") from error
    except OSError as error:
        raise NotSent(f"{place.name} does not answer") from error
    if code != 200:
        raise NotSent(f"{place.name} answers {code}")
