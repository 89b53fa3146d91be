"""A node among real peers: Orthanc sends studies to it and gets doses back."""

import shutil
import subprocess

import pytest
from clinic_pacs import ORTHANC, PLUGIN, Orthanc, RunningNode, free_port, study, tiny_model, wait_for
from node_trial import trial
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

needs_orthanc = pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")


@pytest.fixture
def clinic(tmp_path):
    """A function that starts Orthanc and a node that knows it."""
    running = []

    def started(**settings):
        port = free_port()
        orthanc = Orthanc(tmp_path / "orthanc", {"ANYDOSE": port})
        running.append(orthanc)
        model = tiny_model(tmp_path / "tiny.safetensors")
        sender = {"ae": "ORTHANC", "hold": False, "send_to": ["pacs"]}
        place = {"name": "pacs", "ae": "ORTHANC", "port": orthanc.dicom}
        quickly = {"model": str(model), "looks": 1, "mimic": False, "device": "cpu"}
        base = {"senders": [sender], "destinations": [place], "prediction": quickly}
        node = RunningNode(tmp_path, port=port, **{**base, **settings})
        running.append(node)
        return orthanc, node

    yield started
    for server in reversed(running):
        server.stop()


@pytest.mark.slow
@needs_orthanc
def test_orthanc_sends_a_study_and_gets_the_dose_back(clinic, tmp_path):
    quickly = {"model": "", "looks": 1, "mimic": False, "device": "cpu", "bits": 16}
    model = str(tmp_path / "tiny.safetensors")
    orthanc, node = clinic(prediction={**quickly, "model": model})
    node.start().wait_ready()
    name = orthanc.upload(study(tmp_path / "study"))
    assert orthanc.sends(name, "ANYDOSE")
    wait_for(lambda: node.jobs.counts()["done"] or node.jobs.counts()["failed"], 240)
    job = node.jobs.newest()[0]
    assert job.state == "done", job.error
    (dose,) = orthanc.instances(name, "RTDOSE")
    (page,) = orthanc.instances(name, "OT")
    path = tmp_path / "back.dcm"
    path.write_bytes(orthanc.get(f"/instances/{dose}/file", "application/dicom"))
    back = dcmread(path)
    ours = dcmread(tmp_path / "data" / "results" / job.id / "prediction" / "dose.dcm")
    assert back.PixelData == ours.PixelData and back.DoseGridScaling == ours.DoseGridScaling
    given = dcmread(next((tmp_path / "study").rglob("CT*.dcm")))
    assert (back.StudyInstanceUID, back.PatientID) == (given.StudyInstanceUID, given.PatientID)
    if PLUGIN.is_file():
        where = f"/dicom-web/studies/{back.StudyInstanceUID}/series/{back.SeriesInstanceUID}"
        body = orthanc.get(
            f"{where}/instances/{back.SOPInstanceUID}", 'multipart/related; type="application/dicom"'
        )
        start = body.index(b"\r\n\r\n") + 4
        assert dcmread(DicomBytesIO(body[start:])).PixelData == back.PixelData
    image = tmp_path / "page.dcm"
    image.write_bytes(orthanc.get(f"/instances/{page}/file", "application/dicom"))
    if shutil.which("dciodvfy"):
        for file in (path, image):
            said = subprocess.run(["dciodvfy", file], capture_output=True, text=True)
            assert said.returncode == 0 and "Error" not in said.stderr, said.stderr
    logs = "".join(p.read_text() for p in (tmp_path / "data" / "log").iterdir())
    assert str(given.PatientName) not in logs and str(given.PatientID) not in logs
    # the same study once more is no new job, and our own dose that comes back with it is not taken in
    assert orthanc.sends(name, "ANYDOSE")
    assert len(list((tmp_path / "data" / "received").rglob("*.dcm"))) == len(
        list((tmp_path / "study").rglob("*.dcm"))
    )
    assert len(node.jobs.newest()) == 1


@pytest.mark.slow
@needs_orthanc
def test_ten_studies_come_interleaved_over_three_associations(tmp_path):
    """Each is predicted once and each dose is in its own study, once; `trial` asserts that."""
    found = trial(tmp_path, studies=10, kills=0, seconds=1500)
    assert found["predicted"] == found["doses_in_orthanc"] == 10
    assert found["objects_stored"] == found["objects"]


@pytest.mark.slow
@needs_orthanc
def test_a_node_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path):
    """The whole of it, 50 times: `python tests/stand_ins/node_trial.py`."""
    found = trial(tmp_path, studies=3, kills=6, seconds=1500, seed=1)
    assert found["predicted"] == found["doses_in_orthanc"] == 3 and found["kills"] == 6
    assert found["objects_stored"] == found["objects"]
