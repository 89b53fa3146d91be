"""A report on paper: Chromium prints what a reader of the printed page needs, in its true shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import DARK, seen_in_browser
from scored_phantom import CORD_MAX, COVERAGE, GRID, card, case, dose_gy

from anydose.case.volume import Volume
from anydose.score.binding import bind
from anydose.score.report.html import Report, write_report
from anydose.score.scoring import score

pytest.importorskip("plotly")

LETTER_PX = 8.5 * 96
HANDS = """
  const all = (selector) => [...document.querySelectorAll(selector)];
  const look = () => {
    const { left, width } = all("#dvh .main-svg")[0].getBoundingClientRect();
    const ends = all("#dvh .legendtext").map((text) => text.getBoundingClientRect().right - left);
    const beside = all("#legend label").length; // one of them is the body's, which has no curve at first
    return { width, names: ends.length, beside, ends: Math.max(...ends, 0),
      ink: getComputedStyle(all("#dvh .xtick text")[0]).fill };
  };
  const screen = look();
  dispatchEvent(new Event("beforeprint"));
  const paper = look();
  dispatchEvent(new Event("afterprint"));
  await frame();
  const after = look();
  all("#views")[0].style.width = "520px"; // as narrow as three planes are on paper
  const canvases = all(".view canvas"), box = canvases[1].getBoundingClientRect();
  const shapes = canvases.map((c) => [c.clientWidth / c.clientHeight, c.width / c.height]);
  const clientX = box.left + box.width / 2, clientY = box.top + box.height / 2;
  canvases[1].dispatchEvent(new PointerEvent("pointerdown", { clientX, clientY, buttons: 1 }));
  await frame();
  const place = all("figcaption span")[2].textContent.match(/([0-9]+) of ([0-9]+)/);
  const error = document.body.dataset.error || "";
  return { screen, paper, after, shapes, slice: +place[1], slices: +place[2], error };
"""


@pytest.mark.parametrize("flags", [[], [DARK]], ids=["light", "dark"])
def test_paper_shows_the_whole_histogram_and_true_shapes(tmp_path: Path, flags: list[str]) -> None:
    of, dose = case(), Volume(dose_gy(), GRID, "Gy")
    bound = bind(of, card(COVERAGE, CORD_MAX))
    write_report(tmp_path / "r.html", Report(of, dose, bound, score(bound, dose)))
    seen = seen_in_browser(tmp_path / "r.html", tmp_path, HANDS, flags=flags)
    assert seen["error"] == ""
    assert seen["screen"]["width"] > LETTER_PX, "wider than a sheet before"
    assert seen["paper"]["width"] <= 700 and 0 < seen["screen"]["ends"] <= seen["screen"]["width"]
    assert seen["screen"]["names"] == 3
    assert seen["paper"]["names"] == 0, "the slices' legend stands above and serves both"
    assert seen["paper"]["beside"] >= 3
    assert seen["paper"]["ink"] == "rgb(0, 0, 0)", "black on white, from a dark screen too"
    assert seen["after"] == seen["screen"], "and back"
    for shown, drawn in seen["shapes"]:
        assert shown == pytest.approx(drawn, rel=0.02), "a plane is not stretched"
    assert seen["slice"] == pytest.approx(seen["slices"] / 2, abs=1.1), "the middle of a plane is its middle"
