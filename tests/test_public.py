"""The front door: `import anydose as ad` is instant, and Python gives what the command gives."""

import subprocess
import sys

import numpy as np
import pytest
from patients import phantom_of, write_openkbp

import anydose as ad
from anydose.io import nifti, run_folder


def test_importing_the_package_loads_no_torch_and_names_what_it_has():
    code = "import sys, anydose; print('torch' in sys.modules, sorted(anydose.__all__) == dir(anydose))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_every_public_name_is_there_and_rooms_stay_modules():
    for name in ad.__all__:
        assert getattr(ad, name) is not None
    from anydose.predict import Options, predict
    from anydose.score import challenge

    assert ad.Options is Options
    assert challenge.ORGANS
    assert callable(predict) and all(callable(getattr(ad, n)) for n in ("predict", "complete", "score"))
    with pytest.raises(AttributeError, match="no attribute 'dose'"):
        ad.dose  # noqa: B018


def test_one_case_and_one_model_are_needed():
    with pytest.raises(ValueError, match="no such file"):
        ad.predict("compact-hn", "nowhere")
    with pytest.raises(ValueError, match="not found"):
        ad.predict(phantom_of(0), "nowhere")
    with pytest.raises(ValueError, match="one case and one model"):
        ad.predict(phantom_of(0), phantom_of(1))


@pytest.mark.slow
def test_python_equals_the_command_to_the_last_bit(tmp_path):
    write_openkbp(0, tmp_path / "pt_1")
    line = [sys.executable, "-m", "anydose.cli", "predict", tmp_path / "pt_1", "--out", tmp_path / "command"]
    subprocess.run(list(map(str, line)), check=True, capture_output=True)
    ours = ad.predict("compact-hn", str(tmp_path / "pt_1"))
    theirs = nifti.read_volume(tmp_path / "command" / "dose.nii.gz", "Gy").array
    assert np.array_equal(ours.dose.array, theirs)
    again = ad.predict(ad.read_case(str(tmp_path / "pt_1")))
    assert np.array_equal(again.dose.array, theirs)
    run = ours.save(tmp_path / "python")
    names = {p.name for p in (tmp_path / "command").iterdir()}
    assert {p.name for p in (tmp_path / "python").iterdir()} == names
    assert run_folder.damage(tmp_path / "python") == []
    for name in ("dvh.csv", "pt_1.csv"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert run["model"] == run_folder.read_record(tmp_path / "command")["model"]
    assert len(repr(ours)) < 300
    assert "PTV70" in ours._repr_html_() and "<script" not in ours._repr_html_()
    rows = {row["structure"]: row for row in ours.to_rows()}
    assert rows["PTV70"]["d95_gy"] == ours.dvh()["PTV70"].dose_at_cc(0.95 * rows["PTV70"]["volume_cc"])
    assert len(ours.plot().axes) >= 4
    pytest.importorskip("ipyniivue")
    assert [volume.name for volume in ours.view().volumes] == ["ct.nii.gz", "dose in Gy.nii.gz"]
