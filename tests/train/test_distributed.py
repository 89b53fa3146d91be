"""Two gloo processes whose tasks hold different modalities, against one process that has both."""

import pytest
import torch
from two_ranks import loss_of, network, one_rank, run_two

from anydose.model.checkpoint import describe
from anydose.train import distributed


@pytest.fixture(scope="module")
def truth():
    """The gradients of the mean of both losses, in one process."""
    model = network()
    ((loss_of(model, 0) + loss_of(model, 1)) / 2).backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.fixture(scope="module")
def found(cohort_folder, tmp_path_factory):
    """What both ranks report, and the folder that their training wrote."""
    out = tmp_path_factory.mktemp("runs")
    return run_two(one_rank, str(cohort_folder), str(out)), out / "any2any"


def test_gradients_are_those_of_one_process_on_both_ranks(truth, found):
    for rank, place, alone, gradients, *_ in found[0]:
        assert place == (rank, 2)
        assert alone["embed.ct.weight"] == (rank == 0)  # the ranks really hold different modalities
        assert alone["head.ptv.weight"] == (rank == 1)
        for name, expected in truth.items():
            expected = torch.zeros(()) if expected is None else expected
            error = (torch.from_numpy(gradients[name]) - expected).abs().max()
            assert float(error) <= 1e-6, (rank, name)
    assert truth["embed.ct.weight"].abs().max() > 1e-3
    assert truth["head.ptv.weight"].abs().max() > 1e-3


def test_two_ranks_train_one_model_on_different_tasks(found):
    (*_, losses0, weight0), (*_, losses1, weight1) = found[0]
    assert len(losses0) == len(losses1) == 3  # two epochs of three cases, two cases a step
    assert losses0 != losses1
    assert (weight0 == weight1).all()
    rows = (found[1] / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3"]  # one log, one checkpoint
    assert describe(found[1] / "model.safetensors")["record"]["step"] == 3


def test_one_process_is_left_alone():
    model = network()
    loss_of(model, 0).backward()
    before = model.embed["ct"].weight.grad.clone()
    distributed.average_gradients(list(model.parameters()))
    assert torch.equal(model.embed["ct"].weight.grad, before)
    assert model.embed["ptv"].weight.grad is None
    assert distributed.rank_and_world() == (0, 1)
    assert distributed.start("cpu") is None
