"""Mutated studies: each ends in the clean result, in one that says what it lacks, or in one sentence.

pytest -m slow tests/io/test_fuzz.py                       600 mutations
python tests/io/test_fuzz.py 2000 docs/results/fuzz.json   as many as one likes, counted into a file
"""

import json
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from commands import anydose
from linear_patient import patient
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from anydose.io.dicom.write import write_rtdose, write_study
from anydose.io.read import read_case

STATES = ("clean", "told", "refused")
VRS = [
    b"DS",
    b"IS",
    b"UI",
    b"LO",
    b"US",
    b"FL",
    b"OB",
    b"OW",
    b"SQ",
    b"UN",
    b"PN",
    b"ZZ",
    b"AT",
    b"FD",
    b"UL",
]
ODD = ["nan", "inf", "-1e30", "1e400", "", "x", "0", "-5", "99999999999", "1\\2\\3\\4\\5\\6\\7"]
NUMBERS = {  # which numbers are spoilt, by file: with values that no plausible number hides behind
    "CT": [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "Rows",
        "Columns",
        "BitsAllocated",
    ],
    "RTSTRUCT": ["ROINumber", "ReferencedROINumber", "NumberOfContourPoints"],
    "RTPLAN": ["IsocenterPosition", "BeamNumber", "NumberOfControlPoints", "NumberOfBeams"],
    "RTDOSE": [
        "ImagePositionPatient",
        "PixelSpacing",
        "GridFrameOffsetVector",
        "NumberOfFrames",
        "Rows",
        "Columns",
    ],
}
# a later control point without an angle keeps the last one: a plan may say it so
CARRIED = {tag_for_keyword("GantryAngle"), tag_for_keyword("GantryRotationDirection")}


def study_of(path):
    return path.parent.parent if path.parent.name == "CT" else path.parent


def pick(rng, study):
    paths = [rng.choice(sorted((study / "CT").iterdir())), *sorted(study.glob("RT*.dcm"))]
    return rng.choice(paths)


def truncate(rng, path):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * rng.random())])


def flip(rng, path):
    data = bytearray(path.read_bytes())
    head = data.rfind(struct.pack("<HH", 0x7FE0, 0x0010))
    for _ in range(5):
        data[rng.randrange(132, head if head > 0 else len(data))] = rng.randrange(256)
    path.write_bytes(bytes(data))


def elements(data):
    """(start, end) of the top-level elements of an explicit little endian file."""
    at = 132
    while at + 8 <= len(data):
        long = bytes(data[at + 4 : at + 6]) in (b"OB", b"OW", b"SQ", b"UN", b"UT")
        length = (
            struct.unpack_from("<I", data, at + 8)[0] if long else struct.unpack_from("<H", data, at + 6)[0]
        )
        end = at + (12 if long else 8) + length
        if length == 0xFFFFFFFF:
            return
        yield at, end
        at = end


def wrong_vr(rng, path):
    data = bytearray(path.read_bytes())
    at, _ = rng.choice(list(elements(data))[1:])
    data[at + 4 : at + 6] = rng.choice(VRS)
    path.write_bytes(bytes(data))


def duplicate(rng, path):
    """An element of the dataset twice, the second with its last bytes changed."""
    data = path.read_bytes()
    at, end = rng.choice([(a, e) for a, e in elements(data) if data[a] != 2])
    again = bytearray(data[at:end])
    if end - at > 10:
        again[-2:] = b"77"
    path.write_bytes(data[:end] + bytes(again) + data[end:])


def nested(rng, dataset):
    """(dataset, tag) of a random element at any depth."""
    here = dataset
    while True:
        element = here[rng.choice(list(here.keys()))]
        if element.VR != "SQ" or not element.value or rng.random() < 0.3:
            return here, element.tag
        here = rng.choice(list(element.value))


def delete(rng, path):
    dataset = pydicom.dcmread(path)
    here, tag = nested(rng, dataset)
    if not (tag in CARRIED and int(here.ControlPointIndex) > 0):
        del here[tag]
    dataset.save_as(path, enforce_file_format=False)


def odd_number(rng, path):
    dataset = pydicom.dcmread(path)
    keyword = rng.choice(NUMBERS[dataset.Modality])
    value = rng.choice(ODD)
    found = []
    dataset.walk(lambda here, element: found.append(here) if element.keyword == keyword else None)
    here = rng.choice(found)
    put(here, keyword, struct.pack("<H", 65535) if here[keyword].VR == "US" else value.encode())
    dataset.save_as(path, enforce_file_format=False)


def put(here, keyword, value):
    """Set an attribute's bytes as they are; pydicom would refuse to write most of what we want to read."""
    value += b" " * (len(value) % 2)
    tag, vr = here[keyword].tag, here[keyword].VR
    here[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True, True)


def odd_contour(rng, path):
    dataset = pydicom.dcmread(
        path.parent.parent / "RTSTRUCT.dcm" if path.parent.name == "CT" else path.parent / "RTSTRUCT.dcm"
    )
    contour = rng.choice(list(rng.choice(list(dataset.ROIContourSequence)).ContourSequence))
    points = [str(v) for v in contour.ContourData]
    points[rng.randrange(len(points))] = rng.choice(["nan", "inf", "1e30", "-1e300", "x", ""])
    put(contour, "ContourData", "\\".join(points).encode())
    dataset.save_as(dataset.filename, enforce_file_format=False)


def wrong_frame(rng, path):
    dataset = pydicom.dcmread(path)
    found = []
    keywords = ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID")
    dataset.walk(
        lambda here, element: found.append((here, element.keyword)) if element.keyword in keywords else None
    )
    here, keyword = rng.choice(found)
    setattr(here, keyword, generate_uid())
    dataset.save_as(path)


def no_slices(rng, path):
    study = study_of(path)
    keep = rng.randrange(2)
    for slice_ in sorted((study / "CT").iterdir())[keep:]:
        slice_.unlink()


def deep(rng, path):
    """A private sequence nested 100 to 3,000 deep, as raw bytes: pydicom's own writer gives up long
    before."""
    opening = struct.pack("<HH2sHIHHI", 0x7FE1, 0x1010, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    depth = rng.choice([100, 300, 3000])
    path.write_bytes(path.read_bytes() + opening * depth + closing * depth)


def bomb(rng, path):
    dataset = pydicom.dcmread(path)
    kind = rng.randrange(3)
    if kind == 0:
        dataset.Rows, dataset.Columns = 65535, 65535
    elif kind == 1:
        dataset.NumberOfFrames = 10**9
    else:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.PatientComments = "0" * 10**6
    dataset.save_as(path)


def empty_file(rng, path):
    path.write_bytes(rng.choice([b"", b"\0" * 200, b"\0" * 128 + b"DICM", b"text"]))


MUTATIONS = (
    truncate, flip, wrong_vr, duplicate, delete, delete, odd_number, odd_contour, wrong_frame, no_slices,
    bomb, deep, empty_file,
)  # fmt: skip


def differences(case, clean):
    """What of a case is not as in the clean one; what is absent counts only if no sentence tells it."""
    told = len(case.inferred) > len(clean.inferred)
    if not case.grid.matches(clean.grid, 0.2) or (np.abs(case.ct.array - clean.ct.array) > 0.5).any():
        yield "ct"
    if (
        case.dose is not None
        and np.abs(case.dose.array - clean.dose.array).max() > 1e-3 * clean.dose.array.max()
    ):
        yield "dose"
    if (case.dose is None or case.structures.keys() != clean.structures.keys()) and not told:
        yield "dose or structure absent without a word"
    for name in case.structures.keys() & clean.structures.keys():
        if (case.structures[name] != clean.structures[name]).any() and not told:
            yield f"structure {name}"
    geometry = [[(b.gantry_deg, b.isocentre_mm, b.couch_deg) for b in c.beams] for c in (case, clean)]
    if geometry[0] != geometry[1] and not told:
        yield "beams"
    if case.patient_position != clean.patient_position and not told:
        yield "patient position"


def outcome(study, clean):
    """'clean', 'told' or 'refused'; anything else raises."""
    try:
        case = read_case(study)
        write_rtdose(case.dose or clean.dose, case, study / "out" / "predicted.dcm")
    except ValueError as error:
        assert str(error), "an empty sentence"
        return "refused", str(error)
    found = list(differences(case, clean))
    assert not found, found
    return ("clean" if case.inferred == clean.inferred else "told"), ""


def run(count, seed, master, clean):
    """Counts by mutation and outcome, the slowest in seconds, and the failures."""
    counts, failures, slowest = Counter(), [], 0.0
    for k in range(count):
        rng = random.Random(f"{seed}/{k}")
        with tempfile.TemporaryDirectory() as folder:
            study = Path(shutil.copytree(master, Path(folder) / "study"))
            mutation = rng.choice(MUTATIONS)
            path = pick(rng, study)
            mutation(rng, path)
            begin = time.perf_counter()
            try:
                state, _ = outcome(study, clean)
            except Exception as error:  # noqa: BLE001 - the point of the exercise: it must be none
                state = "failed"
                failures.append(
                    f"{k}: {mutation.__name__} {path.name}: {type(error).__name__}: {str(error)[:200]}"
                )
            slowest = max(slowest, time.perf_counter() - begin)
            counts[f"{mutation.__name__}: {state}"] += 1
    return counts, slowest, failures


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [80, pytest.param(600, marks=pytest.mark.slow)])
def test_mutated_studies(count, written_study):
    counts, slowest, failures = run(count, "fuzz", written_study, read_case(written_study))
    assert failures == []
    assert slowest < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20
    assert sum(n for key, n in counts.items() if key.endswith("refused")) > count / 3


@pytest.mark.parametrize("mutation", [truncate, empty_file])
def test_the_command_says_one_sentence_and_exits_2(mutation, study, tmp_path):
    mutation(random.Random(1), study / "RTSTRUCT.dcm")
    result = anydose("predict", study, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.startswith("anydose: ")
    assert len(result.stderr.splitlines()) == 1
    assert "RTSTRUCT.dcm" in result.stderr
    assert not (tmp_path / "out").exists()


def main():
    """Run and write the counts as JSON."""
    import warnings

    warnings.simplefilter("ignore")
    count, target = int(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        write_study(patient(), Path(folder) / "patient")
        counts, slowest, failures = run(
            count, "fuzz", Path(folder) / "patient", read_case(Path(folder) / "patient")
        )
    row = {
        "mutations": count,
        "failures": len(failures),
        "slowest_s": round(slowest, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "outcomes": {
            state: sum(n for k, n in counts.items() if k.endswith(state))
            for state in ("clean", "told", "refused")
        },
        "by_mutation": dict(sorted(counts.items())),
    }
    target.write_text(json.dumps(row, indent=2) + "\n")
    sys.stdout.write("\n".join([*failures, json.dumps(row)]) + "\n")


if __name__ == "__main__":
    main()
