"""The scores as a picture: every bar is a row of a file, and what shares no axis is refused."""

import json

import pytest

from anydose.bench import chart


def evaluation(path, model, dose, patients=2, split="validation"):
    head = {"model": model, "steps": 1, "looks": 2, "mimic": True, "split": split, "patients": patients}
    head |= {"dose_score": dose, "dvh_score": dose / 2}
    each = [
        {"patient": f"pt_{k}", "dose_error": dose - 1 + 2 * k, "dvh_errors": {"a": dose / 2}} for k in (0, 1)
    ]
    path.write_text(json.dumps([head, *each]))
    return path


def ablation(path):
    def row(variant, seed, dose, sampling=1):
        about = {"variant": variant, "seed": seed, "train_steps": 9, "sampling_steps": sampling}
        return about | {"patients": 40, "dose_score": dose, "dvh_score": 2.0}

    rows = [row("unet", 0, 3.0), row("unet", 1, 3.2), row("unet", 0, 9.0, 4), row("dit", 0, 30.0)]
    path.write_text(json.dumps(rows))
    return path


def test_bars_are_the_rows_best_first_with_their_spread_over_patients_or_seeds(tmp_path):
    files = [evaluation(tmp_path / f"{name}.json", name, dose) for name, dose in (("b", 4.0), ("a", 3.0))]
    scored, varied = chart.panels([*files, ablation(tmp_path / "ablation.json")])
    assert scored.title == "OpenKBP validation, 2 patients"
    assert [bar.values for bar in scored.bars] == [
        {"dose_score": 3.0, "dvh_score": 1.5}, {"dose_score": 4.0, "dvh_score": 2.0}
    ]  # fmt: skip
    assert scored.bars[0].whiskers == {"dose_score": pytest.approx(1.96), "dvh_score": 0.0}
    assert [bar.label for bar in varied.bars] == ["unet (2 seeds)", "dit (1 seed)"]
    assert varied.bars[0].values["dose_score"] == pytest.approx(3.1)
    assert varied.bars[0].whiskers["dose_score"] == pytest.approx(0.1414, abs=1e-4)
    chart.draw([scored, varied], tmp_path / "r.svg")
    text = (tmp_path / "r.svg").read_text()
    assert "100 test patients" in text
    assert "validation" in text


def test_what_shares_no_axis_is_refused(tmp_path):
    one = evaluation(tmp_path / "one.json", "a", 3.0)
    with pytest.raises(ValueError, match="same patients"):
        chart.panels([one, evaluation(tmp_path / "two.json", "a", 3.0, split="test")])
    (tmp_path / "other.json").write_text('[{"bench": "fast", "dose_score": 1.0}]')
    with pytest.raises(ValueError, match="other.json"):
        chart.panels([one, tmp_path / "other.json"])
