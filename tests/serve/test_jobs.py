"""The queue: every job is done once, whoever dies when; on SQLite, and on PostgreSQL where it is there."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import queue_worker

from anydose.serve import jobs as queue
from anydose.serve.jobs import Jobs
from anydose.serve.work import heard

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="module")
def postgres():
    """A server of our own behind a socket in its folder; it is gone afterwards."""
    pytest.importorskip("psycopg")
    if not POSTGRES or os.geteuid() or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL is not installed, or nobody can be another user than root")
    folder, programs = Path(tempfile.mkdtemp(prefix="anydose-queue-")), POSTGRES[-1].parent
    shutil.chown(folder, "postgres")
    run = ["runuser", "-u", "postgres", "--"]
    subprocess.run(
        [*run, programs / "initdb", "-D", folder / "db", "-A", "trust"], check=True, stdout=subprocess.DEVNULL
    )
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    start = [*run, programs / "pg_ctl", "-D", folder / "db", "-w", "-o", options]
    subprocess.run([*start, "-l", folder / "log", "start"], check=True, stdout=subprocess.DEVNULL)
    yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    subprocess.run([*start, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/jobs.db"
        return
    found = request.getfixturevalue("postgres")
    yield found
    for job in Jobs(found, most_attempts=1).newest():
        Jobs(found).abandon(job.owner)
        Jobs(found).delete(job.id)


def test_a_job_passes_its_states_and_no_other(url):
    jobs = Jobs(url)
    job = jobs.submit({"looks": 1}, place="a", key="k", hold=True, send_to=["pacs"], state=queue.RECEIVED)
    assert (job.state, job.request, job.place) == ("received", {"looks": 1}, "a")
    assert jobs.take("w") is None and not jobs.release(job.id, "me")
    assert jobs.ready(job.id) and not jobs.ready(job.id)
    taken = jobs.take("w")
    assert taken.id == job.id and taken.state == "running" and jobs.take("w2") is None
    assert jobs.say(job.id, "w", "read", 0.2) and not jobs.say(job.id, "w2", "sample", 0.9)
    assert (jobs.find(job.id).stage, jobs.find(job.id).progress) == ("read", 0.2)
    assert not jobs.finish(job.id, "w2", {}) and jobs.finish(job.id, "w", {"dose": "dose.dcm"})
    assert jobs.find(job.id).state == "held" and jobs.take("s", queue.RELEASED) is None
    assert jobs.release(job.id, "a physicist") and not jobs.release(job.id, "a physicist")
    assert jobs.take("s", queue.RELEASED).state == "delivering"
    assert not jobs.delete(job.id)
    assert jobs.sent(job.id, "s", "pacs", "1.2.3") and jobs.sent(job.id, "s", "pacs", "1.2.3")
    assert jobs.acknowledged(job.id) == {("pacs", "1.2.3")}
    assert jobs.finish(job.id, "s")
    done = jobs.find(job.id)
    assert (done.state, done.result, done.released_by) == ("done", {"dose": "dose.dcm"}, "a physicist")
    assert jobs.counts() == dict.fromkeys(queue.STATES, 0) | {"done": 1}
    assert jobs.delete(job.id) and jobs.find(job.id) is None and not jobs.acknowledged(job.id)


def test_a_key_is_in_the_queue_once(url):
    jobs = Jobs(url)
    with ThreadPoolExecutor(8) as pool:
        ids = {job.id for job in pool.map(lambda _: Jobs(url).submit({}, key="study"), range(16))}
    assert len(ids) == 1 and jobs.counts()["waiting"] == 1
    assert len({jobs.submit({}).id, jobs.submit({}).id}) == 2


def test_the_oldest_is_taken_first_and_nothing_twice(url):
    jobs = Jobs(url)
    ids = [jobs.submit({"n": n}).id for n in range(12)]
    assert jobs.ahead_of(jobs.find(ids[7])) == 7
    assert jobs.take("first").id == ids[0]

    def all_of(owner):
        mine = Jobs(url)
        return [job.id for job in iter(lambda: mine.take(owner), None)]

    with ThreadPoolExecutor(4) as pool:
        taken = [name for names in pool.map(all_of, "abcd") for name in names]
    assert sorted(taken) == sorted(ids[1:])


def test_a_put_off_delivery_waits_and_a_failed_one_can_be_tried_again(url):
    jobs = Jobs(url)
    job = jobs.submit({}, send_to=["pacs"])
    jobs.take("w")
    jobs.finish(job.id, "w", {"dose": "x"})
    jobs.take("s", queue.RELEASED)
    assert jobs.put_off(job.id, "s", "pacs does not answer", 0.3)
    assert jobs.take("s", queue.RELEASED) is None and jobs.find(job.id).error == "pacs does not answer"
    time.sleep(0.35)
    assert jobs.take("s", queue.RELEASED).id == job.id and jobs.fail(job.id, "s", "refused")
    assert jobs.again(job.id) and jobs.find(job.id).state == "released"
    other = jobs.submit({})
    jobs.take("w")
    jobs.fail(other.id, "w", "no CT")
    assert jobs.again(other.id) and jobs.find(other.id).state == "waiting" and not jobs.again(other.id)


def test_a_silent_worker_loses_its_job_and_cannot_spoil_it(url):
    jobs = Jobs(url, silent_s=0.2)
    job = jobs.submit({})
    assert jobs.take("slow").id == job.id
    time.sleep(0.3)
    assert jobs.take("next").id == job.id
    assert not jobs.say(job.id, "slow") and not jobs.finish(job.id, "slow", {"dose": "wrong"})
    assert not jobs.fail(job.id, "slow", "x")
    assert jobs.finish(job.id, "next", {"dose": "right"}) and jobs.find(job.id).result == {"dose": "right"}


def test_a_job_that_kills_its_worker_is_given_up(url):
    jobs = Jobs(url, most_attempts=3)
    job = jobs.submit({})
    for _ in range(3):
        assert jobs.take("w").id == job.id
        jobs.abandon("w")
    failed = jobs.find(job.id)
    assert failed.state == "failed" and "3 times" in failed.error and jobs.take("w") is None


@pytest.mark.slow
def test_workers_that_are_killed_lose_nothing(tmp_path):
    """kill -9 of real processes at odd moments: every job ends, with its own result."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    jobs = Jobs(url)
    ids = [jobs.submit({"n": n}).id for n in range(8)]
    line = [sys.executable, queue_worker.__file__, url, str(tmp_path)]
    for k in range(5):
        before, process = len(list(tmp_path.glob("[0-9]"))), subprocess.Popen(line)
        while len(list(tmp_path.glob("[0-9]"))) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(0.007 * k)
        process.kill()
        process.wait()
    subprocess.run(line, check=True, timeout=30)
    assert jobs.counts()["done"] == 8
    assert [jobs.find(name).result["n"] for name in ids] == list(range(8))


@pytest.mark.parametrize("text", ["jobs.db", "oracle://x", "sqlite:////no/such/folder/jobs.db"])
def test_a_queue_that_cannot_be_opened_is_said(text):
    with pytest.raises((ValueError, OSError), match="queue"):
        Jobs(text)


def test_status_is_quick_with_many_jobs(tmp_path):
    jobs = Jobs(f"sqlite:///{tmp_path}/jobs.db")
    names = [jobs.submit({"n": n}).id for n in range(40)]
    begin = time.perf_counter()
    for name in names:
        jobs.ahead_of(jobs.find(name))
    assert (time.perf_counter() - begin) / len(names) < 0.05


def test_a_worker_is_heard_while_it_works(tmp_path):
    jobs = Jobs(f"sqlite:///{tmp_path}/jobs.db", silent_s=1.5)
    job = jobs.submit({})
    jobs.take("w")
    with heard(jobs, job, "w", 0.05):
        time.sleep(1.8)
        assert jobs.take("other") is None
    time.sleep(1.6)
    assert jobs.take("other").id == job.id
