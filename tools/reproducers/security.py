"""X1 to X3: data that would be markup, formula or a bomb."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ways import Places, anydose, edit, measured, read, reproducer

MOST_MB, MOST_S = 2000, 10


@reproducer("X1a", "A structure's name with a mark in it puts live HTML into report.html; its script runs")
def injected_name(places: Places) -> str:
    study = places.copy("planned")
    name = "<!--PACKED--><img src=x onerror=document.title='XSS2'>"

    def rename(struct: Any) -> None:
        struct.StructureSetROISequence[1].ROIName = name

    edit(study / "RTSTRUCT.dcm", rename)
    page = places.scratch / "report.html"
    anydose("report", study / "RTDOSE.dcm", "--case", study, "--out", page).done()
    return f"{title(page, 'XSS2')}, the name is shown as text; script-src allows the page's own scripts alone"


@reproducer("X1b", "The same by `warnings` in a run.json beside the dose")
def injected_warning(places: Places) -> str:
    folder = Path(shutil.copytree(places.root / "prediction", places.scratch / "prediction"))
    record = json.loads((folder / "run.json").read_text())
    record["warnings"] = ["/*SCRIPT*/</script><img src=x onerror=document.title='XSS3'><!--<script>"]
    (folder / "run.json").write_text(json.dumps(record))
    page = places.scratch / "report.html"
    anydose("report", folder, "--case", places.root / "dicom", "--out", page).done()
    return title(page, "XSS3")


def title(page: Path, forbidden: str) -> str:
    """What Chromium shows as the page's title once its scripts have run."""
    chromium = shutil.which("chromium")
    assert chromium, "no chromium to open the page with"
    line = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]
    dom = subprocess.run(
        [*line, page.as_uri()], capture_output=True, text=True, timeout=90, check=False
    ).stdout
    assert f"<title>{forbidden}" not in dom, "the script ran"
    assert "<svg" in dom or "<canvas" in dom, "the page stays empty"
    found = dom.partition("<title>")[2].partition("</title>")[0]
    return f"opened in Chromium, the title is {found!r} and the page is drawn"


@reproducer("X2", "dvh.csv: a structure called =HYPERLINK(...) is a formula")
def formula(places: Places) -> str:
    study = places.copy("planned")
    edit(
        study / "RTSTRUCT.dcm",
        lambda struct: setattr(struct.StructureSetROISequence[1], "ROIName", '=HYPERLINK("http://evil")'),
    )
    out = places.scratch / "out"
    anydose("predict", study, "--out", out, "--looks", 1, "--no-mimic").done()
    head = (out / "dvh.csv").read_text().splitlines()[0]
    cell = next(cell for cell in head.split(",") if "HYPERLINK" in cell)
    assert cell.strip('"').startswith("'"), f"cell {cell}"
    return f"the cell is {cell}"


@reproducer("X3a", "A gzip bomb as ct.nii.gz: 42 s, 7.9 GB before the refusal")
def gzip_bomb(places: Places) -> str:
    folder = places.copy("nifti")
    header = nib.Nifti1Header()
    header.set_data_shape((1000, 1000, 1000))
    header.set_data_dtype(np.float64)
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 1
    with gzip.open(folder / "ct.nii.gz", "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for _ in range(500):
            file.write(b"\0" * 2**24)
    run = measured("predict", folder, "--out", places.scratch / "out")
    return said_in_time(run, "ct.nii.gz")


@reproducer("X3b", "A GDP-HMM .npz that unpacks to 3 GB: 40 s, 6.1 GB, then the refusal")
def zip_bomb(places: Places) -> str:
    path = places.scratch / "plan.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(192):
            member.write(b"\0" * 2**24)
    return said_in_time(measured("predict", path, "--out", places.scratch / "out"), "plan.npz")


@reproducer("X3c", "A GDP-HMM .npz whose directory states less than it unpacks to (found since)")
def lying_zip(places: Places) -> str:
    path = places.scratch / "plan.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        head = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
        member.write(head.ljust(127) + b"\n" + b"\x80\x04\x8e" + (3 * 2**30).to_bytes(8, "little"))
        for _ in range(192):
            member.write(b"\0" * 2**24)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**20).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    return said_in_time(measured("predict", path, "--out", places.scratch / "out"), "plan.npz")


def said_in_time(run: Any, word: str) -> str:
    """The refusal with its seconds and memory, both within bounds."""
    sentence = run.refused(word)
    assert run.peak_mb < MOST_MB and run.seconds < MOST_S, (
        f"{run.seconds:.1f} s, {run.peak_mb} MB: {sentence}"
    )
    return f"{sentence} ({run.seconds:.1f} s, {run.peak_mb} MB with Python and torch)"


@reproducer("names", "Structure names have no length limit; temporary files are 0644")
def long_names(places: Places) -> str:
    study = places.copy("dicom")
    edit(
        study / "RTSTRUCT.dcm",
        lambda struct: setattr(struct.StructureSetROISequence[1], "ROIName", "Brainstem" * 9000),
    )
    case = read(study)
    longest = max(map(len, case.structures))
    said = [sentence for sentence in case.inferred if "characters" in sentence]
    assert longest <= 255 and said, f"a name of {longest} characters, {said}"
    mode = scratch_mode(places.scratch)
    assert mode == 0o600, f"a temporary file of mode {mode:o}"
    return f"a name of {longest} characters is left; {said[0][:160]}; temporary files are 0600"


def scratch_mode(folder: Path) -> int:
    """Permissions of a file while it is written."""
    from anydose.io.files import whole

    with whole(folder / "x.txt") as scratch:
        scratch.write_text("x")
        return scratch.stat().st_mode & 0o777
