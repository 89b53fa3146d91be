"""A node's other ways in and out among real peers: TLS, STOW-RS, and studies that it pulls."""

import json
import subprocess

import pytest
from clinic_pacs import (
    ORTHANC,
    PLUGIN,
    Orthanc,
    RunningNode,
    certificates,
    free_port,
    https_before,
    study,
    tiny_model,
    wait_for,
)

pytest.importorskip("httpx")

from running_viewer import RunningViewer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed"),
]


@pytest.fixture
def running():
    """Servers that are stopped in the end, the last one first."""
    found = []
    yield lambda server: found.append(server) or server
    for server in reversed(found):
        server.stop()


def quick_model(folder):
    """What a node predicts with: a small model that was never trained."""
    return {"model": str(tiny_model(folder / "tiny.safetensors")), "looks": 1, "device": "cpu"}


def echo(port, *words):
    """Whether dcmtk's echoscu gets an answer."""
    line = ["echoscu", "-aet", "ORTHANC", "-aec", "ANYDOSE", "-to", "5", *words, "localhost", str(port)]
    return subprocess.run(line, capture_output=True, timeout=60).returncode == 0


@pytest.mark.skipif(not PLUGIN.is_file(), reason="orthanc-dicomweb is not installed")
def test_a_dose_goes_out_over_tls_and_by_stow_rs(running, tmp_path):
    """In by C-STORE over TLS; out by C-STORE over TLS to one Orthanc and by STOW-RS over HTTPS to another."""
    keys, port = certificates(tmp_path / "keys"), free_port()
    authority = {"authority": str(keys / "authority.pem")}
    pacs = running(Orthanc(tmp_path / "pacs", {"ANYDOSE": port}, keys))
    web = running(Orthanc(tmp_path / "web", {}))
    with https_before(web.http, keys) as url:
        node = RunningNode(
            tmp_path,
            port=port,
            tls={"certificate": str(keys / "node.pem"), "key": str(keys / "node.key"), **authority},
            senders=[{"ae": "ORTHANC", "hold": False, "send_to": ["pacs", "web"]}],
            destinations=[
                {"name": "pacs", "ae": "ORTHANC", "port": pacs.dicom, "tls": True},
                {"name": "web", "url": f"{url}/dicom-web", **authority},
                {"name": "stranger", "url": f"{url}/dicom-web"},
            ],
            prediction=quick_model(tmp_path),
        )
        done = subprocess.run(node.line("--check"), capture_output=True, text=True, timeout=200)
        said = ["pacs: answers", "web: answers", "stranger does not answer"]
        assert done.stdout.splitlines()[1:] == said, done
        running(node.start()).wait_ready()
        trusting = ["+cf", keys / "authority.pem"]
        assert echo(port, "+tls", keys / "pacs.key", keys / "pacs.pem", *trusting)
        assert not echo(port)  # without TLS
        assert not echo(port, "+tla", *trusting)  # without a certificate
        name = pacs.upload(study(tmp_path / "study"))
        assert pacs.sends(name, "ANYDOSE")
        wait_for(lambda: node.jobs.counts()["done"] or node.jobs.counts()["failed"], 240)
    (job,) = node.jobs.newest()
    assert job.state == "done", job.error
    sent = node.jobs.acknowledged(job.id)
    (there,) = web.get("/studies")
    for place, server, of in (("pacs", pacs, name), ("web", web, there)):
        found = [*server.instances(of, "RTDOSE"), *server.instances(of, "OT")]
        uids = {server.get(f"/instances/{each}/simplified-tags")["SOPInstanceUID"] for each in found}
        assert len(found) == 2 and uids == {uid for to, uid in sent if to == place}
    uid = web.get(f"/studies/{there}")["MainDicomTags"]["StudyInstanceUID"]
    assert len(web.get(f"/dicom-web/studies/{uid}/instances")) == 2


def test_a_study_is_pulled_reviewed_in_the_viewer_and_sent_back(running, tmp_path):
    """C-FIND and C-MOVE: Orthanc sends it, and the node takes it as any other; the viewer shows the dose, a
    person releases it, and Orthanc gets it."""
    port = free_port()
    pacs = running(Orthanc(tmp_path / "pacs", {"ANYDOSE": port}))
    place = {"name": "pacs", "ae": "ORTHANC", "port": pacs.dicom}
    node = RunningNode(
        tmp_path,
        port=port,
        senders=[{"ae": "ORTHANC", "send_to": ["pacs"]}],
        destinations=[place],
        prediction=quick_model(tmp_path),
    )
    running(node.start()).wait_ready()
    name = pacs.upload(study(tmp_path / "study"))
    about = pacs.get(f"/studies/{name}")
    patient, uid = about["PatientMainDicomTags"]["PatientID"], about["MainDicomTags"]["StudyInstanceUID"]

    def pulled(*words):
        return subprocess.run(node.line("--pull", *words), capture_output=True, text=True, timeout=200)

    wrong = pulled("pacs", "--study", "1.2.3")
    assert wrong.returncode == 2 and wrong.stderr.strip().endswith("pacs: no such study")
    number = len(list((tmp_path / "study").rglob("*.dcm")))
    done = pulled("pacs", "--patient", patient, "--json")
    assert json.loads(done.stdout) == {"study": uid, "objects": number, "failed": 0}, done
    (job,) = wait_for(node.jobs.newest, 60)
    assert len(list((tmp_path / "data" / "received").rglob("*.dcm"))) == number
    wait_for(lambda: node.jobs.find(job.id).state == "held", 240)
    viewer = running(RunningViewer(tmp_path / "data", node=node.file))
    ask, place = viewer.client, f"/api/jobs/{job.id}"
    (row,) = ask.get("/api/jobs").json()
    assert row["state"] == "held" and patient in row["case"]
    assert ask.get("/api/about").json() == {"predicts": False}
    assert ask.post("/api/patients", json={}).status_code == 409
    assert ask.get(f"{place}/view").json()["dvh"]["curves"]
    assert ask.get(f"{place}/volumes/dose").status_code == 200
    assert ask.get(f"{place}/files/dose.dcm").status_code == 409
    assert not pacs.instances(name, "RTDOSE")
    assert ask.post(f"{place}/release", json={"by": "Dr Test"}).json()["released_by"] == "Dr Test"
    wait_for(lambda: node.jobs.find(job.id).state == "done", 60)
    assert len(pacs.instances(name, "RTDOSE")) == 1
    assert ask.delete(place).status_code == 204
    assert not list((tmp_path / "data").rglob("*.dcm")) and ask.get("/api/jobs").json() == []
