"""Scoring against its peers on the same files: dicompyler-core (in .venv-peers, `make peers`) and pymedphys;
and the time of a whole scorecard. Each bench returns JSON rows; ratios are taken within one run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from anydose.bench.clock import timed
from anydose.bench.patients import Patients
from anydose.bench.registry import Row, benchmark
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io.dicom.contours import rasterise
from anydose.io.dicom.struct import read_rois
from anydose.io.dicom.write import write_study
from anydose.io.read import read_case
from anydose.io.solids import Space
from anydose.score.binding import BoundScorecard, bind
from anydose.score.dvh import DVH, dvh
from anydose.score.gamma import PARTS, gamma
from anydose.score.metrics import Definition, evaluate, parse
from anydose.score.scorecard import read_scorecard, templates
from anydose.score.scoring import score
from anydose.score.soft import SoftDVH

REPEATS = 5  # of a whole scorecard
PEERS = Path(".venv-peers/bin/python")
GRID = Grid((150, 200, 200), (2.0, 2.0, 2.0), (-199.0, -199.0, -149.0))
NAMED = "PTV CTV GTV Lung_L Lung_R SpinalCord Heart A_LAD Esophagus BrachialPlexs GreatVes Trachea Liver"
ORGANS = (*NAMED.split(), "Kidney_L", "Kidney_R", *(f"Organ {k}" for k in range(14)))
DOSES = ("Mean", "Max", "Min", "D98%", "D95%", "D50%", "D5%", "D2%", "D1cc")
LEVELS_GY = (5, 10, 20, 30, 40, 50, 57)
TEXTS = (*(f"{dose}[Gy]" for dose in DOSES), *(f"V{gy}Gy[%]" for gy in LEVELS_GY))
RATIOS = (
    *(Definition(name, 57.0, "Gy") for name in ("ConformationNumber", "ConformityIndex", "GradientIndex")),
    Definition("VolumeOfRegret", 57.0, "Gy", "cc"),
    Definition("HomogeneityIndex", target=60.0, target_unit="Gy"),
    Definition("InhomogeneityIndex"),
    Definition("IcruHomogeneity"),
    Definition("ModifiedGradientIndex", high=40.0, low=20.0),
    Definition("DoseAtSubVolume", 0.03, "cc", "Gy"),
    Definition("EquivalentUniformDose", 8.0, None, "Gy"),
)

# dicompyler-core's own calls, one structure at a time as its users write them
PEER = """
import json, sys, time
import pydicom
from dicompylercore import dvhcalc
folder, texts = sys.argv[1], json.loads(sys.argv[2])
struct, dose = pydicom.dcmread(folder + "/RTSTRUCT.dcm"), pydicom.dcmread(folder + "/RTDOSE.dcm")
dose.pixel_array
out, begin = {}, time.perf_counter()
for roi in struct.StructureSetROISequence:
    dvh = dvhcalc.get_dvh(struct, dose, int(roi.ROINumber))
    row = {"Volume[cc]": dvh.volume, "Mean[Gy]": dvh.mean, "Max[Gy]": dvh.max, "Min[Gy]": dvh.min}
    for text in texts:
        what = text.split("[")[0]
        if what.startswith("D"):
            # read off its curve at the first small enough volume; its own lookup takes the nearest
            row["lookup " + text] = dvh.statistic(what.replace("%", "")).value
            share = float(what[1:-2]) / dvh.volume if what.endswith("cc") else float(what[1:-1]) / 100
            row[text] = dvh.bins[(dvh.counts <= (share + 1e-5) * dvh.counts[0]).argmax()]
        elif what.startswith("V"):
            row[text] = 100 * dvh.statistic(what).value / dvh.volume
    out[str(roi.ROIName)] = {key: float(value) for key, value in row.items()}
print(json.dumps({"seconds": time.perf_counter() - begin, "structures": out}))
"""

GAMMA_PEER = """
import json, sys, time
import numpy as np, pymedphys
data, (percent, mm, parts) = np.load(sys.argv[1]), map(float, sys.argv[2:])
axes = tuple(np.arange(n) * s for n, s in zip(data["truth"].shape, data["spacing"]))
options = {"lower_percent_dose_cutoff": 10, "max_gamma": 1.1, "interp_fraction": int(parts)}
doses = (axes, data["truth"], axes, data["guess"], percent, mm)
pymedphys.gamma(*doses, **{**options, "lower_percent_dose_cutoff": 99})  # compiles what it compiles
begin = time.perf_counter()
values = pymedphys.gamma(*doses, **options)
seconds = time.perf_counter() - begin
values = values[~np.isnan(values)]
print(json.dumps({"pass": 100 * float(np.mean(values <= 1)), "points": len(values), "seconds": seconds}))
"""


def phantom(seed: int = 0) -> Case:
    """A chest-like case of 30 structures on 200 x 200 x 150 voxels of 2 mm: ellipsoids in an elliptic body,
    60 Gy to a target with a smooth dose around it. Every voxel has its own dose."""
    rng = np.random.default_rng(seed)
    axes = zip(GRID.shape[::-1], GRID.spacing_mm, GRID.origin_mm, strict=True)
    x, y, z = ((np.arange(n) * s + o).astype(np.float32) for n, s, o in axes)
    space = Space(x[None, None], y[None, :, None], z[:, None, None])
    body = np.broadcast_to((space.x / 165) ** 2 + (space.y / 110) ** 2 <= 1, GRID.shape).copy()
    masks = {"Body": body}
    for number, name in enumerate(ORGANS):
        target = number < 3
        centre = (-20.0, 10.0, 0.0) if target else tuple(rng.uniform((-90, -55, -90), (90, 55, 90)))
        radii = (32.0 - 6 * number,) * 3 if target else tuple(rng.uniform(9, 45, 3))
        masks[name] = space.ellipsoid(centre, radii) & body
    distance = np.sqrt((space.x + 20) ** 2 + (space.y - 10) ** 2 + space.z**2)
    smooth = 61.0 / (1 + np.exp((distance - 40) / 9)) + 0.02 * space.x + 0.015 * space.y + 0.01 * space.z
    dose = np.where(body, np.clip(smooth + 6, 0, None), 0).astype(np.float32)
    ct = np.where(body, 0.0, -1000.0).astype(np.float32)
    rx = Prescription({"PTV": 60.0}, 30)
    return Case("chest", GRID, masks, rx, ct=Volume(ct, GRID, "HU"), dose=Volume(dose, GRID, "Gy"))


def _metrics(structures: Mapping[str, DVH]) -> dict[str, dict[str, float]]:
    """The metrics that the peer answers too."""
    out = {}
    for name, histogram in structures.items():
        out[name] = {text: float(evaluate(parse(text), histogram)) for text in TEXTS}
        out[name]["Volume[cc]"] = histogram.volume_cc
    return out


def _every_metric(structures: Mapping[str, DVH], body: str) -> int:
    """Every metric of the table that has a value, as a user with a long list would ask; their number."""
    count = 0
    for histogram in structures.values():
        for of in (*map(parse, TEXTS), *RATIOS):
            try:
                evaluate(of, histogram, structures[body], 60.0)
                count += 1
            except ValueError:
                continue  # a ratio with a zero factor has no value
    return count


def _side_by_side(case: Case, folder: Path, label: str) -> dict[str, Any]:
    """One case written as DICOM, read by both, timed one after the other."""
    if not PEERS.is_file():
        raise ValueError(f"{PEERS} is not there: make peers")
    write_study(case, folder)
    found = subprocess.run(
        [str(PEERS), "-c", PEER, str(folder), json.dumps(TEXTS)], check=True, capture_output=True, text=True
    )
    theirs = json.loads(found.stdout)
    read = read_case(folder)
    rois = read_rois(folder / "RTSTRUCT.dcm")
    begin = time.perf_counter()
    masks = {roi.name: rasterise(roi.contours, read.grid)[0] for roi in rois}
    drawn = time.perf_counter()
    dose = read.dose
    assert dose is not None
    histograms = {name: dvh(dose, mask, read.grid) for name, mask in masks.items() if mask.any()}
    body = next(name for name in case.of_role("body"))
    count = _every_metric(histograms, body)
    end = time.perf_counter()
    ours = _metrics(histograms)
    gaps = _largest_gaps(ours, theirs["structures"])
    return {
        "bench": "dvh",
        "case": label,
        "structures": len(ours),
        "voxels": int(np.prod(case.grid.shape)),
        "metrics": count,
        "rasterise_seconds": round(drawn - begin, 3),
        "dvh_and_metrics_seconds": round(end - drawn, 3),
        "dicompyler_seconds": round(theirs["seconds"], 2),
        "ratio": round(theirs["seconds"] / (end - drawn), 1),
        "ratio_with_rasterising": round(theirs["seconds"] / (end - begin), 1),
        **gaps,
    }


def _largest_gaps(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Any]) -> dict[str, float]:
    gaps = dict.fromkeys(
        ("dose_gy", "volume_at_dose_percent", "structure_volume_percent", "its_lookup_gy"), 0.0
    )
    for name, row in ours.items():
        for text, value in row.items():
            kind = "dose_gy" if text.endswith("[Gy]") else "volume_at_dose_percent"
            gap = abs(value - theirs[name][text])
            if text == "Volume[cc]":
                kind, gap = "structure_volume_percent", 100 * gap / value
            gaps[kind] = max(gaps[kind], gap)
            if f"lookup {text}" in theirs[name]:
                gaps["its_lookup_gy"] = max(
                    gaps["its_lookup_gy"], abs(value - theirs[name][f"lookup {text}"])
                )
    return {f"largest_difference_{kind}": round(gap, 4) for kind, gap in gaps.items()}


@benchmark(
    "dvh",
    settings=Patients,
    says="DVHs and all metrics against dicompyler-core on the same files: a phantom of 30 structures, then "
    "patients that have a CT and a dose.",
)
def measure_dvh(settings: Patients) -> Iterator[Row]:
    """A row a case. ValueError without the other tool."""
    yield _in_scratch_folder(phantom(), "phantom 200x200x150, 2 mm")
    for case in settings.cases():
        if case.ct and case.dose:
            yield _in_scratch_folder(case, case.name)


def _in_scratch_folder(case: Case, label: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        return _side_by_side(case, Path(folder), label)


@benchmark(
    "card",
    settings=Patients,
    says="A full scorecard once it is bound to a case, exact and as tensors with gradients: the lung card on "
    "a phantom, then the head-and-neck card on patients.",
)
def measure_card(settings: Patients) -> Iterator[Row]:
    """A row a case."""
    yield _card(phantom(), "lung_60")
    for case in settings.cases():
        if case.dose:
            yield _card(case, "head_neck_70_63_56")


def _card(case: Case, name: str) -> Row:
    bound, binding_s = timed(lambda: bind(case, read_scorecard(templates()[name])))
    dose = case.dose.in_unit("Gy") if case.dose else np.zeros(case.grid.shape)
    tensors = bound.moved(torch.from_numpy)
    exact = [timed(lambda: score(bound, dose)) for _ in range(REPEATS)]
    soft = [timed(lambda: _total_with_gradient(tensors, dose)) for _ in range(REPEATS)]
    found, total = exact[0][0], soft[0][0]
    return {
        "bench": "card",
        "case": case.name,
        "scorecard": name,
        "items": len(bound.card.items),
        "missing": len(found.missing),
        "hold_ms": round(1000 * binding_s, 1),
        "score_ms": round(1000 * float(np.median([seconds for _, seconds in exact])), 1),
        "gradient_ms": round(1000 * float(np.median([seconds for _, seconds in soft])), 1),
        "twin_total_difference": float(f"{abs(total - float(found.total)):.2e}"),
        "threads": torch.get_num_threads(),
    }


def _total_with_gradient(bound: BoundScorecard, dose: np.ndarray) -> float:
    leaf = torch.from_numpy(dose.astype(np.float32)).requires_grad_()
    total = score(bound, leaf, SoftDVH).total
    total.backward()
    return float(total.detach())


@benchmark(
    "gamma",
    settings=Patients,
    says="Gamma of a blurred and rescaled copy of the patient's dose against pymedphys on the same lattice.",
)
def measure_gamma(settings: Patients) -> Iterator[Row]:
    """A row a patient and criterion."""
    for case in settings.cases():
        if case.dose is not None:
            yield _gamma(case, case.dose, percent=3, mm=3)
            yield _gamma(case, case.dose, percent=2, mm=2)


def _gamma(case: Case, dose: Volume, percent: float, mm: float) -> Row:
    truth = dose.in_unit("Gy")
    blurred = ndimage.gaussian_filter(truth, 0.8) * 1.01
    guess = Volume(blurred.astype(np.float32), case.grid, "Gy")
    ours, seconds = timed(lambda: gamma(dose, guess, percent, mm))
    theirs = _gamma_of_peer(dose, guess, percent, mm)
    return {
        "bench": "gamma",
        "case": case.name,
        "criterion": f"{percent:g} %/{mm:g} mm, 10 % threshold, global",
        "points": len(ours.values),
        "pymedphys_points": theirs["points"],
        "pass_percent": round(ours.pass_percent, 3),
        "pymedphys_pass_percent": round(theirs["pass"], 3),
        "difference_percent": round(abs(ours.pass_percent - theirs["pass"]), 4),
        "seconds": round(seconds, 2),
        "pymedphys_seconds": round(theirs["seconds"], 1),
    }


def _gamma_of_peer(dose: Volume, guess: Volume, percent: float, mm: float) -> Row:
    """Pymedphys is an oracle of the development environment, so it runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "doses.npz")
        spacing = dose.grid.spacing_zyx_mm
        np.savez(path, truth=dose.in_unit("Gy"), guess=guess.array, spacing=spacing)
        command = [sys.executable, "-c", GAMMA_PEER, path, str(percent), str(mm), str(PARTS)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: Row = json.loads(done.stdout)
    return answer
