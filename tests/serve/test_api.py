"""The HTTP API without a worker: who may ask, what is refused, what stays in its folder."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from anydose.io.phantom import write_phantom
from anydose.score.scorecard import templates
from anydose.serve.guard import LARGEST_BODY
from anydose.serve.jobs import Jobs
from anydose.serve.retention import tidy_room
from anydose.serve.room import Room
from anydose.serve.server import guarded, serve
from anydose.serve.upload import Limits

TOKEN = "a-token-of-this-test"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    data = tmp_path_factory.mktemp("data")
    write_phantom(1, data / "cases" / "phantom_1", "openkbp")
    return Room(data, Limits(max_bytes=100_000, max_files=5))


@pytest.fixture(scope="module")
def client(room: Room) -> Iterator[TestClient]:
    with TestClient(guarded(room, ""), base_url="http://127.0.0.1") as found:
        yield found


@pytest.fixture(scope="module")
def patient(client: TestClient) -> str:
    """A stored case that has been surveyed."""
    name = client.post("/api/patients", json={"stored": "phantom_1"}).json()["id"]
    found = client.post(f"/api/patients/{name}/survey")
    assert found.status_code == 200, found.text
    assert {row["roi"] for row in found.json()["structures"]} >= {"Brainstem", "PTV70"}
    return str(name)


def test_health_readiness_metrics_and_the_description(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/ready").status_code == 200
    text = client.get("/metrics").text
    assert 'anydose_jobs{state="waiting"}' in text and "anydose_request_seconds_count" in text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/patients", "/api/jobs", "/api/jobs/{job}/release", "/api/jobs/{job}/files/{name}"} <= set(
        paths
    )


def test_the_page_is_whole_and_asks_nobody_else(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text.replace("http://www.w3.org", "") and "https://" not in page.text
    for name in ("app.js", "planes.js", "style.css", "plotly.js"):
        assert client.get(f"/web/{name}").status_code == 200


def test_a_wrong_token_gets_nothing_and_the_right_one_everything(tmp_path: Path) -> None:
    with TestClient(guarded(Room(tmp_path), TOKEN)) as asked:
        assert asked.get("/health").status_code == asked.get("/").status_code == 200
        for header in (
            {},
            {"authorization": "Bearer x"},
            {"authorization": f"Basic {TOKEN}"},
            {"cookie": TOKEN},
        ):
            for path in ("/api/jobs", "/metrics", "/openapi.json", "/api/stored", "//api/jobs"):
                assert asked.get(path, headers=header).status_code in (401, 404), (path, header)
        assert asked.get("/api/jobs", headers={"authorization": f"Bearer {TOKEN}"}).json() == []


def test_without_a_token_only_this_machine_is_served(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a token"):
        serve(Room(tmp_path), "0.0.0.0", 1, "")


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} on 127.0.0.1: Address already in use"):
            serve(Room(tmp_path), "127.0.0.1", port, "")


def test_other_pages_cannot_speak_through_the_browser(client: TestClient) -> None:
    assert client.get("/api/jobs", headers={"host": "evil.example"}).status_code == 421
    assert (
        client.post("/api/patients", json={}, headers={"origin": "https://evil.example"}).status_code == 403
    )
    assert client.post("/api/patients", json={}, headers={"origin": "http://127.0.0.1"}).status_code == 201


@pytest.mark.parametrize(
    "path",
    ["../../x", "..%2f..%2fx", "%2e%2e/%2e%2e/x", "a/..%2f..%2fx", "%2fetc%2fx", "a%00b", "..%5cx", "a%0ab"],
)
def test_no_path_leads_out_of_the_patient(client: TestClient, room: Room, path: str) -> None:
    name = client.post("/api/patients", json={}).json()["id"]
    before = {file for file in room.data.parent.rglob("*") if file.is_file() and "jobs.db" not in file.name}
    assert client.put(f"/api/patients/{name}/files/{path}", content=b"1").status_code in (404, 405, 422)
    after = {file for file in room.data.parent.rglob("*") if file.is_file() and "jobs.db" not in file.name}
    assert after == before


def test_uploads_end_at_their_limits(client: TestClient, room: Room) -> None:
    name = client.post("/api/patients", json={}).json()["id"]
    put = f"/api/patients/{name}/files"
    assert client.put(f"{put}/a", content=b"1" * 100_001).status_code == 413
    assert client.put(f"{put}/b", content=(b"1" * 60_000 for _ in range(2))).status_code == 413
    assert client.put(f"{put}/c", content=b"1" * 60_000).status_code == 201
    assert client.put(f"{put}/c", content=b"1").status_code == 409
    assert client.put(f"{put}/d", content=b"1" * 60_000).status_code == 413  # together too much
    codes = [client.put(f"{put}/e{k}", content=b"1").status_code for k in range(6)]
    assert codes == [201] * 4 + [413] * 2
    assert sum(file.stat().st_size for file in (room.patients / name).rglob("files/*")) == 60_004
    assert client.post("/api/patients", content=b"{" + b" " * LARGEST_BODY + b"}").status_code == 413


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "../../etc/passwd"}, "model"),
        ({"model": MARKUP}, "model"),
        ({"scorecard": "../x"}, "scorecard"),
        ({"steps": 51}, "steps"),
        ({"looks": 3}, "looks"),
        ({"given": ["dose"]}, "modalities"),
        ({"names": {"x": "Parotid"}}, "TG-263"),
        ({"unknown": 1}, "unknown"),
        ({"patient": "0" * 32}, "no such patient"),
        ({"patient": "../x"}, "pattern"),
    ],
)
def test_wrong_wishes_are_refused_in_a_sentence(
    client: TestClient, patient: str, change: dict[str, object], why: str
) -> None:
    answer = client.post("/api/jobs", json={"patient": patient, **change})
    assert answer.status_code in (404, 409, 422) and why in answer.text


def test_a_job_is_queued_and_its_result_is_held_until_released(
    client: TestClient, room: Room, patient: str
) -> None:
    job = client.post("/api/jobs", json={"patient": patient}).json()
    assert job["state"] == "waiting" and job["ahead"] == 0 and job["seconds_left"] is None
    other = client.post("/api/jobs", json={"patient": patient}).json()
    assert client.get(f"/api/jobs/{other['id']}").json()["ahead"] == 1
    assert client.delete(f"/api/patients/{patient}").status_code == 409
    place = f"/api/jobs/{job['id']}"
    assert client.get(f"{place}/files/dose.dcm").status_code == 409
    jobs, folder = Jobs(room.queue), room.results / job["id"] / "prediction"
    taken = jobs.take("me")
    assert taken is not None and taken.id == job["id"]
    assert client.delete(place).status_code == 409  # it runs
    folder.mkdir(parents=True)
    (folder / "dose.dcm").write_bytes(b"dose")
    jobs.finish(job["id"], "me", {"case": MARKUP, "warnings": []})
    assert client.get(f"{place}/files/dose.dcm").status_code == 409
    assert client.post(f"{place}/release", json={"by": " "}).status_code == 422
    released = client.post(f"{place}/release", json={"by": f"Dr {MARKUP}"}).json()
    assert released["released_by"] == f"Dr {MARKUP}" and released["state"] == "done"
    assert client.post(f"{place}/release", json={"by": "again"}).status_code == 409
    file = client.get(f"{place}/files/dose.dcm")
    assert file.content == b"dose" and file.headers["content-disposition"].startswith("attachment")
    for name in ("run.json", "..%2frun.json", "%2e%2e", "dose.dcm%00"):
        assert client.get(f"{place}/files/{name}").status_code in (404, 422)
    assert client.delete(place).status_code == 204 and not folder.exists()
    assert client.get(place).status_code == 404
    assert client.delete(f"/api/jobs/{other['id']}").status_code == 204


def test_files_that_are_no_patient_are_a_sentence_without_our_paths(client: TestClient, room: Room) -> None:
    name = client.post("/api/patients", json={}).json()["id"]
    client.put(f"/api/patients/{name}/files/note.txt", content=MARKUP.encode())
    answer = client.post(f"/api/patients/{name}/survey")
    assert answer.status_code == 422 and "accepted" in answer.text and str(room.data) not in answer.text


def finished(room: Room, client: TestClient, patient: str) -> str:
    """A job whose result is held."""
    job = str(client.post("/api/jobs", json={"patient": patient}).json()["id"])
    jobs = Jobs(room.queue)
    while (taken := jobs.take("me")) is not None:
        (room.results / taken.id / "prediction").mkdir(parents=True)
        jobs.finish(taken.id, "me", {"case": "a", "warnings": []})
    return job


def test_a_released_patient_is_removed_where_that_is_wanted(tmp_path: Path) -> None:
    write_phantom(1, tmp_path / "cases" / "phantom_1", "openkbp")
    room = Room(tmp_path, remove_released=True)
    with TestClient(guarded(room, ""), base_url="http://127.0.0.1") as asked:
        patient = str(asked.post("/api/patients", json={"stored": "phantom_1"}).json()["id"])
        room.note(patient, survey={})
        first, second = finished(room, asked, patient), asked.post("/api/jobs", json={"patient": patient})
        assert asked.post(f"/api/jobs/{first}/release", json={"by": "me"}).status_code == 200
        assert (room.patients / patient).is_dir()  # the second job still reads it
        assert finished(room, asked, patient) != second.json()["id"]
        assert asked.post(f"/api/jobs/{second.json()['id']}/release", json={"by": "me"}).status_code == 200
        assert not (room.patients / patient).exists() and (room.results / first).is_dir()


def test_old_results_and_uploads_are_removed_and_waiting_ones_are_not(tmp_path: Path) -> None:
    room = Room(tmp_path, keep_days=1e-6)
    room.prepare()
    jobs = Jobs(room.queue)
    done, waiting, unused = (room.new_patient(None, set()) for _ in range(3))
    old = jobs.submit({"patient": done}, hold=True)
    jobs.take("me")
    (room.results / old.id / "prediction").mkdir(parents=True)
    jobs.finish(old.id, "me", {"case": "a", "warnings": []})
    young = jobs.submit({"patient": waiting}, hold=True)
    time.sleep(0.2)
    tidy_room(room, jobs)
    assert jobs.find(old.id) is None and not (room.results / old.id).exists()
    assert [path.name for path in room.patients.iterdir()] == [waiting]
    assert jobs.find(young.id) is not None and unused != waiting


def test_a_scorecard_of_ones_own_is_offered_and_used(client: TestClient, room: Room) -> None:
    patient = room.new_patient("phantom_1", set())
    room.note(patient, survey={})
    content = next(iter(templates().values())).read_bytes()
    place = "/api/scorecards/our clinic.json"
    assert client.put(place, content=content).json() == {"name": "our clinic"}
    assert "our clinic" in client.get("/api/scorecards").json()
    assert (room.scorecards / "our clinic.json").read_bytes() == content
    wanted = {"patient": patient, "scorecard": "our clinic"}
    assert client.post("/api/jobs", json=wanted).status_code == 202
    assert client.put(place, content=content).status_code == 409
    for name, body, status in (
        ("bad.json", b"{}", 422),
        ("bad.json", b"\xff\x00", 422),
        ("bad.csv", b"Nothing", 422),
        ("..%2fbad.json", content, 404),
        ("bad.exe", content, 422),
        (f"{next(iter(templates()))}.json", content, 409),
        ("long.json", b" " * (LARGEST_BODY + 1), 413),
    ):
        answer = client.put(f"/api/scorecards/{name}", content=body)
        assert answer.status_code == status, (name, answer.text)
        assert str(room.data) not in answer.text
    assert [path.name for path in room.scorecards.iterdir()] == ["our clinic.json"]
