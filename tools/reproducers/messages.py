"""The list of poor messages: each sentence must hold what settles the matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
from folders import store
from pydicom.uid import generate_uid
from ways import Places, anydose, edit, read, reproducer


def refused(places: Places, study: Path, *words: str) -> str:
    """What `predict` says of a study."""
    return anydose("predict", study, "--out", places.scratch / "out").refused(*words)


@reproducer("M1", "Two RTDOSE in one series: the UIDs that would settle it are not shown")
def two_doses(places: Places) -> str:
    study = places.copy("planned")
    dose = pydicom.dcmread(study / "RTDOSE.dcm")
    dose.SOPInstanceUID = dose.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dose.save_as(study / "RTDOSE2.dcm")
    return refused(places, study, dose.SOPInstanceUID, "--series")


@reproducer("M2", "One slice with another orientation or without a frame of reference: the file is not named")
def odd_slice(places: Places) -> str:
    said = []
    for keyword in ("ImageOrientationPatient", "FrameOfReferenceUID"):
        study = places.copy("dicom")
        slices = sorted((study / "CT").iterdir())

        def change(image: Any, keyword: str = keyword) -> None:
            if keyword == "FrameOfReferenceUID":
                del image[keyword]
            else:
                image[keyword].value = [0, 1, 0, 1, 0, 0]

        edit(slices[40], change)
        said.append(refused(places, study, slices[40].name))
        shutil.rmtree(study)
    return said[1]


@reproducer("M3", "JPEG lossless, the commonest compressed CT: a raw RuntimeError of a plugin")
def jpeg(places: Places) -> str:
    study = places.copy("dicom")
    dcmcjpeg = shutil.which("dcmcjpeg")
    assert dcmcjpeg, "no dcmcjpeg to compress with"
    import subprocess

    for path in sorted((study / "CT").iterdir()):
        edit(path, lambda image: (setattr(image, "PixelRepresentation", 0), _unsigned(image)))
        subprocess.run([dcmcjpeg, "+e1", str(path), str(path)], check=True, timeout=60)
    clean = read(places.root / "dicom")
    try:
        case = read(study)
    except ValueError as error:
        assert "anydose[jpeg]" in str(error) and "dcmdjpeg" in str(error), str(error)
        return f"without the extra: {error}"
    assert (case.ct.array == clean.ct.array).all(), "other pixels"
    return "read, every voxel as before (extra `jpeg`); without it the sentence names it"


def _unsigned(image: Any) -> None:
    import numpy as np

    image.PixelData = (np.frombuffer(image.PixelData, "<i2").astype(int) + 1024).astype("<u2").tobytes()
    image.RescaleIntercept = "-1024"


@reproducer("M4", "A macOS ._ct000.dcm refuses a study, .DS_Store an OpenKBP patient")
def litter(places: Places) -> str:
    study, patient = places.copy("dicom"), places.copy("okbp")
    for path in (
        study / "CT" / "._CT_0001.dcm",
        study / ".DS_Store",
        patient / ".DS_Store",
        patient / "._ct.csv",
    ):
        path.write_bytes(b"\0\5\26\7")
    assert read(study).structures.keys() == read(places.root / "dicom").structures.keys()
    assert (read(patient).ct.array == read(places.root / "okbp").ct.array).all()
    return "passed over; both are read as before"


@reproducer("M5", "An empty .dcm refuses the whole study")
def empty_file(places: Places) -> str:
    study = places.copy("dicom")
    (study / "CT" / "empty.dcm").write_bytes(b"")
    return "still refused, since it may be a lost slice: " + refused(places, study, "empty.dcm")


@reproducer("M6", "A DICOM file without preamble: 'no DICOM file'")
def no_preamble(places: Places) -> str:
    study = places.copy("dicom")
    path = study / "RTSTRUCT.dcm"
    dataset = pydicom.dcmread(path)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.preamble = None
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
    case, clean = read(study), read(places.root / "dicom")
    assert all((case.structures[n] == m).all() for n, m in clean.structures.items())
    return next(sentence for sentence in case.inferred if "preamble" in sentence)


@reproducer("M7", "1,000 unrelated files before suffixless DICOM: nothing says that the search stopped there")
def many_files(places: Places) -> str:
    study = places.copy("dicom")
    for path in list(study.rglob("*.dcm")):
        path.rename(path.with_suffix(""))
    for k in range(1100):
        (study / f"aa{k:04d}.txt").write_text("x")
    clean = read(places.root / "dicom")
    case = read(study)
    assert (case.ct.array == clean.ct.array).all()
    return "read: files that cannot be DICOM do not count"


@reproducer(
    "M8", "Store JSON faults: 'Expecting value: line 1 column 1', no file named; model metadata likewise"
)
def store_json(places: Places) -> str:
    whole, said = store(places), []
    for name in ("zarr.json", "ct/zarr.json"):
        copy = Path(shutil.copytree(whole, places.scratch / name.replace("/", "_")))
        (copy / "case" / name).write_text("")
        said.append(refused(places, copy / "case", "case"))
    return "; ".join(said)


@reproducer(
    "M9", "ROIs without ReferencedFrameOfReferenceUID are refused though the file states it elsewhere"
)
def frame_elsewhere(places: Places) -> str:
    study = places.copy("dicom")

    def drop(struct: Any) -> None:
        for roi in struct.StructureSetROISequence:
            del roi.ReferencedFrameOfReferenceUID

    edit(study / "RTSTRUCT.dcm", drop)
    assert read(study).structures.keys() == read(places.root / "dicom").structures.keys()
    return "read, by ReferencedFrameOfReferenceSequence"


@reproducer("M10", "A backslash in an ROI's name: the structure is called ['a', 'b']")
def backslash(places: Places) -> str:
    study = places.copy("dicom")
    edit(study / "RTSTRUCT.dcm", lambda s: setattr(s.StructureSetROISequence[1], "ROIName", "a\\b"))
    found = [name for name in read(study).structures if name.startswith("a")]
    assert found == ["a/b"], found
    return "the structure is called a/b"


@reproducer(
    "M11", "'no prescription': not that the plan states doses without a structure, nor names, nor --rx"
)
def no_prescription(places: Places) -> str:
    study = places.copy("dicom")

    def of_site(plan: Any) -> None:
        for row in plan.DoseReferenceSequence:
            del row.ReferencedROINumber

    edit(study / "RTPLAN.dcm", of_site)
    edit(study / "RTSTRUCT.dcm", _plain_targets)
    return refused(places, study, "--rx", "Gy without a structure", "Target one")


def _plain_targets(struct: Any) -> None:
    names = iter(("one", "two", "three"))
    for roi in struct.StructureSetROISequence:
        if str(roi.ROIName).startswith("PTV"):
            roi.ROIName = f"Target {next(names)}"


@reproducer("M12", "A mask with HU (scan.nii): does not say that it looks for ct.nii")
def scan_nii(places: Places) -> str:
    folder = places.copy("nifti")
    (folder / "ct.nii.gz").rename(folder / "scan.nii.gz")
    return refused(places, folder, "ct.nii.gz")


@reproducer("M13", "data check hides sentences: RTDOSE passed over, beams passed over")
def hidden_sentences(places: Places) -> str:
    study = places.copy("planned")
    edit(study / "RTDOSE.dcm", lambda dose: setattr(dose, "DoseSummationType", "BEAM"))
    rows = json.loads(anydose("data", "check", study, "--json").done().out)
    return next(text for text in rows[0]["findings"] if "passed over" in text)
