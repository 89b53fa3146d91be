"""T1 to T7: what ended in a traceback or did not end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from folders import store
from ways import Places, anydose, reproducer


@reproducer("T1", "A damaged Zarr chunk: a blosc traceback that ends the whole data check (18 of 60)")
def damaged_chunk(places: Places) -> str:
    whole = store(places)
    shutil.copytree(whole / "case", whole / "whole")
    for chunk in (whole / "case").glob("*/c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-40])
    rows = json.loads(anydose("data", "check", whole, "--json").done().out)
    found = {row["name"]: row["findings"] for row in rows}
    assert any("damaged" in text for text in found["case"]), found["case"]
    assert not any("damaged" in text for text in found["whole"]), found["whole"]
    return f"{found['case'][0]}; the check goes on with the next case"


def plan(places: Places) -> Path:
    """The planned patient as a GDP-HMM plan."""
    path = places.scratch / "plan.npz"
    anydose("convert", places.root / "planned", "--out", path, "--format", "gdphmm").done()
    return path


@reproducer("T2", "PTV_DICT.json is a list: AttributeError")
def list_of_targets(places: Places) -> str:
    path = plan(places)
    (path.parent / "PTV_DICT.json").write_text("[]")
    return anydose("predict", path, "--out", places.scratch / "out").refused("PTV_DICT.json")


@reproducer("T3", "A run.json beside the dose is a list, or its warnings are 5: AttributeError, TypeError")
def odd_records(places: Places) -> str:
    said = []
    for text in (
        "[]",
        '{"warnings": 5}',
        '{"warnings": [1]}',
        "5",
        "",
        "[" * 100_000,
        "\0",
        '{"structures": 5}',
    ):
        folder = places.scratch / f"d{len(said)}"
        folder.mkdir()
        shutil.copy(places.root / "planned" / "RTDOSE.dcm", folder / "dose.dcm")
        (folder / "run.json").write_text(text)
        line = ("--case", places.root / "planned", "--out", folder / "r.html")
        said.append(anydose("report", folder / "dose.dcm", *line).refused("run.json"))
    return f"{len(said)} records refused, as: {said[0]}; {said[1]}"


@reproducer(
    "T3b", "What is like T3 (found since): an odd prediction folder, names file, split, recipe, scorecard"
)
def like_t3(places: Places) -> str:
    said, case = [], places.root / "okbp"
    folder = places.scratch / "prediction"
    for number, change in enumerate(RECORDS):
        shutil.copytree(places.root / "prediction", folder)
        record = json.loads((folder / "run.json").read_text())
        change(record)
        (folder / "run.json").write_text(json.dumps(record))
        run = anydose("score", folder, "--case", places.root / "dicom")
        said.append(run.refused() if run.code else "")
        shutil.rmtree(folder)
        assert run.code in (0, 2), f"{number}"
    odd = places.scratch / "odd"
    lines: tuple[tuple[str, tuple[Any, ...]], ...] = (
        (".yaml", ("predict", case, "--out", places.scratch / "out", "--names")),
        (".yaml", ("evaluate", "--cohort", case, "--split", "train", "--splits")),
        (".json", ("score", case, "--case", case, "--scorecard")),
        (".json", ("score", case, "--case", case, "--synonyms")),
        (".yaml", ("train",)),
    )
    for suffix, line in lines:
        for text in (
            "[]",
            "5",
            "null",
            "[[1, 2], 3]",
            "{",
            "\0",
            '{"a": {"b": [1, {"c": null}]}}',
            "[" * 20_000,
        ):
            path = odd.with_suffix(suffix)
            path.write_text(text)
            said.append(anydose(*line, path).refused())
    return f"{len(said)} odd files, each refused in one sentence or of no matter"


RECORDS: tuple[Any, ...] = (
    lambda r: r.update(outputs=5),
    lambda r: r.update(outputs={"dose.nii.gz": 5}),
    lambda r: r.update(outputs=[["dose.nii.gz"]]),
    lambda r: r.update(options=[]),
    lambda r: r.update(case=None),
    lambda r: r.update(options={"target": 5}),
)


@reproducer("T4", "A model file without channels or config, or whose config is []: KeyError, TypeError")
def odd_models(places: Places) -> str:
    from safetensors import safe_open
    from safetensors.torch import save_file

    from anydose.model import registry

    said = []
    with safe_open(registry.find("compact-hn"), "pt") as file:
        meta, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    changes: tuple[dict[str, str | None], ...] = (
        {"channels": None}, {"config": None}, {"config": "[]"}, {"config": "{}"}, {"config": "x"},
        {"record": "5"}, {"format": None}, {"config": '{"backbone": {"kind": []}}'},
    )  # fmt: skip
    for change in changes:
        path = places.scratch / "model.safetensors"
        save_file(tensors, path, {k: v for k, v in (meta | change).items() if v is not None})
        line = ("predict", places.root / "okbp", "--out", places.scratch / "out", "--model", path)
        said.append(anydose(*line).refused("model.safetensors"))
    return f"{len(said)} files refused, as: {said[0]}; {said[2]}"


@reproducer("T5", "Voxels of 100 mm: 39.9 GiB asked for, a traceback; of 0.003 mm: still running after 60 s")
def absurd_voxels(places: Places) -> str:
    said = []
    for size in ("100", "0.003"):
        folder = places.copy("okbp")
        (folder / "voxel_dimensions.csv").write_text(f"{size}\n{size}\n{size}\n")
        run = anydose("predict", folder, "--out", places.scratch / "out", memory_gb=8)
        said.append(f"{run.refused('mm')} ({run.seconds:.1f} s)")
        shutil.rmtree(folder)
    return "; ".join(said)


@reproducer("T6", "data check and data convert hang on a folder with two links to its parent")
def link_loops(places: Places) -> str:
    loops = places.scratch / "loops"
    (loops / "a").mkdir(parents=True)
    for name in ("l1", "l2"):
        os.symlink("..", loops / "a" / name)
    shutil.copytree(places.root / "okbp", loops / "a" / "pt_1")
    check = anydose("data", "check", loops, limit_s=30)
    convert = anydose("data", "convert", loops, places.scratch / "store", limit_s=30)
    assert check.code == convert.code == 0, f"{check.code} {convert.code} {check.said()[:200]}"
    assert "1 written" in convert.out, convert.out
    return f"one case found; {check.seconds:.1f} s and {convert.seconds:.1f} s"


@reproducer("T7", "Disk full while dose.dcm is written: the one sentence holds pydicom's whole traceback")
def full_disk_dose(places: Places) -> str:
    out = places.scratch / "out"
    run = anydose("predict", places.root / "dicom", "--out", out, "--looks", 1, "--no-mimic", disk=1_500_000)
    sentence = run.refused("too large")
    assert "Traceback" not in sentence and 'File "' not in sentence and len(sentence) < 200, sentence[:400]
    assert not out.exists(), "something is left"
    return sentence
