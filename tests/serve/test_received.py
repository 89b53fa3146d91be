"""Objects on their way into the queue: received whole and once, collected when complete, sent once."""

import os
import subprocess
import time
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from clinic_pacs import RunningNode, free_port, study
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from anydose.io.dicom.marks import mark
from anydose.serve import scp, send
from anydose.serve.complete import Collector, facts, is_satisfied
from anydose.serve.config import NodeConfig, Sender, read_config
from anydose.serve.jobs import Jobs
from anydose.serve.log import words_of
from anydose.serve.node import Node
from anydose.serve.outgoing import uid_of
from anydose.serve.predicting import OWNER, result_folder
from anydose.serve.received import OWN, NotDicom, Received
from anydose.serve.work import sole_owner

RTDOSE = "1.2.840.10008.5.1.4.1.1.481.2"


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return study(tmp_path_factory.mktemp("clinic") / "study")


def files_of(patient):
    return sorted(patient.rglob("*.dcm"))


def config(tmp_path, **more):
    base = {"data": tmp_path / "data", "port": free_port(), "senders": [{"ae": "PACS"}], "keep_free_gb": 0}
    return NodeConfig(**{**base, **more})


def queue(settings):
    settings.data.mkdir(exist_ok=True)
    return Jobs(settings.queue_url)


def test_an_object_is_filed_once_and_names_nobody(patient, tmp_path):
    received, pacs = Received(tmp_path / "received"), Sender(ae="PACS")
    for path in files_of(patient) * 2:
        name = received.add(path.read_bytes(), pacs)
    ((found, files),) = received.studies().items()
    assert found == name and len(files) == len(files_of(patient)) and received.sender_of(name) == "PACS"
    head = dcmread(files[0])
    places = " ".join(str(path) for path in (tmp_path / "received").rglob("*"))
    assert str(head.PatientID) not in places and head.StudyInstanceUID not in places
    assert received.add(files_of(patient)[0].read_bytes(), Sender(ae="OTHER")) != name


def test_what_is_no_object_of_ours_is_refused_and_our_own_dose_is_not_taken_in(patient, tmp_path):
    received, pacs = Received(tmp_path / "received"), Sender(ae="PACS")
    whole = files_of(patient)[0].read_bytes()
    for content in (b"", b"\0" * 500, whole[:200], os.urandom(2000)):
        with pytest.raises(NotDicom):
            received.add(content, pacs)
    ours = dcmread(files_of(patient)[0])
    mark(ours, "compact-hn", "ab" * 32)
    ours.save_as(tmp_path / "ours.dcm")
    assert received.add((tmp_path / "ours.dcm").read_bytes(), pacs) == OWN
    assert not received.studies()


def test_a_full_disk_takes_nothing(patient, tmp_path):
    with pytest.raises(OSError, match="kept"):
        Received(tmp_path / "r", keep_free_gb=1e9).add(files_of(patient)[0].read_bytes(), Sender(ae="PACS"))


def test_a_study_is_complete_with_every_slice_its_structures_name(patient):
    known = [facts(path) for path in files_of(patient)]
    assert {one.kind for one in known} >= {"CT", "RTSTRUCT", "RTPLAN"} and is_satisfied(known)
    for k, one in enumerate(known):
        without = known[:k] + known[k + 1 :]
        assert is_satisfied(without) == (one.kind == "RTPLAN"), one.kind


def test_a_study_is_queued_once_and_again_when_it_grows(patient, tmp_path):
    settings = config(tmp_path, settle_s=0.1, quiet_s=1.5)
    received, pacs, jobs = Received(settings.data / "received"), settings.senders[0], queue(settings)
    for path in files_of(patient)[:5]:  # slices alone
        received.add(path.read_bytes(), pacs)
    time.sleep(0.2)
    assert not Collector(settings, received, jobs).look()
    for path in files_of(patient):
        received.add(path.read_bytes(), pacs)
    time.sleep(0.2)
    (job,) = Collector(settings, received, jobs).look()
    assert Collector(settings, received, jobs).look() == [job] and len(jobs.newest()) == 1  # after a restart
    place = Path(jobs.find(job).place)
    assert sorted(p.name for p in place.iterdir()) == [p.name for p in received.studies().popitem()[1]]
    more = dcmread(files_of(patient)[0])
    more.SOPInstanceUID = more.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    more.save_as(tmp_path / "more.dcm")
    received.add((tmp_path / "more.dcm").read_bytes(), pacs)
    time.sleep(0.2)
    assert len(Collector(settings, received, jobs).look()) == 1 and len(jobs.newest()) == 2
    assert len(list(place.iterdir())) == len(files_of(patient))


def test_an_incomplete_study_is_queued_when_it_is_quiet(patient, tmp_path):
    settings = config(tmp_path, settle_s=0.1, quiet_s=0.5)
    received, jobs = Received(settings.data / "received"), queue(settings)
    received.add(files_of(patient)[0].read_bytes(), settings.senders[0])
    collector = Collector(settings, received, jobs)
    assert not collector.look()
    time.sleep(0.6)
    assert len(collector.look()) == 1


def store(port, path, ae="PACS", called="ANYDOSE"):
    """The status of one C-STORE; None if there is no association."""
    entity, data = AE(ae_title=ae), dcmread(path)
    entity.add_requested_context(data.SOPClassUID, [data.file_meta.TransferSyntaxUID])
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    status = association.send_c_store(data).get("Status")
    association.release()
    return status


def test_only_peers_on_the_list_are_heard(patient, tmp_path):
    senders = [{"ae": "PACS"}, {"ae": "AFAR", "addresses": ["10.1.2.0/24"]}]
    settings = config(tmp_path, senders=senders)
    server = scp.listen(settings, Received(settings.data / "received"), lambda _: None)
    try:
        path = files_of(patient)[0]
        assert store(settings.port, path) == 0
        assert store(settings.port, path, ae="AFAR") == 0x0124
        assert store(settings.port, path, ae="NOBODY") is None
        assert store(settings.port, path, called="OTHER") is None
    finally:
        server.shutdown()


def test_a_full_disk_is_said_to_the_sender(patient, tmp_path):
    settings = config(tmp_path, keep_free_gb=1e9)
    server = scp.listen(settings, Received(settings.data / "received", 1e9), lambda _: None)
    try:
        assert store(settings.port, files_of(patient)[0]) == 0xA700
    finally:
        server.shutdown()


def finished_job(settings, jobs, patient):
    """A job whose result is an RTDOSE made from a slice, ready to be sent."""
    job = jobs.submit({}, send_to=["pacs"])
    jobs.take(OWNER)
    dose = dcmread(files_of(patient)[0])
    dose.SOPClassUID = dose.file_meta.MediaStorageSOPClassUID = RTDOSE
    result_folder(settings, job).mkdir(parents=True)
    dose.save_as(result_folder(settings, job) / "dose.dcm")
    jobs.finish(job.id, OWNER, {"outputs": ["dose.dcm"]})
    return job


def test_a_peer_that_is_down_is_tried_again_and_gets_every_object_once(patient, tmp_path):
    port, got, answers = free_port(), [], [0xA700, 0x0000]
    settings = config(tmp_path, destinations=[{"name": "pacs", "ae": "P", "port": port}], retry_s=0.1)
    jobs = queue(settings)
    job = finished_job(settings, jobs, patient)
    send.deliver_next(settings, jobs)
    assert jobs.find(job.id).state == "released" and jobs.find(job.id).error == "pacs does not answer"

    def take(event):
        status = answers.pop(0)
        got.append((status, event.request.AffectedSOPInstanceUID))
        return status

    peer = AE(ae_title="P")
    peer.add_supported_context(RTDOSE)
    server = peer.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        time.sleep(0.15)
        send.deliver_next(settings, jobs)
        assert jobs.find(job.id).error == "pacs answers 0xA700" and send.deliver_next(settings, jobs) is None
        time.sleep(0.3)
        send.deliver_next(settings, jobs)
    finally:
        server.shutdown()
    assert jobs.find(job.id).state == "done" and got == [(0xA700, uid_of(job.id, "dose")), (0, got[0][1])]
    assert jobs.acknowledged(job.id) == {("pacs", got[0][1])}


def test_what_was_acknowledged_before_a_death_is_not_sent_again(patient, tmp_path):
    nobody = {"name": "pacs", "ae": "P", "port": free_port()}
    settings = config(tmp_path, destinations=[nobody])
    jobs = queue(settings)
    job = finished_job(settings, jobs, patient)
    jobs.take(send.OWNER, "released")
    jobs.sent(job.id, send.OWNER, "pacs", str(uid_of(job.id, "dose")))
    jobs.abandon(send.OWNER)
    send.deliver_next(settings, jobs)
    assert jobs.find(job.id).state == "done"


def test_the_watched_folder_is_emptied_into_the_node(patient, tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    settings = config(tmp_path, senders=[{"ae": "FOLDER"}], watch=inbox)
    node, received = (
        Node(tmp_path / "c.yaml", settings, queue(settings)),
        Received(settings.data / "received"),
    )
    for path in files_of(patient):
        (inbox / path.name).write_bytes(path.read_bytes())
    (inbox / "notes.txt").write_text("hello")
    node.watch(received)
    assert not received.studies()  # perhaps they are still being written
    node.watch(received)
    assert [p.name for p in inbox.rglob("*") if p.is_file()] == ["notes.txt"]
    assert (inbox / "refused" / "notes.txt").is_file()
    assert len(received.studies().popitem()[1]) == len(files_of(patient))


def delivered(settings, patient):
    """A received study whose job is held: the parts of its node, and the job's id."""
    received, jobs = Received(settings.data / "received"), queue(settings)
    collector = Collector(settings, received, jobs)
    for path in files_of(patient):
        received.add(path.read_bytes(), settings.senders[0])
    time.sleep(0.2)
    (name,) = collector.look()
    jobs.take(OWNER)
    jobs.finish(name, OWNER, {})
    return Node(settings.data / "c.yaml", settings, jobs), received, collector, name


def dicom_below(folder):
    return [path.name for path in folder.rglob("*.dcm")]


HOLDING = [{"ae": "PACS", "hold": True}]


def test_old_data_is_removed_with_its_job_and_held_data_is_not(patient, tmp_path):
    settings = config(tmp_path, settle_s=0.1, keep_days=1e-6, senders=HOLDING)
    node, received, collector, name = delivered(settings, patient)
    time.sleep(0.1)
    node.tidy()
    assert node.jobs.find(name).state == "held" and received.studies()
    node.jobs.release(name, "me")
    node._tidied = 0
    node.tidy()
    assert node.jobs.find(name) is None and not dicom_below(settings.data)


def test_what_was_delivered_is_removed_at_once_where_that_is_wanted(patient, tmp_path):
    settings = config(tmp_path, settle_s=0.1, remove_delivered=True, senders=HOLDING)
    node, received, collector, name = delivered(settings, patient)
    node.tidy()
    assert node.jobs.find(name) is not None
    node.jobs.release(name, "me")
    node.tidy()
    assert node.jobs.find(name) is None and not dicom_below(settings.data)
    assert collector.look() == []
    for path in files_of(patient):  # the same study again is a new one
        received.add(path.read_bytes(), settings.senders[0])
    time.sleep(0.2)
    assert len(collector.look()) == 1


def test_an_object_that_came_after_the_job_is_kept(patient, tmp_path):
    settings = config(tmp_path, settle_s=0.1, remove_delivered=True, senders=HOLDING)
    node, received, collector, name = delivered(settings, patient)
    more = dcmread(files_of(patient)[0])
    more.SOPInstanceUID = more.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    content = BytesIO()
    more.save_as(content)
    study = received.add(content.getvalue(), settings.senders[0])
    node.jobs.release(name, "me")
    node.tidy()
    assert node.jobs.find(name) is None
    assert len(received.studies()[study]) == len(files_of(patient)) + 1


def test_one_node_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("anydose.serve.work.LOCK_S", 0.2)
    with sole_owner(tmp_path), pytest.raises(ValueError, match="another server"), sole_owner(tmp_path):
        pass


def test_words_that_name_the_patient_are_found(patient):
    head = dcmread(files_of(patient)[0])
    assert {str(head.PatientName), str(head.PatientID)} <= words_of(patient / "CT")


WRONG = [
    ("senders", [], "senders"),
    ("senders", [{"ae": "way too long for a title"}], "ae"),
    ("senders", [{"ae": "A", "addresses": ["nowhere"]}], "nowhere"),
    ("senders", [{"ae": "A", "send_to": ["moon"]}], "moon"),
    ("senders", [{"ae": "A"}, {"ae": "A"}], "different"),
    ("destinations", [{"name": "p"}], "either"),
    ("destinations", [{"name": "p", "ae": "P", "tls": True}], "tls"),
    ("watch", "inbox", "FOLDER"),
    ("prot", 11112, "prot"),
    ("port", 0, "port"),
]


@pytest.mark.parametrize(("word", "value", "said"), WRONG)
def test_a_wrong_configuration_is_one_sentence(tmp_path, word, value, said):
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({"data": "d", "senders": [{"ae": "A"}], word: value}))
    with pytest.raises(ValueError, match=said) as refused:
        read_config(path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith(str(path))


def test_paths_are_relative_to_the_file_and_loopback_is_the_default(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({"data": "d", "senders": [{"ae": "A", "names": "n.yaml"}]}))
    found = read_config(path)
    assert (found.data, found.senders[0].names, found.host) == (
        tmp_path / "d",
        tmp_path / "n.yaml",
        "127.0.0.1",
    )
    assert found.senders[0].hold and found.senders[0].may_call_from("127.0.0.1")
    assert not found.senders[0].may_call_from("10.0.0.1")


@pytest.mark.slow
def test_the_command_refuses_a_wrong_configuration_with_exit_code_2(tmp_path):
    node = RunningNode(tmp_path, senders=[{"ae": "A"}], prediction={"model": "compact-hn", "sha256": "ab"})
    done = subprocess.run(node.line("--check"), capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "the configuration pins ab" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_check_says_what_does_not_answer(tmp_path):
    place = {"name": "pacs", "ae": "P", "port": free_port()}
    node = RunningNode(tmp_path, senders=[{"ae": "A"}], destinations=[place])
    done = subprocess.run(node.line("--check"), capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert done.stdout == f"port {node.port} on 127.0.0.1: free\npacs does not answer\n"


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\x00"])
def test_what_is_no_yaml_is_one_sentence(tmp_path, text):
    (tmp_path / "node.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"node\.yaml"):
        read_config(tmp_path / "node.yaml")
