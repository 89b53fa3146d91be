"""The commands of post-training: how a reward is made up, the table beside the controls, adapters by name."""

import json

import numpy as np
import pytest
from patients import phantom_of, slice_of, write_openkbp
from typer.testing import CliRunner

from anydose.bench.posttrain import Judged, row
from anydose.case.volume import Volume
from anydose.cli.app import app, main
from anydose.io.openkbp import write_dose
from anydose.train.posttrain.reward import bind_reward, read_reward


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A phantom with a dose of 70 Gy in the body, and one of 60 Gy as a prediction."""
    folder = tmp_path_factory.mktemp("scard")
    case = slice_of(0)
    write_openkbp(0, folder / "pt_1")
    for path, gy in (
        (folder / "pt_1" / "dose.csv", 70.0),
        (folder / "low.csv", 60.0),
        (folder / "base.csv", 62.0),
    ):
        write_dose(Volume((case.body * gy).astype(np.float32), case.grid, "Gy"), case, path)
    return folder


def test_reward_prints_what_it_is_made_of(patient):
    line = ["reward", str(patient / "low.csv"), "--case", str(patient / "pt_1")]
    line += ["--versus", str(patient / "base.csv")]
    found = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    assert found["mae_gy"] == pytest.approx(10.0, abs=1e-3)
    assert found["growth"] == pytest.approx(10 / 8 - 1, abs=1e-3)
    assert found["anchor"] == pytest.approx(-(0.25 - 0.01), abs=1e-3)
    rows = {(r["structure"], r["metric"]): r["reward"] for r in found["constraints"]}
    assert rows["PTV70", "D95%[Gy]"] == pytest.approx(-0.02 * 6.5, abs=1e-4)
    assert rows["SpinalCord", "D0.1cc[Gy]"] == pytest.approx(-0.01 * 15, abs=1e-4)
    assert found["reward"] == pytest.approx(found["scored"] + found["hinge"] + found["anchor"])
    text = CliRunner().invoke(app, line).stdout
    assert "hard constraints" in text
    assert f"reward {found['reward']:.4f}" in text


def test_a_reward_file_that_is_none_is_one_sentence_and_exit_code_2(patient, capsys, monkeypatch):
    (patient / "bad.yaml").write_text("scorecard: lung_60\nweights: 3\n")
    line = ["anydose", "reward", str(patient / "low.csv"), "--case", str(patient / "pt_1")]
    monkeypatch.setattr("sys.argv", [*line, "--reward", str(patient / "bad.yaml")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "'weights' is not" in error
    assert error.count("\n") == 1


def test_a_row_of_the_table_by_hand():
    """Gains 0, 2 and 4 %: mean 2, standard deviation 2, half width 4.303 * 2 / sqrt(3)."""

    held = bind_reward(phantom_of(0), read_reward("head_neck_70_63_56"))
    one = held.reward(np.zeros(held.score.case.grid.shape, np.float32))

    def group(scores, mae, d95):
        made = []
        for score in scores:
            reward = type(one)(score, score, 0.0, 0.0, mae, None, one.score, one.limits)
            made.append(Judged(reward, (d95, d95 + 1), (d95,)))
        return made

    found = row("nft", group((0.5, 0.52, 0.54), 2.02, 61.0), group((0.5, 0.5, 0.5), 2.0, 60.5))
    assert found["gain"] == pytest.approx(2.0)
    assert found["gain_high"] - found["gain"] == pytest.approx(4.3027 * 2 / 3**0.5, abs=1e-3)
    assert found["mae_growth_percent"] == pytest.approx(1.0)
    assert found["ptv_d95_change_gy"] == pytest.approx(0.5)
