"""Places that cannot be written to, and disks that fill up at any byte."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from judge import KINDS, SAME, SILENT, Kind

PLAN = "plan.txt"  # what is to be written and under which limit, left by the damage for the judge


def writers() -> dict[str, tuple[str, Callable[[Any, Path], Any]]]:
    """Every way to write a result: name of the target, and the call."""
    from anydose.deliver.dose import binned, write_dvh
    from anydose.deliver.folder import one_result
    from anydose.io import convert, nifti, store
    from anydose.io.dicom.write import write_rtdose
    from anydose.io.files import write_json
    from anydose.model.tensors import save_tensors
    from anydose.score.dvh import structure_dvh
    from anydose.score.report.page import write_page
    from anydose.score.scorecard import read_scorecard, templates, write_scorecard

    def result(case: Any, path: Path) -> None:
        with one_result(path) as place:
            nifti.write_volume(case.dose, place.scratch / "dose.nii.gz")
            write_rtdose(case.dose, case, place.scratch / "dose.dcm")
            curve = binned(structure_dvh(case, case.dose, "PTV_60"))
            write_dvh({"PTV_60": curve}, place.scratch / "dvh.csv")
            write_page(case, case.dose, place.scratch / "page.png", "a page")
            place.finish({"case": case.name, "target": "dose", "options": {}, "inputs": {}})

    def tensors(case: Any, path: Path) -> None:
        import torch

        save_tensors({"ct": torch.from_numpy(case.ct.array.copy())}, path, {"format": "x"})

    def report(case: Any, path: Path) -> None:
        from anydose.io.files import whole
        from anydose.score.report.html import Report, write_report

        with whole(path) as scratch:
            write_report(scratch, Report(case, case.dose))

    card = read_scorecard(next(iter(templates().values())))
    return {
        "result": ("out", result),
        "nifti": ("out", lambda case, path: convert.convert_case(SOURCE[0], path, "nifti")),
        "dicom": ("out", lambda case, path: convert.convert_case(SOURCE[0], path, "dicom")),
        "gdphmm": ("out.npz", lambda case, path: convert.convert_case(SOURCE[0], path, "gdphmm")),
        "store": ("out", lambda case, path: store.write_stored(case, path, "case")),
        "rtdose": ("out.dcm", lambda case, path: write_rtdose(case.dose, case, path)),
        "json": ("out.json", lambda case, path: write_json({"a": ["x" * 99] * 99}, path)),
        "scorecard": ("out.json", lambda case, path: write_scorecard(card, path)),
        "tensors": ("out.safetensors", tensors),
        "report": ("out.html", report),
    }


SOURCE: list[Path] = []
WAYS = (
    "a file",
    "a loop",
    "a dead link",
    "/proc",
    "a long name",
    "in a file",
    "full",
    "full",
    "full",
    "full",
    "full",
)


def truth(folder: Path) -> Any:
    """A patient on disk, and its case."""
    from linear_patient import patient

    from anydose.io import nifti

    case = patient()
    nifti.write_case(case, folder / "source")
    SOURCE[:] = [folder / "source"]
    return case


def place(rng: random.Random, folder: Path) -> str:
    """Which writer, and what is wrong with its place."""
    name, way = rng.choice(sorted(writers())), rng.choice(WAYS)
    limit = int(10 ** rng.uniform(0.5, 5.5))
    used = rng.random() < 0.5
    (folder / PLAN).write_text(f"{name}\n{way}\n{limit}\n{int(used)}")
    return f"{name}: {way}{f' at {limit} bytes' if way == 'full' else ''}{', used before' if used else ''}"


def a_place(folder: Path, case: Any) -> tuple[str, str]:
    """Write; on failure what was there is as it was, and nothing else is left."""
    name, way, limit, used = (folder / PLAN).read_text().split("\n")
    target_name, write = writers()[name]
    target, work = folder / "w" / target_name, folder / "w"
    work.mkdir()
    if way == "a file" and "." not in target_name:
        target.write_text("something else")
    elif way == "a loop":
        target.symlink_to(target_name)
    elif way == "a dead link":
        target.symlink_to(folder / "nowhere" / "deep")
    elif way == "/proc":
        target = Path("/proc") / target_name
    elif way == "a long name":
        target = work / ("n" * 300 + target_name)
    elif way == "in a file":
        (work / "f").write_text("x")
        target = work / "f" / target_name
    elif int(used) and name not in ("nifti", "dicom", "gdphmm"):
        write(case, target)
    before = _content(work)
    try:
        with _disk(int(limit) if way == "full" else 0):
            write(case, target)
    except OSError as error:
        left = _content(work)
        if name == "store":  # the cohort itself may be begun; no case may be half there
            left = {k: v for k, v in left.items() if k.startswith("out/case") or k in before}
            before = {k: v for k, v in before.items() if k in left or k.startswith("out/case")}
        if left != before:
            return SILENT, f"left {sorted(left.keys() ^ before.keys())[:3]} after {error}"
        raise
    except ValueError as error:
        if _content(work) != before:
            return SILENT, f"left {sorted(_content(work).keys() ^ before.keys())[:3]} after {error}"
        raise
    return SAME, ""


@contextmanager
def _disk(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes; 0: as they like."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def _content(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


KINDS["places"] = Kind("places", truth, a_place, (place,), share=300)
