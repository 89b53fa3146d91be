"""A person at the page, in headless Chromium (software GL) with the real server and worker, on a real clock.
ANYDOSE_FIGURES keeps the figures, ANYDOSE_PICTURES the screenshots (tools/pictures.py)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from browser import CHROMIUM
from clinic_pacs import coarse_phantom, tiny_model
from figures import kept
from scipy.ndimage import distance_transform_edt

pytest.importorskip("fastapi")
pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from running_viewer import RunningViewer

import anydose.serve
from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.io.nifti import write_case
from anydose.io.phantom import write_phantom
from anydose.score.scorecard import templates
from anydose.serve.room import Room

NIIVUE = Path(anydose.serve.__file__).parent / "web" / "vendor" / "niivue.umd.js"
PATIENCE_MS = 300_000
FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-quic"]
SERIOUS = ("serious", "critical")
WIDE, NARROW = {"width": 1400, "height": 1000}, {"width": 500, "height": 900}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
    pytest.mark.skipif(not NIIVUE.is_file(), reason="no NiiVue here: make web"),
]


def planned(case: Case) -> Case:
    """The case with a dose that falls off around its targets."""
    gy = np.zeros(case.grid.shape)
    for name, level in case.prescription.levels_gy.items():
        away_mm = distance_transform_edt(~case.structures[name], sampling=case.grid.spacing_mm[::-1])
        gy = np.maximum(gy, level * np.exp(-away_mm / 40.0))
    assert case.body is not None
    return replace(case, dose=Volume((gy * case.body).astype(np.float32), case.grid, "Gy"))


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningViewer]:
    """A server that predicts, with a planned patient and a quick model of the clinic's own."""
    room = Room(tmp_path_factory.mktemp("data"))
    room.models.mkdir()
    tiny_model(room.models / "quick.safetensors")
    write_case(planned(coarse_phantom(2)), room.data / "cases" / "planned")
    found = RunningViewer(room.data)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, viewer: RunningViewer) -> Iterator[Page]:
    """The page, ready; in the end nothing was said in the console and nobody else was asked for anything."""
    wrong: list[str] = []
    found = chromium.new_page(viewport=WIDE, accept_downloads=True)
    found.set_default_timeout(60_000)
    found.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    ours = (f"{viewer.url}/", "data:", "blob:")
    found.on("request", lambda asked: None if asked.url.startswith(ours) else wrong.append(asked.url))
    found.goto(viewer.url)
    found.wait_for_selector("body[data-ready=yes]")
    yield found
    found.close()
    assert wrong == []


def judged(page: Page) -> list[Any]:
    """What axe-core finds that is serious: (rule, places)."""
    return [
        (rule["id"], [node["html"][:160] for node in rule["nodes"][:3]])
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in SERIOUS
    ]


def in_every_form(page: Page, name: str, place: str = "#viewer") -> None:
    """Wide, dark and narrow: accessible, no wider than the window, and a picture of a place of each."""
    for form, size, scheme in (("1400", WIDE, "light"), ("dark", WIDE, "dark"), ("500", NARROW, "light")):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), form
        assert judged(page) == [], form
        folder = os.environ.get("ANYDOSE_PICTURES")
        if folder:
            page.locator(place).screenshot(path=Path(folder) / f"{name}-{form}.png")
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    settled(page)


def until(page: Page, place: str) -> None:
    """Until a place is there; what went wrong is said by the page."""
    page.wait_for_selector(f"{place}, #said.wrong", timeout=PATIENCE_MS)
    assert page.locator("#said.wrong").count() == 0, page.inner_text("#said")


def settled(page: Page) -> None:
    """Until what a change of the window sets off is drawn."""
    page.evaluate("new Promise((done) => setTimeout(() => requestAnimationFrame(done), 400))")


def quiet() -> bool:
    """Whether the machine does no other work: a busy one serves in turns, and its figures say nothing."""
    return os.getloadavg()[0] < (os.cpu_count() or 1)


def changes(page: Page, place: str, act: Callable[[], object]) -> bool:
    """Whether an act changes what a place says."""
    before = page.inner_text(place)
    act()
    settled(page)
    return page.inner_text(place) != before


def test_from_an_upload_to_a_released_rtdose(page: Page, viewer: RunningViewer, tmp_path: Path) -> None:
    write_phantom(3, tmp_path / "study", "dicom")
    page.set_input_files("#folder", tmp_path / "study")
    page.wait_for_selector("#names-section:not([hidden])")
    assert page.locator("#names tbody tr").count() >= 10 and "Parotid_L" in page.inner_text("#names")
    in_every_form(page, "viewer-names", "main")
    page.fill("input[aria-label='what Larynx is']", "ignore")
    page.check("#uncertainty")
    page.select_option("#looks", "1")
    page.click("#predict")
    until(page, "body[data-first-picture-at]")
    job = viewer.client.get("/api/jobs").json()[0]
    first_s = float(page.evaluate("document.body.dataset.firstPictureAt / 1000")) - job["finished"]
    is_quiet, load = quiet(), os.getloadavg()[0]
    until(page, "body[data-shown]")
    assert "Gy" in page.inner_text("#probe") and "HU" in page.inner_text("#probe")
    assert page.locator("#limits tbody tr").count() > 3 and page.locator("#items tbody tr").count() > 3
    assert "PTV70" in page.inner_text("#figures")
    assert page.evaluate("document.getElementById('dvh').data.some((trace) => trace.fill === 'toself')")
    frames = float(page.evaluate("anydoseScroll(3000)"))
    kept("first picture after the result", f"{first_s:.2f} s at load {load:.1f}")
    kept("slices scrolled, three planes", f"{frames:.0f} a second at load {load:.1f}")
    if is_quiet and "ANYDOSE_FIGURES" in os.environ:  # elsewhere nobody knows how fast the machine is
        assert first_s <= 2 and frames >= 20
    for key in ("PageUp", "ArrowLeft", "ArrowUp"):
        assert changes(page, "#probe", lambda key=key: page.locator(".plane").first.press(key)), key
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)  # no tool shows itself
    page.select_option("#right", "uncertainty")
    page.wait_for_selector("#second canvas.plane")
    in_every_form(page, "viewer-uncertainty")
    page.select_option("#right", "")
    in_every_form(page, "viewer")
    assert page.locator("#downloads button").count() == 0
    page.fill("#by", "Dr Test <b>bold</b>")
    page.click("#release-form button")
    page.wait_for_selector("#downloads:not([hidden]) button")
    assert "<b>bold</b>" in page.inner_text("#released")  # as text
    with page.expect_download() as coming:
        page.click("#downloads button:has-text('RTDOSE')")
    coming.value.save_as(tmp_path / "dose.dcm")
    dose = pydicom.dcmread(tmp_path / "dose.dcm")
    assert dose.Modality == "RTDOSE" and dose.pixel_array.max() > 0
    record = viewer.client.get(f"/api/jobs/{job['id']}/files/run.json").json()
    assert record["asked"]["read"] == {"names": {"Larynx": "ignore"}} and record["options"]["looks"] == 1


def test_a_plan_and_two_predictions_side_by_side(page: Page, tmp_path: Path) -> None:
    """A stored case with the clinic's dose, a model and a scorecard of the clinic's own; predicted twice."""
    own = tmp_path / "our clinic.json"
    own.write_text(next(iter(templates().values())).read_text())
    page.select_option("#stored", "planned")
    page.wait_for_selector("#names-section:not([hidden])")
    page.set_input_files("#card", own)
    page.wait_for_selector("#said.right")
    assert page.input_value("#scorecard") == "our clinic"
    page.select_option("#model", "quick")
    for seed in ("1", "2"):
        page.fill("#seed", seed)
        page.evaluate("delete document.body.dataset.shown")
        page.click("#predict")
        until(page, "body[data-shown]")
    assert page.input_value("#right") == "reference"  # the plan is beside the prediction at once
    assert "reference" in page.inner_text("#probe") and "difference" in page.inner_text("#probe")
    assert page.locator("#comparison tbody tr").count() > 3
    assert "reference" in page.inner_text("#figures")
    page.select_option("#left", "difference")
    assert page.inner_text("#first h3") == "predicted − reference"
    in_every_form(page, "viewer-reference")
    page.select_option("#other", index=1)
    page.locator("#dvh-note", has_text="the other one").wait_for()
    cursors = "[...document.querySelectorAll('.plane')].map((of) => of.ariaLabel.split(',')[1])"
    before = page.evaluate(cursors)
    page.locator("#second .plane").first.press("PageUp")
    settled(page)
    after = page.evaluate(cursors)
    assert after[0] == after[3] and after[0] != before[0]  # both go to the same place
