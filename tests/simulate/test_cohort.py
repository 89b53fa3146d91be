"""Simulated plans: what is drawn, what is handed over and comes back at the same place in mm, what resumes;
and, where ANYDOSE_PLANNER names a Python that holds pyRadPlan, that its beams come from where ours do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import anydose

from anydose.case.beams import Beam, beams_eye_view, project, radiological_depth, relative_density
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.naming.vocabulary import HEAD_NECK, PROSTATE, Vocabulary
from anydose.case.volume import Volume
from anydose.io import store
from anydose.io.openkbp import read_case
from anydose.simulate import cohort as simulate
from anydose.simulate import pyradplan
from anydose.simulate.draw import APART_DEG, CLINIC_DEG, FEWEST, MOST, Draw, draw
from anydose.simulate.planning import plain
from anydose.simulate.setting import Setting

NAMES = [f"pt_{k}" for k in range(1, 6)]
BALL_MM = (40.0, 0.0, 114.0)

# Stands for pyRadPlan where that is not installed: doses fall with the distance from the ball, sources stand
# where IEC 61217 puts them. As slow as asked; fails for the plans whose numbers are listed.
STAND_IN = """#!{python}
import sys, time, pathlib
import numpy as np
if sys.argv[3] == "--check":
    sys.exit(print("stand-in"))
time.sleep({seconds})
if pathlib.Path(sys.argv[3]).parent.name.split("-")[-1] in {failing}:
    sys.exit("no beam reaches the target")
t = np.load(sys.argv[3])
d, h, w = t["dose_shape"]
z, y, x = np.meshgrid(np.arange(d), np.arange(h), np.arange(w), indexing="ij")
at = np.stack([x, y, z], axis=-1) * t["dose_spacing_mm"] + t["dose_origin_mm"]
g = np.radians(t["gantry_deg"])
source = t["isocentre_mm"] + 1000 * np.stack([np.sin(g), -np.cos(g), 0 * g], axis=-1)
dose = np.exp(-np.linalg.norm(at - {ball}, axis=-1) / 40).astype(np.float32)
np.savez(sys.argv[4], dose_gy=dose, source_mm=source, bixels=1, iterations=1, matrix_seconds=0.0,
         optimisation_seconds=0.0, version="stand-in")
"""


def water(name: str = "water") -> Case:
    """A water cylinder along z with a ball as target, both off the centre of the grid, and an organ."""
    grid = Grid((40, 50, 60), (4.0, 4.0, 4.0), (-100.0, -80.0, 30.0))
    mm = grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    body = np.hypot(mm[..., 0] - 18, mm[..., 1] - 18) < 80
    ball = np.linalg.norm(mm - BALL_MM, axis=-1) < 14
    cord = np.hypot(mm[..., 0] - 18, mm[..., 1] - 50) < 8
    hu = np.where(body, 0.0, -1000.0).astype(np.float32)
    return Case(
        name=name,
        grid=grid,
        structures={"External": body, "SpinalCord": cord, "PTV": ball},
        prescription=Prescription({"PTV": 60.0}),
        beams=(Beam((0.0,), BALL_MM),),
        ct=Volume(hu, grid, "HU"),
    )


def one(*gantry_deg: float) -> Draw:
    return replace(draw(0, 0, ["water"]), gantry_deg=gantry_deg)


def answer_of(case: Case, chosen: Draw, grid: Grid, dose: np.ndarray) -> dict:
    sources = [beams_eye_view(Beam((g,), BALL_MM), g).source_mm for g in chosen.gantry_deg]
    return {"dose_gy": dose.astype(np.float32), "source_mm": np.array(sources), "version": np.array("none")}


# draws


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    assert draw(3, 7, NAMES) == draw(3, 7, NAMES)
    assert draw(3, 7, NAMES) != draw(4, 7, NAMES)
    assert len({draw(3, k, NAMES).gantry_deg for k in range(20) if draw(3, k, NAMES).beams != "clinic"}) > 5


def test_every_patient_comes_once_before_any_comes_again() -> None:
    for turn in range(3):
        assert sorted(draw(1, 5 * turn + k, NAMES).patient for k in range(5)) == NAMES


def test_beams_are_what_their_kind_says() -> None:
    drawn = [draw(0, k, NAMES) for k in range(300)]
    assert {d.beams for d in drawn} == {"clinic", "equispaced", "free"}
    assert {len(d.gantry_deg) for d in drawn} == set(range(FEWEST, MOST + 1))
    for d in drawn:
        angles = np.array(d.gantry_deg)
        gaps = np.diff([*angles, angles[0] + 360])
        assert (angles >= 0).all() and (angles < 360).all() and (gaps > 0).all()
        if d.beams == "clinic":
            assert d.gantry_deg == CLINIC_DEG
        elif d.beams == "equispaced":
            assert np.ptp(gaps) <= 0.21  # angles are rounded to 0.1
        else:
            assert gaps.min() >= APART_DEG - 0.11


def test_a_draw_survives_json() -> None:
    row = plain(draw(0, 1, NAMES))
    assert json.loads(json.dumps(row)) == row


# the hand-over


def test_each_organ_of_the_vocabulary_has_a_limit_of_its_own() -> None:
    """To head and neck's vocabulary a bladder and a rectum are both 'other', and share one."""
    case = water()
    cord = case.structures["SpinalCord"]
    case = replace(case, structures={**case.structures, "Bladder": cord, "Rectum": cord})

    def limits(vocabulary: Vocabulary) -> dict[str, float]:
        chosen = draw(0, 0, ["water"], len(vocabulary.organs))
        given, _ = pyradplan.task(case, chosen, Setting(), vocabulary)
        rows = json.loads(given["structures"])
        return {row["name"]: row["goals"][0][1] for row in rows if row["kind"] == "OAR"}

    own = limits(PROSTATE)
    assert len(set(own.values())) == 3 and own.keys() == {"SpinalCord", "Bladder", "Rectum"}
    shared = limits(HEAD_NECK)
    assert shared["Bladder"] == shared["Rectum"] != shared["SpinalCord"]
    assert limits(Vocabulary(("Rectum",))).keys() == {"Rectum"}


def test_a_point_in_mm_keeps_its_ct_and_its_structures() -> None:
    case = water()
    hu = np.random.default_rng(0).uniform(-100, 100, case.grid.shape).astype(np.float32)
    case = replace(case, ct=Volume(np.where(case.body, hu, -1000.0).astype(np.float32), case.grid, "HU"))
    given, dose_grid = pyradplan.task(case, one(0.0), Setting())
    grid = Grid(given["hu"].shape, given["spacing_mm"], given["origin_mm"])
    assert Volume(given["hu"], grid, "HU").resample(case.grid).array == pytest.approx(case.ct.array, abs=1e-3)
    rows = json.loads(given["structures"])
    assert [row["name"] for row in rows] == ["PTV", "SpinalCord", "rest", "calculated"]
    for row, name in ((0, "PTV"), (1, "SpinalCord"), (2, "External")):
        at = grid.to_mm(np.argwhere(given["masks"][row]))
        assert (
            np.sort(at, axis=0) == np.sort(case.grid.to_mm(np.argwhere(case.structures[name])), axis=0)
        ).all()
    assert np.shape(given["dose_shape"]) == (3,) and dose_grid.spacing_mm == (7.0, 7.0, 7.0)


def test_air_lies_around_the_patient_on_every_side_that_rays_pass() -> None:
    given, _ = pyradplan.task(water(), one(0.0), Setting())
    hu = given["hu"]
    for axis in range(3):
        for edge in (0, -1):
            assert (np.take(hu, edge, axis=axis) == pyradplan.AIR_HU).all()


def test_a_dose_comes_back_at_its_place_in_gy() -> None:
    case, chosen = water(), one(0.0, 40.0, 200.0)
    _, dose_grid = pyradplan.task(case, chosen, Setting())

    def linear(grid: Grid) -> np.ndarray:
        x, y, z = np.moveaxis(
            grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)), -1, 0
        )
        return 500 + x - 0.5 * y + 0.8 * z

    stored = pyradplan.planned(case, chosen, answer_of(case, chosen, dose_grid, linear(dose_grid)), dose_grid)
    dose, body = stored.dose.in_unit("Gy"), case.body
    expected = linear(case.grid)[body]
    assert dose[body] / dose[body].mean() == pytest.approx(expected / expected.mean(), rel=1e-5)
    assert (dose[~body] == 0).all()
    assert np.median(dose[case.structures["PTV"]]) == pytest.approx(chosen.scale * 60.0, rel=1e-5)
    assert [beam.gantry_deg for beam in stored.beams] == [(0.0,), (40.0,), (200.0,)]
    assert stored.rx_max_gy == 60.0 and "simulated plan" in stored.inferred[-1]


def test_sources_that_stand_elsewhere_are_refused() -> None:
    case, chosen = water(), one(40.0)
    _, dose_grid = pyradplan.task(case, chosen, Setting())
    mirrored = answer_of(case, one(320.0), dose_grid, np.ones(dose_grid.shape))
    with pytest.raises(ValueError, match="sources stand at"):
        pyradplan.planned(case, chosen, mirrored, dose_grid)


def test_a_case_that_cannot_be_planned_is_named() -> None:
    for case in (replace(water(), ct=None), replace(water(), prescription=Prescription())):
        with pytest.raises(ValueError, match="water: a plan needs CT, body and a prescribed target"):
            pyradplan.task(case, one(0.0), Setting())
    with pytest.raises(ValueError, match="HFP"):
        pyradplan.task(replace(water(), patient_position="HFP"), one(0.0), Setting())
    with pytest.raises(ValueError, match="bixels of 2 to 30 mm"):
        Setting(bixel_mm=0)


# the command


@pytest.fixture
def no_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYDOSE_PLANNER", raising=False)


def cohort(folder: Path, count: int = 3) -> Path:
    for k in range(count):
        store.write_stored(water(f"p_{k}"), folder, f"p_{k}")
    return folder


def stand_in(path: Path, seconds: float = 0.0, failing: tuple[str, ...] = ()) -> Path:
    text = STAND_IN.format(python=sys.executable, seconds=seconds, failing=failing, ball=BALL_MM)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("no_planner")
def test_without_a_planner_one_sentence_says_how_to_make_one(tmp_path: Path) -> None:
    nowhere = tmp_path / "no-python"
    for engine, found in (("", "no planner"), (nowhere, "cannot be run"), (sys.executable, "cannot plan")):
        done = anydose("simulate", cohort(tmp_path / "in", 1), tmp_path / "out", "--engine", engine)
        assert done.returncode == 2 and found in done.stderr
        assert "pip install 'pyradplan==0.5.0'" in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_plans_are_stored_kept_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planner, out = stand_in(tmp_path / "planner", failing=("00001",)), tmp_path / "out"
    arguments = ("simulate", cohort(tmp_path / "in"), out, "--plans", "4", "--seed", "5", "--workers", "2")
    monkeypatch.setenv("ANYDOSE_PLANNER", str(planner))
    first = anydose(*arguments)
    chosen = [draw(5, k, ["p_0", "p_1", "p_2"]) for k in range(4)]
    assert first.returncode == 2
    assert f"{chosen[1].name}: refused the planner failed: no beam reaches the target" in first.stdout
    assert f"{out}: 3 written, 0 kept, 1 refused" in first.stdout
    assert sorted(store.names(out)) == sorted(d.name for d in chosen if d.number != 1)
    rows = json.loads((tmp_path / "out.plans.json").read_text())
    assert [row["draw"] for row in rows] == [plain(d) for d in chosen if d.number != 1]
    stand_in(planner)
    again = anydose(*arguments)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, f"{out}: 1 written, 3 kept, 0 refused")
    other = anydose(*arguments, "--grid-mm", "5")
    assert other.returncode == 2 and "made by another draw or setting" in other.stdout
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    case = store.read_stored(out / chosen[0].name)
    assert tuple(beam.gantry_deg[0] for beam in case.beams) == chosen[0].gantry_deg
    drawn = anydose("render", out, tmp_path / "drawn", "--workers", "1")
    assert (drawn.returncode, len(list((tmp_path / "drawn").glob("*.safetensors")))) == (0, 4), drawn.stderr


def test_a_killed_run_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    source, out = cohort(tmp_path / "in"), tmp_path / "out"
    slow = stand_in(tmp_path / "planner", seconds=0.3)
    full = [sys.executable, "-m", "anydose.cli", "simulate", source, out, "--plans", "12", "--engine", slow]
    process = subprocess.Popen([str(a) for a in full], stdout=subprocess.DEVNULL)
    for _ in range(600):
        if out.is_dir() and len(list(out.glob("p_*"))) >= 2:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stamps = {p.name: p.stat().st_mtime_ns for p in out.glob("p_*")}
    assert 2 <= len(stamps) < 12
    planner = pyradplan.PyRadPlan(str(stand_in(slow)), Setting(), HEAD_NECK)
    states = {o.name: o.state for o in simulate.simulate(source, out, 12, planner)}
    assert len(states) == 12 and set(states.values()) == {"kept", "written"}
    assert all(states[name] == "kept" for name in stamps)
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    assert len(json.loads((tmp_path / "out.plans.json").read_text())) == 12
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


# with pyRadPlan


@pytest.fixture(scope="module")
def planner() -> str:
    engine = os.environ.get("ANYDOSE_PLANNER", "")
    if not engine:
        pytest.skip("no planner: set ANYDOSE_PLANNER to a Python that holds pyRadPlan (docs/simulation.md)")
    return pyradplan.checked_engine(engine)


@pytest.mark.parametrize("gantry_deg", [40.0, 90.0, 230.0])
def test_a_single_beam_enters_where_ours_does(planner: str, tmp_path: Path, gantry_deg: float) -> None:
    """On a ball in water the dose's centre stays on the ray through the ball, and the dose falls with the
    depth that our own beam geometry states: 6 MV photons lose 0.35 to 0.5 % a mm."""
    case, chosen = water(), one(gantry_deg)
    given, dose_grid = pyradplan.task(case, chosen, Setting(bixel_mm=6, grid_mm=4))
    answer = pyradplan.ask(planner, given, tmp_path / "plan")
    dose = pyradplan.planned(case, chosen, answer, dose_grid).dose.array
    seen = beams_eye_view(Beam((gantry_deg,), BALL_MM), gantry_deg)
    u, v, w = project(seen, case.grid)
    for behind_mm in (-20, 0, 20):
        here = case.body & (np.abs(w - 1000 - behind_mm) < 8)
        for across in (u, v):
            assert abs((across * dose)[here].sum() / dose[here].sum()) < 1.5, (gantry_deg, behind_mm)
    ray = case.body & (np.hypot(u, v) < 8)
    depth = radiological_depth(seen, relative_density(case.ct.array), case.grid, ray)
    deep = ray & (depth > 25)
    slope = np.polyfit(depth[deep], np.log(dose[deep] * (w[deep] / 1000) ** 2), 1)[0]
    assert 0.0035 < -slope < 0.005


def test_a_plan_with_the_clinics_beams_is_like_the_clinics(
    planner: str, openkbp_root: Path, tmp_path: Path
) -> None:
    case = read_case(openkbp_root / "provided-data" / "train-pats" / "pt_1")
    chosen = one(*CLINIC_DEG)
    given, dose_grid = pyradplan.task(case, chosen, Setting())
    dose = pyradplan.planned(case, chosen, pyradplan.ask(planner, given, tmp_path / "plan"), dose_grid).dose
    assert np.corrcoef(dose.array[case.body], case.dose.array[case.body])[0, 1] > 0.93
