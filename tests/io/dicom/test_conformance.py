"""Everything we write, before other people's judges: dciodvfy, drtdump, the standard's tables, Orthanc.

apt-get install dicom3tools dcmtk orthanc; pip install highdicom. Where one is absent its tests are skipped.
"""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from linear_patient import patient

from anydose.io import openkbp
from anydose.io.dicom.write import write_rtdose, write_study
from anydose.io.format import Beside, DVHCurve
from anydose.io.read import read_case

BESIDE = Beside("compact-hn", "a" * 64, {"PTV_60": DVHCurve(0.25, np.array([3.0, 1.0]), 0.1, 0.3, 0.2)})
ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="apt-get install dicom3tools")
needs_drtdump = pytest.mark.skipif(not shutil.which("drtdump"), reason="apt-get install dcmtk")
needs_orthanc = pytest.mark.skipif(not ORTHANC, reason="apt-get install orthanc")


@pytest.fixture(scope="session")
def everything(written_study, tmp_path_factory):
    """A study and its predicted doses: with plan, without, with a placeholder plan, anonymised, not from
    DICOM."""
    folder = tmp_path_factory.mktemp("out")
    case = read_case(written_study)
    planless = replace(case, source=replace(case.source, plan_uid=None))
    for bits in (16, 32):
        write_rtdose(case.dose, case, folder / f"plan_{bits}.dcm", bits=bits, beside=BESIDE)
        write_rtdose(case.dose, planless, folder / f"planless_{bits}.dcm", bits=bits)
        write_rtdose(case.dose, planless, folder / f"held_{bits}.dcm", bits=bits, placeholder_plan=True)
        write_rtdose(case.dose, case, folder / f"anonymous_{bits}.dcm", bits=bits, anonymize=True)
        write_rtdose(case.dose, patient(), folder / f"foreign_{bits}.dcm", bits=bits)
    first = sorted((written_study / "CT").iterdir())[0]
    return [first, *written_study.glob("RT*.dcm"), *sorted(folder.iterdir())]


def is_32_bit(path):
    return pydicom.dcmread(path, stop_before_pixels=True).get("BitsAllocated") == 32


@needs_dciodvfy
def test_dciodvfy_finds_no_error(everything):
    """Debian's dciodvfy aborts on any 32-bit dose: those have a 16-bit twin here and the two tests below."""
    checked = [p for p in everything if not is_32_bit(p)]
    assert len(checked) == 10
    for path in checked:
        result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert result.returncode == 0, f"{path.name}: {result.stderr}"
        assert "Error" not in result.stderr


@needs_dciodvfy
def test_dciodvfy_finds_no_error_in_a_real_patient(openkbp_root, tmp_path):
    write_study(openkbp.read_case(openkbp.patients(openkbp_root, "train")[0]), tmp_path)
    for path in (next((tmp_path / "CT").iterdir()), tmp_path / "RTSTRUCT.dcm", tmp_path / "RTPLAN.dcm"):
        result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert result.returncode == 0, f"{path.name}: {result.stderr}"


@needs_drtdump
def test_drtdump_has_nothing_to_say(everything):
    for path in everything:
        if path.name.startswith("CT"):
            continue
        result = subprocess.run(["drtdump", str(path)], capture_output=True, text=True)
        lines = (result.stdout + result.stderr).splitlines()
        assert not [line for line in lines if line.startswith(("W:", "E:"))], path.name


IODS = {
    "RTDOSE": ("rt-dose", ("general-image", "image-plane", "image-pixel", "multi-frame", "rt-dose")),
    "RTSTRUCT": ("rt-structure-set", ()),
    "RTPLAN": ("rt-plan", ("rt-fraction-scheme",)),
    "CT": ("ct-image", ()),
}


def test_every_required_attribute_of_the_standard_is_there(everything):
    """Types 1 (with a value) and 2 (present) of every mandatory module, from the tables that highdicom
    carries."""
    highdicom = pytest.importorskip("highdicom", reason="pip install highdicom")
    tables = Path(highdicom.__file__).parent / "_standard"
    modules_of = json.loads((tables / "iod_module_map.json").read_text())
    attributes_of = json.loads((tables / "module_attribute_map.json").read_text())
    for path in everything:
        dataset = pydicom.dcmread(path)
        iod, more = IODS[dataset.Modality]
        modules = [row["key"] for row in modules_of[iod] if row["usage"] == "M" or row["key"] in more]
        assert len(modules) > 5
        for module in modules:
            for row in attributes_of[module]:
                check(dataset, row["path"], row["keyword"], row["type"], path.name)


def check(dataset, path, keyword, kind, where):
    if path:
        for item in dataset.get(path[0]) or []:
            check(item, path[1:], keyword, kind, where)
    elif kind in ("1", "2"):
        assert keyword in dataset, f"{where}: {keyword}"
        if kind == "1":
            assert not dataset[keyword].is_empty, f"{where}: {keyword}"


def test_a_dose_says_what_it_is_and_belongs_to_its_study(everything, written_study):
    ct = pydicom.dcmread(everything[0])
    for path in everything:
        if not path.name.startswith(("plan", "held", "anonymous")) or path.name.endswith("_plan.dcm"):
            continue
        dose = pydicom.dcmread(path)
        assert dose.SeriesDescription == "AI PREDICTED DOSE - NOT FOR CLINICAL USE"
        assert dose.SOPInstanceUID != pydicom.dcmread(written_study / "RTDOSE.dcm").SOPInstanceUID
        hidden = path.name.startswith("anonymous")
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
            assert (dose[keyword].value == ct[keyword].value) != hidden, keyword
    plans = [each for each in map(pydicom.dcmread, everything) if each.Modality == "RTPLAN"]
    assert plans
    for plan in plans:
        assert "no deliverable plan" in plan.RTPlanDescription
        assert (plan.PlanIntent, plan.ApprovalStatus) == ("RESEARCH", "UNAPPROVED")
    texts = [p.read_bytes() for p in everything if p.name.startswith("anonymous")]
    assert all(str(ct.StudyInstanceUID).encode() not in text and b"patient" not in text for text in texts)


@contextmanager
def orthanc(folder):
    """An Orthanc of its own that only this machine reaches, by its REST address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    server = subprocess.Popen(
        [ORTHANC, str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@needs_orthanc
def test_orthanc_keeps_every_object_and_its_pixels(everything, tmp_path):
    with orthanc(tmp_path) as address:
        for path in everything:
            request = urllib.request.Request(f"{address}/instances", data=path.read_bytes(), method="POST")
            with urllib.request.urlopen(request, timeout=30) as reply:
                stored = json.load(reply)
            assert stored["Status"] == "Success", path.name
            with urllib.request.urlopen(f"{address}/instances/{stored['ID']}/file", timeout=30) as reply:
                (tmp_path / "back.dcm").write_bytes(reply.read())
            back, sent = pydicom.dcmread(tmp_path / "back.dcm"), pydicom.dcmread(path)
            assert back == sent
            if "PixelData" in sent:
                assert (back.pixel_array == sent.pixel_array).all()
        with urllib.request.urlopen(f"{address}/statistics", timeout=30) as reply:
            assert json.load(reply)["CountInstances"] == len(everything)
