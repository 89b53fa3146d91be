"""What a fuzz of the formats found: each is refused with the file's name, or used and said (tools/fuzz)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from linear_patient import patient

from anydose.case.volume import Volume
from anydose.io import gdphmm, nifti, openkbp
from anydose.io.phantom import make_phantom
from anydose.io.read import read_case, read_dose
from anydose.io.run_folder import read_record
from anydose.io.splits import read_splits
from anydose.score import calibration, importers, scorecard, sealed, structures, training_ranges

WEIGHTS = Path(sealed.__file__).parents[1] / "weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nifti.write_case(patient(), tmp_path / "case")
    return tmp_path / "case"


def scaled(path: Path, slope: float, shift: float = 0.0) -> None:
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj) * slope + shift
    nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), path)


@pytest.mark.parametrize(
    ("slope", "shift", "words"), [(1, 1000, "no air found"), (1, 400, "ct: mean of 42"), (-1, 0, "around")]
)
def test_ct_numbers_that_a_body_hardly_has_are_said(
    folder: Path, slope: float, shift: float, words: str
) -> None:
    assert not [said for said in read_case(folder).inferred if said.startswith("ct:")]
    scaled(folder / "ct.nii.gz", slope, shift)
    assert [said for said in read_case(folder).inferred if words in said]


def test_a_dose_that_does_not_fit_its_prescription_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = read_case(folder)
    scaled(folder / "dose.nii.gz", 0.5)
    assert "PTV_60: median 30.0 Gy for 60 Gy prescribed" in read_case(folder).inferred
    read_dose(folder / "dose.nii.gz", case)
    assert "median 30.0 Gy for 60 Gy prescribed" in caplog.text
    scaled(folder / "dose.nii.gz", 0.0)
    assert "dose: at most 0 Gy" in read_case(folder).inferred


def test_words_of_a_case_that_cannot_be_opened_are_refused(folder: Path) -> None:
    (folder / "case.json").unlink()
    (folder / "case.json").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"case.json: no file"):
        read_case(folder)


def test_a_beam_without_an_angle_is_refused_with_the_file(folder: Path) -> None:
    path = folder / "case.json"
    text = json.loads(path.read_text())
    text["beams"][0]["gantry_deg"] = []
    path.write_text(json.dumps(text))
    with pytest.raises(ValueError, match=r"case.json: beam 'one'.*needs at least one gantry angle"):
        read_case(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PTV_60": np.ones((3, 3, 3), np.uint8)}, "'PTV_60' has shape"),
        ({"angle_list": np.float32(-1e30)}, "-360 to 360 degrees"),
        ({"angle_list": [40.0, 40.0, 320.0]}, "beams: 1 of 3 come from where another one does"),
        ({"isocenter": (1e6, 0, 0)}, "outside the scan"),
        ({"External": {}}, "structure External: no mask with a voxel, left out"),
        ({"direction": None}, "no direction stated"),
    ],
)
def test_a_plan_of_odd_entries_is_refused_or_said(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "plan.npz"
    gdphmm.write_case(replace(patient(), beams=patient().beams[:2]), path)
    plan = np.load(path, allow_pickle=True)["arr_0"].item() | change
    np.savez(path, np.array({k: v for k, v in plan.items() if v is not None}, dtype=object))
    try:
        said = "; ".join(read_case(path).inferred)
    except ValueError as error:
        said = str(error)
    assert words in said


def test_a_grid_that_begins_a_kilometre_away_is_refused(tmp_path: Path) -> None:
    case = patient()
    far = replace(case.grid, origin_mm=(1e6, 0.0, 0.0))
    moved = replace(
        case, grid=far, ct=Volume(case.ct.array, far, "HU"), dose=Volume(case.dose.array, far, "Gy"), beams=()
    )
    nifti.write_case(moved, tmp_path / "far")
    with pytest.raises(ValueError, match="from the origin"):
        read_case(tmp_path / "far")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("ct.csv", lambda text: text[:-3], "middle of a line"),
        ("ct.csv", lambda text: text.replace("\n", "\n\n", 40), "empty line"),
        ("PTV70.csv", lambda text: text[:-1], "middle of a line"),
    ],
)
def test_a_csv_that_was_cut_off_is_refused(tmp_path: Path, file: str, change: Any, words: str) -> None:
    openkbp.write_case(make_phantom(0), tmp_path / "pt_1")
    path = tmp_path / "pt_1" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=f"{file}.*{words}"):
        read_case(tmp_path / "pt_1")


def test_a_csv_that_was_cut_off_between_lines_is_said(tmp_path: Path) -> None:
    case = make_phantom(0)
    dose = Volume(np.where(case.body, 70.0, 0.0).astype(np.float32), case.grid, "Gy")
    openkbp.write_case(replace(case, dose=dose), tmp_path / "pt_1")
    whole = read_case(tmp_path / "pt_1")
    assert not [said for said in whole.inferred if "no value" in said]
    for what in ("ct", "dose"):
        path = tmp_path / "pt_1" / f"{what}.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: int(0.9 * len(lines))]))
        assert [said for said in read_case(tmp_path / "pt_1").inferred if f"{what}: no value for" in said]


def test_a_mask_that_is_no_file_is_refused(tmp_path: Path) -> None:
    openkbp.write_case(make_phantom(0), tmp_path / "pt_1")
    (tmp_path / "pt_1" / "Larynx.csv").unlink()
    (tmp_path / "pt_1" / "Larynx.csv").symlink_to("Larynx.csv")
    with pytest.raises(ValueError, match="Larynx.csv is no OpenKBP file"):
        read_case(tmp_path / "pt_1")


@pytest.mark.parametrize(
    "text",
    [
        "case,split\na,train\na,validation\n",
        "case,split\na\n",
        "case,split\na,train,x\n",
        "case,split,case\na,train,b\n",
        "case,split\n,train\n",
        "case,split\n",
        'case,split\n"a,train\n',
        "case,split\na\0,train\n",
    ],
)
def test_a_table_of_splits_that_is_not_whole_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"splits\.csv: "):
        read_splits(path)


@pytest.mark.parametrize("text", ["{}", "a: [[1]]", "a: [b]\nc: [b]", "[" * 3000, "a: [null]", "\0"])
def test_a_yaml_of_splits_that_is_not_whole_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "splits.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"splits\.yaml: "):
        read_splits(path)


@pytest.mark.parametrize("kind", ["ranges", "uncertainty"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:700],
        lambda text: text.replace("2", "3", 1),
        lambda text: text.replace("2", "NaN", 1),
        lambda text: "null",
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k in ("about", "without")}),
    ],
)
def test_damaged_ranges_or_intervals_beside_a_model_are_refused(
    tmp_path: Path, kind: str, change: Any
) -> None:
    path = tmp_path / f"m.{kind}.json"
    read = training_ranges.read if kind == "ranges" else calibration.read
    path.write_text((WEIGHTS / f"compact-hn.{kind}.json").read_text())
    read(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=rf"m\.{kind}\.json: damaged"):
        read(path)


@pytest.mark.parametrize(
    "change",
    [{"outputs": 5}, {"outputs": [5]}, {"options": []}, {"case": None}, {"options": {"target": 5}}, None],
)
def test_a_run_record_of_another_form_is_none(tmp_path: Path, change: Any) -> None:
    record = {"case": "c", "options": {"target": "dose"}, "outputs": {"dose.nii.gz": "ab"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_record(tmp_path) == {"target": "dose", **record}
    (tmp_path / "run.json").write_text(json.dumps({**record, **change}) if change else "[" * 100_000)
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[5]", '[{"StructureSynonyms": 5}]', '[{"TG263": {}}]', "[" * 100_000])
def test_a_dictionary_of_synonyms_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "synonyms.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"synonyms\.json: "):
        structures.read_synonyms(path)


@pytest.mark.parametrize("points", ["(60;nan) (70;10)", "(60;0;5) (70;10)", "(60 0) (70;10)"])
def test_a_point_of_an_epeerreview_card_is_never_dropped(points: str) -> None:
    with pytest.raises(ValueError, match=r"card: line 2: points"):
        importers.from_epeerreview(f"Structure,Metric,Points\nPTV70,D95%[Gy],{points}\n", "card")


@pytest.mark.parametrize(
    "change",
    [{"objectives": [{}]}, {"roi_name": {}}, {"objectives": [{"label": "A [1]", "min": float("inf")}]}],
)
def test_an_objective_of_a_proknow_card_is_never_dropped(change: dict[str, Any]) -> None:
    row = {"type": "MEAN_DOSE_ROI", "roi_name": "Cord", "arg_1": None, "objectives": []}
    with pytest.raises(ValueError, match="card: computed metric 1"):
        importers.from_proknow({"computed": [{**row, **change}]}, "card")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("MetricType",), 5.0),
        (("Structure", "StructureId"), [None]),
        (("ScorePoints", 0, "PointX"), 1e308),
        (("ScorePoints", 0, "Score"), -1e308),
        (("OutputUnit",), {}),
    ],
)
def test_an_item_of_a_card_that_cannot_be_meant_is_refused(tmp_path: Path, where: Any, value: Any) -> None:
    root = scorecard.to_json(scorecard.read_scorecard(next(iter(scorecard.templates().values()))))
    inner: Any = root["ScoreTemplates"][1]
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(ValueError, match="card: item 2: "):
        scorecard.from_json(root, "card")
    with pytest.raises(ValueError, match="card: no item found"):
        scorecard.from_json([], "card")
