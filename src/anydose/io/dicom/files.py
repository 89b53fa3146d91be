"""DICOM files opened with care: any foreign bytes end in a dataset or in one ValueError that names the
file."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from anydose.case.grid import Floats
from anydose.io.files import is_litter

CT = "1.2.840.10008.5.1.4.1.1.2"
RTDOSE = "1.2.840.10008.5.1.4.1.1.481.2"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
RTPLAN = "1.2.840.10008.5.1.4.1.1.481.5"
DICOMDIR = "1.2.840.10008.1.3.10"
REFUSED = {  # what a plan or an image could be too, and we do not read
    "1.2.840.10008.5.1.4.1.1.2.1": "an enhanced (multi-frame) CT",
    "1.2.840.10008.5.1.4.1.1.481.8": "an ion plan",
}
PIXELS = 0x7FE00010
UNDEFINED = 0xFFFFFFFF
SUFFIXES = (".dcm", ".dicom", ".ima")
MAX_INFLATED = 2**30
MAX_VOXELS = 2 * 10**8  # 760 slices of 512 x 512, 0.8 GB as float32


@dataclass(frozen=True)
class Found:
    """One object of a folder."""

    path: Path
    """Its file."""
    header: Dataset
    """Its dataset without pixels."""
    said: tuple[str, ...] = ()
    """Sentences on how it was read."""

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""
        return text(self.header, "SOPInstanceUID")

    @property
    def series(self) -> str:
        """SeriesInstanceUID."""
        return text(self.header, "SeriesInstanceUID")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Whatever a foreign file makes a parser raise (RecursionError and MemoryError included) leaves as
    ValueError that begins with the file's path; pydicom's warnings about odd values are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        reason = (
            str(error)
            if isinstance(error, ValueError)
            else f"cannot be read ({type(error).__name__}: {error})"
        )
        raise ValueError(f"{path}: {reason}") from error


def is_dicom(path: Path) -> bool:
    """True if the file bears DICOM's mark at byte 128."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def load(path: Path, pixels: bool = True) -> FileDataset:
    """One DICOM file, without PixelData on request. ValueError for what is no DICOM file, states two SOP
    classes or an attribute twice, is cut off, or inflates to more than 1 GB."""
    last, shown, end, size = 0, 0, 0, path.stat().st_size

    def stop(tag: int, _vr: str | None, length: int) -> bool:
        nonlocal last, shown, end
        tag = int(tag)
        # pydicom shows the first tag twice: once to tell implicit from explicit VR
        if tag < last or (tag == last and shown > 1):
            raise ValueError(f"attribute {Tag(tag)} stands twice or out of order; each once is accepted")
        last, shown = tag, shown + 1
        end = size if deflated or length == UNDEFINED else file.tell() + length
        if end > size:
            raise ValueError(f"cut off within attribute {Tag(tag)}")
        return tag == PIXELS and not pixels

    with naming(path):
        bare = None if is_dicom(path) else _bare_syntax(path)
        deflated = (
            bare is None
            and read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        )
        if deflated:
            _check_inflated(path)
        with path.open("rb") as file:
            dataset = read_partial(file, stop_when=stop, force=bare is not None)
        if end != size and last != PIXELS:
            raise ValueError("cut off between two attributes")
        if bare is not None:
            dataset.file_meta.TransferSyntaxUID = bare
        stated = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
        if stated not in ("", DICOMDIR) and stated != text(dataset, "SOPClassUID"):
            raise ValueError(
                f"SOP class {stated} in the file's head and {dataset.SOPClassUID} inside; one is accepted"
            )
    return dataset


def _bare_syntax(path: Path) -> UID:
    """The transfer syntax of a dataset without preamble and meta information, as older systems export it.
    ValueError for a file that does not begin like one."""
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:2] != b"\x08\0" or head[3] != 0:
        raise ValueError("no DICOM file (no DICM mark at byte 128)")
    return ExplicitVRLittleEndian if head[4:6].isalpha() else ImplicitVRLittleEndian


def _check_inflated(path: Path) -> None:
    """ValueError if the deflated dataset of the file is larger than MAX_INFLATED; nothing of it is kept."""
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(132 + 12 + read_file_meta_info(path).FileMetaInformationGroupLength)
        rest = file.read(2**16)
        while rest and not inflater.eof:
            size += len(inflater.decompress(rest, 2**20))
            rest = inflater.unconsumed_tail or file.read(2**16)
            if size > MAX_INFLATED:
                raise ValueError("deflated data of more than 1 GB; less is accepted")


def text(dataset: Dataset, keyword: str, needed: bool = True) -> str:
    """One text value, stripped; '' where it is absent and not needed. ValueError if it is needed and
    absent."""
    value = str(dataset.get(keyword) or "").strip(" \0")
    if needed and not value:
        raise ValueError(f"no {keyword}; it is needed")
    return value


def numbers(dataset: Dataset, keyword: str, count: int | None = None) -> Floats:
    """The finite numbers of one attribute, `count` of them if given; ValueError otherwise."""
    value = dataset.get(keyword)
    if value is None or value == "":
        raise ValueError(f"no {keyword}; it is needed")
    try:
        out = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{keyword} {str(value)[:40]!r}; numbers are accepted") from error
    if out.ndim != 1 or (count is not None and len(out) != count) or not np.isfinite(out).all():
        raise ValueError(f"{keyword} {str(value)[:60]!r}; {count or 'some'} finite number(s) are accepted")
    return out


def number(dataset: Dataset, keyword: str) -> float:
    """The one finite number of an attribute; ValueError otherwise."""
    return float(numbers(dataset, keyword, 1)[0])


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; [] where it is absent. ValueError if the attribute is no sequence."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    if not all(isinstance(item, Dataset) for item in value):
        raise ValueError(f"{keyword} is no sequence")
    return list(value)


def axes(dataset: Dataset) -> Floats:
    """3x3, columns: LPS unit vectors along a row (x), down a column (y), and their cross product (z).
    ValueError where ImageOrientationPatient is not two perpendicular unit vectors."""
    along_row, down_column = numbers(dataset, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(along_row), np.linalg.norm(down_column)
    if not np.allclose(lengths, 1, atol=1e-3) or abs(along_row @ down_column) > 1e-3:
        raise ValueError("ImageOrientationPatient is not two perpendicular unit vectors")
    along_row = along_row / lengths[0]
    down_column = down_column - (down_column @ along_row) * along_row
    down_column = down_column / np.linalg.norm(down_column)
    return np.stack([along_row, down_column, np.cross(along_row, down_column)], axis=1)


def pixel_spacing(dataset: Dataset) -> tuple[float, float]:
    """(row, column) spacing in mm; ValueError outside 0.05 to 20 mm."""
    row, column = numbers(dataset, "PixelSpacing", 2)
    if not (0.05 <= row <= 20 and 0.05 <= column <= 20):
        raise ValueError(f"PixelSpacing {row:g}\\{column:g} mm; 0.05 to 20 mm is accepted")
    return float(row), float(column)


def pixels(dataset: FileDataset) -> np.ndarray:
    """The stored pixel values (frames, rows, columns). ValueError for colour, inverted or oversized images
    and for a compression no installed codec reads."""
    rows, columns = number(dataset, "Rows"), number(dataset, "Columns")
    frames = number(dataset, "NumberOfFrames") if "NumberOfFrames" in dataset else 1.0
    if rows * columns * frames > MAX_VOXELS or min(rows, columns, frames) < 1:
        raise ValueError(
            f"{frames:g} frames of {rows:g} x {columns:g} pixels; up to {MAX_VOXELS:,} voxels are accepted"
        )
    kind = text(dataset, "PhotometricInterpretation")
    if kind != "MONOCHROME2" or number(dataset, "SamplesPerPixel") != 1:
        raise ValueError(f"PhotometricInterpretation {kind}; MONOCHROME2 with one sample is accepted")
    bits = number(dataset, "BitsAllocated")
    stated = int(rows * columns * frames * bits / 8)
    if (
        not dataset.file_meta.TransferSyntaxUID.is_compressed
        and len(dataset.PixelData) != stated + stated % 2
    ):
        raise ValueError(
            f"{len(dataset.PixelData)} bytes of pixels; {stated} as its size and bits state are accepted"
        )
    return _decoded(dataset).reshape(int(frames), int(rows), int(columns))


def _decoded(dataset: FileDataset) -> np.ndarray:
    """The pixels; ValueError with the remedy for a compression that no installed decoder reads."""
    try:
        return np.asarray(dataset.pixel_array)
    except RuntimeError as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        raise ValueError(
            f"pixels compressed as {syntax.name}, which needs a decoder: pip install 'anydose[jpeg]', or "
            "decompress them (dcmdjpeg, gdcmconv --raw)"
        ) from error


def scan(folder: Path) -> list[Found]:
    """Every DICOM object below `folder`, by path. Files without DICOM's mark and without its suffixes are
    passed over; ValueError names the first DICOM file that cannot be read."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not is_litter(p)):
        if path.suffix.lower() in SUFFIXES or is_dicom(path):
            header = load(path, pixels=False)
            if header.file_meta.get("MediaStorageSOPClassUID") != DICOMDIR:
                bare = f"{path.name}: has no DICOM preamble, read as a bare dataset"
                found.append(Found(path, header, () if is_dicom(path) else (bare,)))
                with naming(path):
                    text(header, "SeriesInstanceUID"), text(header, "SOPInstanceUID")
    return found
