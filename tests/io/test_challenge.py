"""GDP-HMM as a challenge: plans of either numpy, its arithmetic on a case worked by hand, what it takes."""

import zipfile
from dataclasses import replace

import challenge_plans
import numpy as np
import pytest
import torch
from patients import write_openkbp

from anydose.case.naming.vocabulary import GDPHMM
from anydose.deliver.cohort import Request, predict_cohort
from anydose.deliver.submission import write_submission
from anydose.evaluate import evaluate
from anydose.io import gdphmm
from anydose.io.read import read_case
from anydose.model.any2any import Any2Any, ModelConfig
from anydose.model.checkpoint import save_model
from anydose.model.network.unet import UNetConfig
from anydose.model.options import Options


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("gdp")
    challenge_plans.write_cohort(root, each_site=1)
    return root


def test_plans_pickled_by_numpy_1_and_2_give_equal_arrays(cohort, tmp_path):
    (patient, *_) = challenge_plans.catalogue(1)
    plan = challenge_plans.plan_of(patient, patient.plans[0], every=1)
    name = "1+9Ag+MOS_1.npz"
    cases = []
    for numpy_1 in (True, False):
        folder = tmp_path / str(numpy_1)
        folder.mkdir()
        cases.append(gdphmm.read_case(challenge_plans.write_npz(plan, folder / name, numpy_1)))
    one, two = cases
    with zipfile.ZipFile(tmp_path / "True" / name) as archive:
        text = archive.read("arr_0.npy")
    assert b"numpy.core.multiarray" in text and b"numpy._core" not in text
    assert one.structures.keys() == two.structures.keys() and len(one.structures) > 20
    for a, b in [(one.ct, two.ct), (one.dose, two.dose)]:
        assert a.array.dtype == b.array.dtype and a.array.tobytes() == b.array.tobytes()
    assert all((one.structures[k] == two.structures[k]).all() for k in one.structures)
    assert (one.grid.spacing_mm, one.beams) == (two.grid.spacing_mm, two.beams)


def test_the_error_is_the_leaderboard_s_on_a_case_worked_by_hand(tmp_path):
    """Two rows of four voxels; the second row's last lies outside the body. D97 of the target's doses 20 and
    30 is 20 + 0.03 * 10 = 20.3, to become 66."""
    dose = np.array([[[20, 30, 2, 0], [10, 1, 0, 9]]])
    body, ptv = np.ones_like(dose), np.zeros_like(dose)
    body[0, 1, 3], ptv[0, 0, :2] = 0, 1
    plan = {"img": np.zeros(dose.shape, np.int16), "dose": dose * 1000, "dose_scale": 1e-3, "Body": body}
    plan |= {
        "PTVHighOPT": ptv,
        "spacing": (2.5, 2.5, 2.0),
        "origin": (0, 0, 0),
        "all_mask": ["Body", "PTVHighOPT"],
    }
    challenge_plans.write_npz(plan, tmp_path / "p+9Ag+MOS_1.npz")
    (tmp_path / "PTV_DICT.json").write_text('{"p": {"PTV_High": {"OPTName": "PTVHighOPT", "PDose": 66}}}')
    guess = np.array([[[60, 90, 7, 4], [30, 6, 0, 50]]], dtype=np.float32)
    (tmp_path / "doses").mkdir()
    np.save(tmp_path / "doses" / "p+9Ag+MOS_1_pred.npy", guess)
    found = evaluate(tmp_path / "p+9Ag+MOS_1.npz", metrics=("gdphmm",), predictions=tmp_path / "doses")
    assert not found.failed
    k = 66 / (20.3 + 1e-5)
    # above 5 Gy in the body in either: 20 k, 30 k, 2 k (both), 10 k, and 1 k, where only the guess is;
    # the reference is above 5 Gy at the first four; 0 against 4 is in neither
    by_hand = (abs(20 * k - 60) + abs(30 * k - 90) + abs(2 * k - 7) + abs(10 * k - 30) + abs(k - 6)) / 4
    assert found.cases[0].figures["gdphmm_mae_gy"] == pytest.approx(by_hand, abs=1e-6)


def test_sites_and_development_splits_are_those_of_the_side_file(cohort):
    found = evaluate(cohort, metrics=("gdphmm",), split="train", predictions=cohort / "none")
    assert not found.cases and all("no dose named" in why for why in found.failed.values())
    with pytest.raises(ValueError, match="no plan .feet."):
        evaluate(cohort, metrics=("gdphmm",), split="feet", predictions=cohort / "none")


@pytest.mark.slow
def test_a_cohort_s_doses_go_into_one_file_as_the_challenge_takes_them(cohort, tmp_path):
    torch.manual_seed(0)
    unet = UNetConfig(widths=(8, 16), down_blocks=(1, 1), up_blocks=(1,), code=16)
    save_model(Any2Any(ModelConfig(unet, organs=GDPHMM.organs)), tmp_path / "tiny.safetensors", {})
    request = Request(
        model=str(tmp_path / "tiny.safetensors"), options=Options(looks=1, mimic=False, precision="fp32")
    )
    outcomes = predict_cohort([cohort], tmp_path / "out", request)
    names = write_submission(outcomes, tmp_path / "out", tmp_path / "s.zip")
    plans = sorted(path.stem for path in cohort.rglob("*.npz"))
    assert sorted(names) == [f"{plan}_pred.npy" for plan in plans]
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        archive.extractall(tmp_path / "doses")
    for plan in plans:
        case = read_case(next(cohort.rglob(f"{plan}.npz")))
        dose = np.load(tmp_path / "doses" / f"{plan}_pred.npy")
        assert dose.shape == case.grid.shape and dose.dtype == np.float32 and np.isfinite(dose).all()
    first = (tmp_path / "s.zip").read_bytes()
    write_submission(
        predict_cohort([cohort], tmp_path / "out", request), tmp_path / "out", tmp_path / "s.zip"
    )
    assert (tmp_path / "s.zip").read_bytes() == first
    with pytest.raises(ValueError, match="1 cases failed"):
        more = [*outcomes, replace(outcomes[0], state="failed")]
        write_submission(more, tmp_path / "out", tmp_path / "s.zip")
    write_openkbp(1, tmp_path / "kbp" / "pt_1")
    one = predict_cohort([tmp_path / "kbp"], tmp_path / "out2", request)
    assert write_submission(one, tmp_path / "out2", tmp_path / "kbp.zip") == ["pt_1.csv"]
