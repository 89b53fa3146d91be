"""One function over many cases: each failure stays with its case, a dead worker's case is done by another."""

import os
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from some_work import breaks, dies_always, dies_once, halve

from anydose.engine.crew import Done, WorkerDiedError
from anydose.engine.engine import Engine, _shared_out, each

TWO = Engine(workers=2)
NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
RAY = pytest.param(Engine("ray", workers=2), marks=(pytest.mark.slow, NO_RAY), id="ray")
EVERYWHERE = pytest.mark.parametrize("engine", [pytest.param(TWO, id="local"), RAY])


@pytest.fixture(autouse=True)
def workers_find_what_the_tests_do(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def jobs(count, folder):
    return [(number, folder) for number in range(count)]


def begun(folder):
    return (folder / "begun").read_text().splitlines()


@pytest.mark.parametrize("engine", [Engine(), pytest.param(TWO, id="local"), RAY])
def test_every_job_is_done_once_and_a_failure_is_its_own(engine, tmp_path):
    found = {done.job[0]: done for done in each(halve, jobs(8, tmp_path), engine)}
    assert sorted(found) == list(range(8)) == sorted(map(int, begun(tmp_path)))
    assert {n: done.result[0] for n, done in found.items() if not done.why} == {0: 0, 2: 1, 4: 2, 6: 3}
    assert {n: done.why for n, done in found.items() if done.why} == {n: f"{n} is odd" for n in (1, 3, 5, 7)}
    own = {done.result[1] == os.getpid() for done in found.values() if not done.why}
    assert own == {engine.workers == 1}, "one local worker is this process, others are not"


@EVERYWHERE
def test_the_case_of_a_worker_that_is_killed_is_done_by_another(engine, tmp_path):
    found = list(each(dies_once, jobs(8, tmp_path), engine))
    assert (tmp_path / "died").exists()
    assert sorted(done.result for done in found) == list(range(8)) and not any(done.why for done in found)


@EVERYWHERE
def test_a_case_that_always_kills_its_worker_takes_no_other_with_it(engine, tmp_path):
    found = {done.job[0]: done for done in each(dies_always, jobs(8, tmp_path), engine)}
    assert [n for n, done in found.items() if done.why] == [5]
    assert "died 3 times" in found[5].why and len(found) == 8


@EVERYWHERE
def test_a_fault_of_the_program_ends_the_whole(engine, tmp_path):
    with pytest.raises(KeyError):
        list(each(breaks, jobs(3, tmp_path), engine))


def test_nobody_begins_what_no_one_waits_for(tmp_path):
    """Two workers and one job ahead: a thousand jobs are not handed out at once."""
    results = each(halve, jobs(1000, tmp_path), TWO)
    next(results)
    results.close()
    assert len(begun(tmp_path)) < 10


@pytest.mark.parametrize("retries", [0, 1, 2, 4])
def test_so_many_tries_as_were_asked_for_and_the_last_one_alone(retries):
    """Workers of which every death takes all with it: nobody but the culprit is blamed."""
    handed, together = [], []

    def wait(tickets):
        together.append(len(tickets))
        dead = any(handed[ticket] == 5 for ticket in tickets)
        return tickets if dead else tickets[:1]

    def result(ticket):
        alone = together[-1] == 1
        if (5 in handed[-together[-1] :] and not alone) or handed[ticket] == 5:
            raise WorkerDiedError
        return Done(handed[ticket])

    def hand_out(job):
        handed.append(job)
        return len(handed) - 1

    crew = SimpleNamespace(
        one_death_is_all=True,
        room=lambda: 3,
        hand_out=hand_out,
        wait=wait,
        result=result,
        leave=lambda tickets: None,
    )
    found = {done.job: done.why for done in _shared_out(range(9), crew, retries)}
    assert sorted(found) == list(range(9)) and handed.count(5) == retries + 1
    if retries:
        assert [job for job, why in found.items() if why] == [5]


def test_what_no_engine_can_be_is_refused():
    for wrong in ({"engine": "slurm"}, {"workers": -1}, {"address": "auto"}, {"gpus": 1.0}):
        with pytest.raises(ValueError):
            Engine(**wrong)
    assert Engine(workers=0).on_device("cuda").workers == 1
    assert Engine("ray").on_device("cuda").gpus == 1 and Engine("ray").on_device("cpu").gpus == 0
