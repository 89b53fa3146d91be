"""The tensor twin: exact values, gradients of the smooth histogram."""

from __future__ import annotations

import numpy as np
import pytest
from scored_phantom import CONFORMITY, CORD_MAX, COVERAGE, HEART, HOMOGENEITY, RIND, card, case, dose_gy

from anydose.score.binding import bind
from anydose.score.dvh import DVH
from anydose.score.metrics import TABLE, Definition, evaluate
from anydose.score.scoring import score
from anydose.score.soft import SoftDVH

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
CC = 0.05
DOSES = np.random.default_rng(1).gamma(6.0, 6.0, 4000)
ASKED = [
    Definition("MinDose", output="Gy"),
    Definition("MaxDose", output="cGy"),
    Definition("MeanDose", output="%"),
    *(Definition("DoseAtVolume", v, "%", "Gy") for v in (0, 1, 2, 50, 95, 98, 99, 100)),
    *(Definition("DoseAtVolume", v, "cc", "Gy") for v in (0.03, 0.1, 1, 100)),
    *(Definition("VolumeAtDose", v, "Gy", "%") for v in (5, 20, 36, 60)),
    Definition("VolumeOfRegret", 30.0, "Gy", "cc"),
    Definition("ConformationNumber", 30.0, "Gy"),
    Definition("ConformityIndex", 30.0, "Gy"),
    Definition("HomogeneityIndex", target=36.0, target_unit="Gy"),
    Definition("InhomogeneityIndex"),
    Definition("ModifiedGradientIndex", high=40.0, low=20.0),
    Definition("DoseAtSubVolume", 20.0, "cc", "Gy"),
    Definition("PaddickConformity", 30.0, "Gy"),
    Definition("RtogConformity", 30.0, "Gy"),
    Definition("IcruHomogeneity"),
    Definition("GradientIndex", 40.0, "Gy"),
    Definition("EquivalentUniformDose", 8.0, None, "Gy"),
]


def both(of: Definition) -> tuple[float, torch.Tensor, torch.Tensor]:
    body = np.concatenate([DOSES, DOSES / 2])
    exact = evaluate(of, DVH(DOSES, CC), DVH(body, CC), 36.0)
    leaf = torch.tensor(DOSES, requires_grad=True)
    soft_body = SoftDVH(torch.cat([leaf, leaf / 2]), CC)
    return float(exact), evaluate(of, SoftDVH(leaf, CC), soft_body, 36.0), leaf


@pytest.mark.parametrize("of", ASKED, ids=lambda of: f"{of.metric}-{of.value}")
def test_the_twin_has_the_exact_value_and_a_gradient(of: Definition) -> None:
    exact, soft, leaf = both(of)
    assert float(soft.detach()) == pytest.approx(exact, rel=1e-9, abs=1e-9)
    soft.backward()
    assert torch.isfinite(leaf.grad).all() and leaf.grad.abs().sum() > 0


def test_every_metric_of_the_table_is_asked() -> None:
    assert {of.metric for of in ASKED} == set(TABLE) - {"Volume", "Undefined"}


@pytest.mark.parametrize("of", [Definition("DoseAtVolume", v, "%", "Gy") for v in (0, 2, 50, 95, 100)])
def test_raising_every_voxel_by_a_gray_raises_a_dose_by_a_gray(of: Definition) -> None:
    _, soft, leaf = both(of)
    soft.backward()
    assert float(leaf.grad.sum()) == pytest.approx(1.0)
    assert (leaf.grad >= 0).all()


@pytest.mark.parametrize("level", [20.0, 30.0, 45.0])
def test_the_gradient_of_a_volume_is_the_slope_of_the_histogram(level: float) -> None:
    """Moving every voxel by s moves V(D) by -s dV/dD; compared with the exact difference over +-2 Gy."""
    _, soft, leaf = both(Definition("VolumeAtDose", level, "Gy", "%"))
    soft.backward()
    exact = DVH(DOSES, CC)
    slope = 100 * (exact.volume_at_gy(level - 2) - exact.volume_at_gy(level + 2)) / exact.volume_cc / 4
    assert float(leaf.grad.sum()) == pytest.approx(slope, rel=0.15)


def test_a_whole_scorecard_has_the_same_rows_and_a_gradient() -> None:
    held = bind(case(), card(COVERAGE, CORD_MAX, RIND, CONFORMITY, HOMOGENEITY, HEART))
    leaf = torch.tensor(dose_gy(), requires_grad=True)
    exact = score(held, dose_gy())
    soft = score(held.moved(torch.from_numpy), leaf, SoftDVH)
    assert float(soft.total.detach()) == pytest.approx(float(exact.total))
    assert [r.metric for r in soft.items] == [r.metric for r in exact.items]
    assert soft.missing == exact.missing
    for a, b in zip(soft.items, exact.items, strict=True):
        assert a.value == pytest.approx(b.value) if b.value is not None else a.value is None
    soft.total.backward()
    assert leaf.grad.abs().sum() > 0
    assert not leaf.grad[~case().structures["Body"]].any()


def test_a_step_along_the_gradient_raises_the_exact_score() -> None:
    held = bind(case(), card(COVERAGE, CORD_MAX, RIND, CONFORMITY))
    dose = torch.tensor(dose_gy() * 0.93, requires_grad=True)
    before = float(score(held, dose.detach().numpy()).total)
    for _ in range(20):
        soft = score(held.moved(torch.from_numpy), dose, SoftDVH)
        (gradient,) = torch.autograd.grad(soft.total, dose)
        dose = (dose + 0.5 * gradient / gradient.abs().max()).detach().requires_grad_()
    assert float(score(held, dose.detach().numpy()).total) > before + 0.5


def test_a_clamped_score_is_still_a_tensor() -> None:
    held = bind(case(), card(CORD_MAX))
    total = score(
        held.moved(torch.from_numpy), torch.full(case().grid.shape, 99.0, requires_grad=True), SoftDVH
    ).total
    assert isinstance(total, torch.Tensor) and float(total.detach()) == 0.0


def test_the_gradient_of_a_dose_at_a_volume_comes_from_the_voxels_about_that_dose():
    torch = pytest.importorskip("torch")
    dose = torch.tensor([0.0, 19.8, 20.0, 20.2, 60.0, 61.0], requires_grad=True)
    SoftDVH(dose, 1.0, width_gy=0.5).dose_at_cc(3.0).backward()  # the three hottest: 20.0 is the next
    level = torch.sigmoid((dose.detach() - 20.0) / 0.5)
    slope = level * (1 - level)
    assert torch.allclose(dose.grad, slope / slope.sum(), atol=1e-6)
    assert dose.grad[4:].abs().max() < 1e-6  # far above it nothing pulls
