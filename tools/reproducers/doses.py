"""S1, S2, S10 to S12: doses that come in, and doses that a model gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ways import Places, anydose, edit, read, reproducer, spoil


def nifti_dose(places: Places, value: float, away_mm: float = 0.0) -> Path:
    """A dose of one value on the phantom's grid, or away from it."""
    image: Any = nib.load(places.root / "nifti" / "ct.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += away_mm
    path = places.scratch / "dose.nii.gz"
    nib.save(nib.Nifti1Image(np.full(image.shape, value, np.float32), affine), path)
    return path


@reproducer("S1", "A dose outside of the dose grid counts as 0 Gy: organs there pass with full marks")
def half_a_dose(places: Places) -> str:
    path = places.scratch / "half.dcm"
    path.write_bytes((places.root / "planned" / "RTDOSE.dcm").read_bytes())

    def halve(dose: Any) -> None:
        kept = int(dose.NumberOfFrames) // 2
        dose.PixelData = dose.PixelData[: kept * dose.Rows * dose.Columns * 4]
        dose.NumberOfFrames = str(kept)
        dose.GridFrameOffsetVector = list(dose.GridFrameOffsetVector)[:kept]

    edit(path, halve)
    run = anydose("score", path, "--case", places.root / "planned", "--out", places.scratch / "s.json")
    run.done()
    result = json.loads((places.scratch / "s.json").read_text())
    zero = [row for row in result["items"] if row.get("value") == 0 and row.get("score")]
    assert not zero, f"0 Gy scored: {zero[0]}"
    unknown = [row for row in result["items"] if "covered in part" in str(row)]
    assert unknown, f"nothing said of what the grid leaves out: {run.said()[:300]}"
    return f"{len(unknown)} items are left out of total and maximum: {unknown[0].get('note') or unknown[0]}"[
        :260
    ]


@reproducer("S2a", "-60 Gy is scored, 50 of 100 points")
def negative(places: Places) -> str:
    return anydose("score", nifti_dose(places, -60), "--case", places.root / "nifti").refused("negative")


@reproducer("S2b", "1,000,000 Gy is scored")
def enormous(places: Places) -> str:
    return anydose("score", nifti_dose(places, 1e6), "--case", places.root / "nifti").refused("1e+06 Gy")


@reproducer("S2c", "6000 cGy are scored as 6000 Gy, full marks, no hint")
def centigray(places: Places) -> str:
    path = nifti_dose(places, 6000)
    said = anydose("score", path, "--case", places.root / "nifti").refused("--dose-unit cGy")
    anydose("score", path, "--case", places.root / "nifti", "--dose-unit", "cGy").done()
    return said


@reproducer("S2d", "A CT of 1e30 HU is accepted")
def impossible_ct(places: Places) -> str:
    path = places.copy("nifti") / "ct.nii.gz"
    image: Any = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, 1e30, np.float32), image.affine), path)
    return anydose("predict", path.parent, "--out", places.scratch / "out").refused("HU is accepted")


@reproducer("S2e", "A GDP-HMM dose_scale below 0 is accepted")
def negative_scale(places: Places) -> str:
    path = places.scratch / "plan.npz"
    anydose("convert", places.root / "planned", "--out", path, "--format", "gdphmm").done()
    plan = np.load(path, allow_pickle=True)["arr_0"].item()
    np.savez_compressed(path, np.array({**plan, "dose_scale": -1e-4}, dtype=object))
    return anydose("predict", path, "--out", places.scratch / "out").refused("dose_scale")


@reproducer("S10a", "OpenKBP CSV with decimal commas: 80,912 voxels cut to whole Gy")
def decimal_commas(places: Places) -> str:
    return csv_dose(places, lambda text: text.replace(".", ",")).refused("dose.csv")


@reproducer("S10b", "OpenKBP CSV with CR line ends: the whole dose becomes 0")
def carriage_returns(places: Places) -> str:
    return csv_dose(places, lambda text: text.replace("\n", "\r")).refused("dose.csv", "carriage return")


@reproducer("S10c", "OpenKBP CSV that is a header alone: the whole dose becomes 0")
def header_alone(places: Places) -> str:
    return csv_dose(places, lambda text: text.split("\n")[0] + "\n").refused("dose.csv", "no voxel")


@reproducer("S10d", "OpenKBP: negative doses and CT below -1024 HU pass")
def negative_csv(places: Places) -> str:
    said = csv_dose(places, lambda text: text.replace(",4", ",-4")).refused("negative")
    ct = places.scratch / "okbp" / "ct.csv"
    ct.write_text(ct.read_text().replace(",9", ",-9", 5))
    return said + "; " + anydose("predict", ct.parent, "--out", places.scratch / "o").refused("ct.csv")


def csv_dose(places: Places, change: Any) -> Any:
    """`score` of the planned dose whose OpenKBP text was changed."""
    folder = places.copy("okbp")
    path = folder / "dose.csv"
    path.write_bytes(change(path.read_text()).encode())
    return anydose("score", path, "--case", places.root / "okbp")


@reproducer("S11", "A NIfTI dose 5 m away is all 0 Gy")
def far_away(places: Places) -> str:
    return anydose("score", nifti_dose(places, 30, 5000), "--case", places.root / "nifti").refused(
        "does not meet the case"
    )


def weights(places: Places) -> Path:
    """A copy of the shipped weights."""
    from anydose.model import registry

    path = places.scratch / "copy.safetensors"
    path.write_bytes(registry.find("compact-hn").read_bytes())
    return path


@reproducer("S12a", "2,000 flipped bytes among the weights: up to 2,384 Gy are written, exit code 0")
def flipped_weights(places: Places) -> str:
    path = weights(places)
    spoil(path, 2000)
    out = places.scratch / "out"
    said = anydose("predict", places.root / "okbp", "--out", out, "--model", path).refused("damaged")
    assert not out.exists(), "something was written"
    return said


@reproducer("S12b", "NaN weights: 164,861 NaN voxels are left in dose.nii.gz")
def weights_of_nan(places: Places) -> str:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path, target = weights(places), places.scratch / "nan.safetensors"
    with safe_open(path, "pt") as file:
        meta = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    last = [key for key in tensors if tensors[key].is_floating_point()][-1]
    meta = {**meta, "note": json.dumps("x" * 99)}  # another size than the shipped file: its values are judged
    save_file(tensors | {last: tensors[last] * float("nan")}, target, meta)
    out = places.scratch / "out"
    said = anydose("predict", places.root / "okbp", "--out", out, "--model", target).refused(last)
    assert not out.exists(), "something was written"
    return said


@reproducer(
    "S12c", "predict --model compact-hn-any, the adapter for everything but the dose, 5.47 Gy: not a word"
)
def wrong_adapter(places: Places) -> str:
    out = places.scratch / "out"
    return anydose("predict", places.root / "okbp", "--out", out, "--model", "compact-hn-any").refused("dose")


@reproducer("S12d", "Values below 0 that a network gives become 0 without a word (found since)")
def below_zero(places: Places) -> str:
    from anydose.model import registry
    from anydose.predict import Options, predict

    case, model = read(places.root / "okbp"), registry.load("compact-hn")
    usual = predict(case, model, Options(looks=1, mimic=False))
    said = [sentence for sentence in usual.inferred if "below 0" in sentence]
    assert said, "nothing said of what was raised to 0"
    return said[0]


@reproducer("low 1", "One CT slice with a negative RescaleSlope is accepted and called padding")
def negative_slope(places: Places) -> str:
    study = places.copy("dicom")
    slices = sorted((study / "CT").iterdir())
    edit(slices[60], lambda d: setattr(d, "RescaleSlope", "-1"))
    return anydose("predict", study, "--out", places.scratch / "out").refused(slices[60].name)


@reproducer("low 2", "A plan's prescription on an organ at risk makes it a target without a word")
def organ_as_target(places: Places) -> str:
    study = places.copy("dicom")
    numbers = {str(roi.ROIName): roi.ROINumber for roi in read_rois(study)}
    wanted = int(numbers["Brainstem"])

    def prescribe(plan: Any) -> None:
        plan.DoseReferenceSequence[0].ReferencedROINumber = wanted

    edit(study / "RTPLAN.dcm", prescribe)
    run = anydose("predict", study, "--out", places.scratch / "out", "--looks", 1)
    assert "Brainstem" in run.said() and any(
        "rescri" in line and "Brainstem" in line for line in (run.out + run.err).splitlines()
    ), f"nothing said: {run.said()[-200:]}"
    return next(line for line in (run.out + run.err).splitlines() if "rescri" in line and "Brainstem" in line)


def read_rois(study: Path) -> Any:
    """The ROIs of a study's structure set."""
    import pydicom

    return pydicom.dcmread(study / "RTSTRUCT.dcm").StructureSetROISequence
