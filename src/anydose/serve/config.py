"""The one YAML file of a DICOM node: who may send, what is predicted and how, where it goes."""

from __future__ import annotations

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

AETitle = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~]{1,16}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,60}$")]
FOLDER_SENDER = "FOLDER"  # what the watched folder is called among the senders


class Part(BaseModel):
    """A part of the file: an unknown word in it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TLS(Part):
    """Files in PEM form."""

    certificate: Path
    """Of this node."""
    key: Path
    """Its private key."""
    authority: Path | None = None
    """Who has signed the peers' certificates; with it a peer without one is refused."""

    def server(self) -> ssl.SSLContext:
        """For associations that peers open. OSError or ValueError for files that are none."""
        return self._loaded(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.CERT_REQUIRED)

    def client(self) -> ssl.SSLContext:
        """For associations that the node opens; the peer's certificate must be signed by `authority`, and a
        host's name is not looked at, as DICOM peers are addresses."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        context.check_hostname = False
        return self._loaded(context, ssl.CERT_REQUIRED)

    def _loaded(self, context: ssl.SSLContext, mode: ssl.VerifyMode) -> ssl.SSLContext:
        for path in filter(None, (self.certificate, self.key, self.authority)):
            if not path.is_file():
                raise ValueError(f"{path}: not found; a file in PEM form is accepted")
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.authority is not None:
                context.load_verify_locations(self.authority)
                context.verify_mode = mode
        except ssl.SSLError as error:
            raise ValueError(
                f"{self.certificate}: certificate and key do not load ({error.reason})"
            ) from error
        return context


class Sender(Part):
    """A peer that may send studies."""

    ae: AETitle
    """Its AE title, or FOLDER for the watched folder."""
    addresses: list[str] = Field(default=["127.0.0.1", "::1"])
    """Addresses or networks that it calls from, as 10.1.2.0/24."""
    names: Path | None = None
    """Its structures' names, a file by `anydose names --save`."""
    hold: bool = True
    """Whether a person releases each result before it is sent."""
    send_to: list[Word] = Field(default_factory=list)
    """Destinations of its results, by name; none: nothing is sent."""

    @model_validator(mode="after")
    def _are_addresses(self) -> Sender:
        for text in self.addresses:
            ipaddress.ip_network(text, strict=False)
        return self

    def may_call_from(self, address: str) -> bool:
        """Whether an address is one of its own."""
        try:
            here = ipaddress.ip_address(address.removeprefix("::ffff:"))
        except ValueError:
            return False
        return any(here in ipaddress.ip_network(text, strict=False) for text in self.addresses)


class Destination(Part):
    """Where results are sent: by C-STORE (ae, host, port) or by STOW-RS (url)."""

    name: Word
    ae: AETitle | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=104, ge=1, le=65535)
    tls: bool = False
    """C-STORE with the node's own certificate."""
    url: str = ""
    """DICOMweb root, as https://pacs/dicom-web."""
    token_file: Path | None = None
    """A file that holds a bearer token for the URL."""
    authority: Path | None = None
    """Who has signed the certificate of an https URL, in PEM form; without it, whom the system trusts."""

    @model_validator(mode="after")
    def _one_way(self) -> Destination:
        if (self.ae is None) == (not self.url):
            raise ValueError(f"destination {self.name}: either ae, host and port, or url is accepted")
        if self.url and not re.match(r"https?://", self.url):
            raise ValueError(f"destination {self.name}: a url that begins with https:// is accepted")
        return self

    def trusted(self) -> ssl.SSLContext:
        """For the URL. ValueError for an authority that is none."""
        try:
            return ssl.create_default_context(cafile=self.authority)
        except OSError as error:  # of which an SSLError is one
            raise ValueError(f"{self.authority}: a file of certificates in PEM form is accepted") from error


class Prediction(Part):
    """How every study is predicted."""

    model: str = "compact-hn"
    """A shipped model's name or a checkpoint's path."""
    sha256: str = ""
    """The hash of its weights; with it any other file of that name is refused."""
    device: str = "auto"
    looks: int = Field(default=2, ge=1, le=4)
    mimic: bool | None = None
    uncertainty: bool = False
    bits: int = 32
    """Bits a voxel of the RTDOSE, 16 or 32."""
    placeholder_plan: bool = False
    fill_gaps: bool = False


class NodeConfig(Part):
    """The whole file."""

    data: Path
    """The node's own folder: received objects, predictions, queue and logs."""
    ae: AETitle = "ANYDOSE"
    host: str = "127.0.0.1"
    """The address that is listened on; 0.0.0.0 for all."""
    port: int = Field(default=11112, ge=1, le=65535)
    tls: TLS | None = None
    queue: str = ""
    """The queue's URL; without one, a SQLite file in `data`."""
    senders: list[Sender] = Field(min_length=1)
    destinations: list[Destination] = Field(default_factory=list)
    prediction: Prediction = Prediction()
    watch: Path | None = None
    """A folder whose DICOM files are taken in, and removed from it."""
    settle_s: float = Field(default=5.0, ge=0.1)
    """A study whose references are satisfied is complete after so long without another object."""
    quiet_s: float = Field(default=120.0, ge=0.1)
    """Any study is complete after so long without another object."""
    secondary_capture: bool = True
    """Send the page of every prediction beside its RTDOSE."""
    retry_s: float = Field(default=30.0, ge=0.1)
    """Wait before the second try of a delivery; doubled each time, at most an hour."""
    give_up_h: float = Field(default=72.0, gt=0)
    """A delivery that did not succeed for so long has failed."""
    keep_days: float = Field(default=30.0, gt=0)
    """Patients' data of jobs that are done or failed are removed after so long."""
    remove_delivered: bool = False
    """Remove them as soon as a result was delivered; a study that comes again is predicted again."""
    keep_free_gb: float = Field(default=2.0, ge=0)
    """Nothing is received while the disk has less free."""
    most_attempts: int = Field(default=5, ge=1)
    """A study that ended its worker so often is failed."""
    most_associations: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> NodeConfig:
        known = {place.name for place in self.destinations}
        titles = [sender.ae for sender in self.senders]
        if len(known) < len(self.destinations) or len(set(titles)) < len(titles):
            raise ValueError(
                "senders by different AE titles and destinations by different names are accepted"
            )
        for sender in self.senders:
            missing = sorted(set(sender.send_to) - known)
            if missing:
                raise ValueError(f"sender {sender.ae}: no destination is called {missing[0]}")
        if any(place.tls for place in self.destinations) and self.tls is None:
            raise ValueError("a destination with tls: the node's own tls is needed as well")
        if self.watch is not None and FOLDER_SENDER not in titles:
            raise ValueError(f"watch: a sender of the ae {FOLDER_SENDER} says what its studies are used for")
        return self

    @property
    def queue_url(self) -> str:
        """Where the queue lies."""
        return self.queue or f"sqlite:///{self.data.resolve()}/jobs.db"

    def sender(self, ae: str) -> Sender | None:
        """The sender of this AE title, or None."""
        return next((sender for sender in self.senders if sender.ae == ae), None)


def read_config(path: Path) -> NodeConfig:
    """The configuration in a YAML file. Paths in it are relative to the file's folder. Raises ValueError, one
    sentence, for a file that is none."""
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a YAML mapping with data and senders is accepted")
    try:
        return NodeConfig(**_resolved(found, path.resolve().parent))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path}: {where + ': ' if where else ''}{said[0].lower()}{said[1:]}") from error


PATHS = {"data", "watch", "names", "certificate", "key", "authority", "token_file"}


def _resolved(value: Any, folder: Path) -> Any:
    """The same with paths from `folder` on."""
    if isinstance(value, list):
        return [_resolved(part, folder) for part in value]
    if not isinstance(value, dict):
        return value
    found = {str(k): _resolved(part, folder) for k, part in value.items()}
    return found | {k: folder / v for k, v in found.items() if k in PATHS and isinstance(v, str)}
