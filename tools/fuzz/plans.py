"""GDP-HMM plans and their side files."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from damage import flip, odd_json, odd_text, replace_file, truncate
from judge import KINDS, Kind, a_case


def truth(folder: Path) -> Any:
    """A plan on a turned grid, with its target's prescription."""
    from linear_patient import patient

    from anydose.case.grid import Grid
    from anydose.io import gdphmm
    from anydose.io.read import read_case

    case = patient("FFP")
    beams = tuple(replace(b, couch_deg=0.0) for b in case.beams[:2])
    assert isinstance(case.grid, Grid)
    gdphmm.write_case(replace(case, beams=beams), folder / "case.npz")
    row = {"OPTName": "PTV_60", "StructName": "PTV_60", "PDose": 60.0}
    (folder / "PTV_DICT.json").write_text(json.dumps({"case": {"PTV_High": row}}))
    return read_case(folder / "case.npz")


def _plan(folder: Path) -> dict[str, Any]:
    return dict(np.load(folder / "case.npz", allow_pickle=True)["arr_0"].item())


def cut(rng: random.Random, folder: Path) -> str:
    """The archive cut anywhere."""
    return truncate(rng, folder / "case.npz")


def changed(rng: random.Random, folder: Path) -> str:
    """Bytes of the archive changed."""
    return flip(rng, folder / "case.npz", rng.randrange(1, 8))


def stored(rng: random.Random, folder: Path) -> str:
    """The plan unpacked in its archive, and one byte of its pickle changed."""
    path = folder / "case.npz"
    with zipfile.ZipFile(path) as archive:
        data = archive.read("arr_0.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", data)
    whole = bytearray(path.read_bytes())
    at = whole.find(data[:60]) + rng.randrange(60, len(data))
    whole[at] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(whole))
    return f"one bit of the pickle at {at}"


def values(rng: random.Random, folder: Path) -> str:
    """One entry of the dictionary with an odd value."""
    plan = _plan(folder)
    key = rng.choice(("img", "dose", "dose_scale", "spacing", "origin", "direction", "isocenter",
                      "angle_list",
                      "External", "PTV_60", "isVMAT"))  # fmt: skip
    old = plan[key]
    odd: tuple[Any, ...] = (
        None, [], {}, "x", -1.0, 0, np.nan, np.inf, (1, 2), [np.nan] * 3, np.zeros((2, 2, 2)),
        np.array("x"),
        np.array([None, 1], dtype=object), (0.0, 0.0, 0.0), (-2.0, 1.5, 3.0), (1e9, 0, 0), "2 2 2", [[1,
        0], [0, 1]],
        (1, 1, 0, 0, 1, 0, 0, 0, 1), (2, 0, 0, 0, 2, 0, 0, 0, 2), b"\0", 1 + 2j, [360.0, "a"], 1e30, -1e30,
    )  # fmt: skip
    new = rng.choice([o for o in odd if not _is_meant(key, o)])
    if isinstance(old, np.ndarray) and old.ndim == 3 and rng.random() < 0.7:
        what = rng.randrange(7)
        new = (
            old.astype(float) * np.nan, old[:-1], old.astype(complex), old.astype("U"),
            old.astype(float) * 1e30,
            -old.astype(float) - 5, old[..., None],
        )[what]  # fmt: skip
    if key == "isVMAT" and not isinstance(new, (int, float)):
        new = "x"
    plan[key] = new
    np.savez_compressed(folder / "case.npz", np.array(plan, dtype=object))
    return f"{key} is {str(new)[:40]!r}"


def _is_meant(key: str, odd: Any) -> bool:
    """Whether another plan could have this value there."""
    if isinstance(odd, tuple) and key in ("origin", "isocenter"):
        return len(odd) == 3 and abs(odd[0]) < 1e6
    numbers = odd if isinstance(odd, tuple) else (odd,)
    return key == "angle_list" and all(isinstance(n, int | float) and abs(n) < 360 for n in numbers)


def missing(rng: random.Random, folder: Path) -> str:
    """A key gone without which another one means nothing."""
    plan = _plan(folder)
    key = rng.choice(("img", "spacing", "origin", "direction", "dose_scale", "isocenter"))
    del plan[key]
    np.savez_compressed(folder / "case.npz", np.array(plan, dtype=object))
    return f"no {key}"


class Evil:
    """What must never run."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('ran')",)


def other(rng: random.Random, folder: Path) -> str:
    """An archive of something else."""
    path, what = folder / "case.npz", rng.randrange(8)
    if what == 0:
        np.savez(path, np.array([Evil()], dtype=object))
    elif what == 1:
        np.savez(path, np.array({"img": Evil()}, dtype=object))
    elif what == 2:
        np.savez(path, a=np.zeros(3), b=np.zeros(3))
    elif what == 3:
        np.savez(path, np.zeros((4, 4, 4)))
    elif what == 4:
        path.write_bytes(pickle.dumps({"img": 5}))
    elif what == 5:
        np.savez(path, np.array([1, 2], dtype=object))
    elif what == 6:
        np.savez(path, np.array({5: 6}, dtype=object))
    else:
        return replace_file(rng, path)
    return ("evil list", "evil value", "two arrays", "numbers", "a pickle", "a list", "keys of numbers")[what]


def side_json(rng: random.Random, folder: Path) -> str:
    """An odd value in PTV_DICT.json."""
    return odd_json(rng, folder / "PTV_DICT.json")


def side_text(rng: random.Random, folder: Path) -> str:
    """PTV_DICT.json that is none, or something else."""
    path = folder / "PTV_DICT.json"
    return odd_text(rng, path) if rng.random() < 0.6 else replace_file(rng, path)


KINDS["gdphmm"] = Kind(
    "gdphmm", truth, a_case,
    (cut, changed, stored, values, values, values, missing, other, side_json, side_text),
    share=350,
)  # fmt: skip
