"""Two gloo processes whose tasks hold different modalities, against one process that has both."""

import csv
import shutil
from dataclasses import replace

import pytest
import torch
from two_ranks import RUN, Loss, gradients_and_a_run, run_two

from anydose.train import distributed
from anydose.train.trainer import Trainer


@pytest.fixture(scope="module")
def truth():
    """The gradients of the mean of both losses, in one process."""
    loss = Loss()
    ((loss(0) + loss(1)) / 2).backward()
    return {name: p.grad for name, p in loss.model.named_parameters()}


@pytest.fixture(scope="module")
def found(cohort_folder, tmp_path_factory):
    """What both ranks report, and the folder that their training wrote."""
    out = tmp_path_factory.mktemp("runs")
    return run_two(gradients_and_a_run, str(cohort_folder), str(out)), out


@pytest.fixture(scope="module")
def alone(cohort_folder, tmp_path_factory):
    """The same training by one process: four examples a step, as the two had together; its losses."""
    out = tmp_path_factory.mktemp("alone")
    trainer = Trainer(replace(RUN, data=str(cohort_folder), out=str(out), accumulate=4))
    return [s.metrics["loss"] for s in trainer.run()], trainer


def test_gradients_are_those_of_one_process_on_both_ranks(truth, found):
    for rank, place, alone, gradients, *_ in found[0]:
        assert place == (rank, 2)
        assert alone["embed.ct.weight"] == (rank == 0)  # the ranks really hold different modalities
        assert alone["head.ptv.weight"] == (rank == 1)
        for name, expected in truth.items():
            if expected is None:
                assert gradients[name] is None, name  # as in one process: the optimiser leaves it alone
                continue
            error = (torch.from_numpy(gradients[name]) - expected).abs().max()
            assert float(error) <= 1e-6, (rank, name)
    assert truth["embed.ct.weight"].abs().max() > 1e-3
    assert truth["head.ptv.weight"].abs().max() > 1e-3


def test_two_ranks_train_one_model_and_log_their_mean(found, alone):
    (*_, metrics0, weight0), (*_, metrics1, weight1) = found[0]
    assert metrics0 == metrics1
    assert (weight0 == weight1).all()
    assert metrics0[0]["loss"] == pytest.approx(alone[0][0], rel=1e-5)
    rows = (found[1] / "t" / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1"]  # one log


def test_a_run_of_two_ranks_goes_on_with_one(found, alone, cohort_folder, tmp_path):
    """Two epochs of three cases: four examples are done, two are left, which is one step of one process."""
    shutil.copytree(found[1] / "t", tmp_path / "t")
    trainer = Trainer(replace(RUN, data=str(cohort_folder), out=str(tmp_path)))
    trainer.resume()
    assert (trainer.step, trainer.examples, trainer.whole, trainer.steps) == (1, 4, 6, 2)
    numbers = [d for _, d in trainer._patients()]
    assert [d.case for d in numbers] == drawn_cases(trainer, (4, 5))
    list(trainer.run())
    with (tmp_path / "t" / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    assert trainer.examples == 6


def drawn_cases(trainer, numbers):
    from anydose.train.tasks import draw

    modalities = trainer.cohort.modalities
    return [draw(RUN.task, modalities, RUN.seed, number, 4 / 6).case for number in numbers]


def test_one_process_is_left_alone():
    module = Loss()
    assert distributed.data_parallel(module) is module
    assert distributed.rank_and_world() == (0, 1)
    assert distributed.start("cpu") is None
    assert distributed.mean_over_ranks({"loss": 2.0}, torch.device("cpu")) == {"loss": 2.0}
