"""The report page: what it holds, and that a browser shows it without a server or an error."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import seen_in_browser
from scored_phantom import CORD, CORD_MAX, COVERAGE, GRID, HEART, PTV, card, case, dose_gy

from anydose.case.case import Case
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.score.binding import bind, own_template
from anydose.score.compare import compare
from anydose.score.report.embed import LONGEST_NAME
from anydose.score.report.html import MAX_BYTES, Report, write_report
from anydose.score.report.run_record import RunRecord
from anydose.score.report.volumes import shown_grid
from anydose.score.scoring import score

# a user's hands: scroll one slice, move the cursor, click in a plane, hover the histogram
HANDS = """
  const where = () => [...document.querySelectorAll("figcaption span")].map((span) => span.textContent);
  const seen = { before: where() };
  const [axial, coronal] = document.querySelectorAll(".view canvas"), first = axial.toDataURL();
  const key = (name) => axial.dispatchEvent(new KeyboardEvent("keydown", { key: name, cancelable: true }));
  axial.dispatchEvent(new WheelEvent("wheel", { deltaY: 100, cancelable: true }));
  await frame();
  Object.assign(seen, { wheeled: where(), redrawn: axial.toDataURL() !== first });
  key("ArrowLeft"); key("ArrowUp"); key("PageUp");
  await frame();
  seen.keyed = where();
  const box = coronal.getBoundingClientRect();
  const clientX = box.left + box.width * 0.8, clientY = box.top + box.height / 2;
  coronal.dispatchEvent(new PointerEvent("pointerdown", { clientX, clientY, buttons: 1 }));
  await frame();
  seen.clicked = where();
  const before = axial.toDataURL();
  document.querySelectorAll("#isodoses input").forEach((box) => box.click());
  await frame();
  seen.chosen = axial.toDataURL() !== before;
  const traces = document.getElementById("dvh").data;
  Plotly.Fx.hover("dvh", [{ curveNumber: 0, pointNumber: 150 }]);
  for (let k = 0; k < 100 && !document.querySelector("#dvh .hoverlayer").textContent; k++) await wait(50);
  seen.hover = document.querySelector("#dvh .hoverlayer").textContent;
  seen.bands = traces.filter((trace) => trace.fill === "toself").length;
  seen.probe = document.getElementById("probe").textContent;
  seen.labels = axial.getAttribute("aria-label");
  seen.error = document.body.dataset.error || "";
  seen.ready = document.body.dataset.ready;
  seen.views = document.querySelectorAll("figure").length;
  seen.doses = document.querySelectorAll("#shown button").length;
  seen.rows = document.querySelectorAll("#items tbody tr").length;
  seen.figures = document.querySelectorAll("#figures-table tbody tr").length;
  seen.scored = !document.getElementById("scorecard-section").hidden;
  seen.wide = document.documentElement.scrollWidth <= innerWidth;
  seen.loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  return seen;
"""

pytest.importorskip("plotly")


def written(path: Path, of: Case, dose: Volume, warnings: Sequence[str] = ()) -> str:
    bound = bind(of, own_template(of) if of.name.startswith("pt_") else card(COVERAGE, CORD_MAX, HEART))
    report = Report(
        of,
        dose,
        bound=bound,
        result=score(bound, dose),
        comparison=compare(of, of.dose, dose) if of.dose is not None else None,
        provenance={"model": "</script><b>x</b>"},
        warnings=warnings,
    )
    write_report(path, report)
    return path.read_text()


def data_of(html: str) -> Any:
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]


def unpacked(html: str, name: str, kind: str) -> np.ndarray:
    text = re.search(rf'id="packed-{name}">([^<]*)</script>', html)[1]  # type: ignore[index]
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype=kind)


def shown_by_a_browser(page: Path, folder: Path, width: int = 1400) -> Any:
    return seen_in_browser(page, folder, HANDS, width=width)


def test_the_page_holds_the_dose_the_masks_and_the_items(tmp_path: Path) -> None:
    dose = Volume(dose_gy(), GRID, "Gy")
    html = written(tmp_path / "r.html", case(), dose)
    data = data_of(html)
    shape = data["volumes"]["shape"]
    stored = unpacked(html, "dose", "<u2").reshape(shape) * data["volumes"]["dose_step_gy"]
    grid = Grid(tuple(shape), tuple(data["volumes"]["spacing_mm"]), tuple(data["volumes"]["origin_mm"]))
    assert stored == pytest.approx(dose.resample(grid).array, abs=0.006)
    bits = unpacked(html, "masks", "<u4").reshape(shape)
    number = [s["name"] for s in data["volumes"]["structures"]].index("PTV")
    assert ((bits >> number) & 1).sum() == case().structures["PTV"].sum()
    assert data["score"]["missing"] == ["Heart MeanDose[Gy]"]
    assert data["provenance"]["dose SHA-256 (float32, z y x)"]


def test_the_page_asks_for_nothing_from_outside_and_text_stays_text(tmp_path: Path) -> None:
    html = written(tmp_path / "r.html", case(), Volume(dose_gy(), GRID, "Gy"))
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "</script><b>" not in html
    assert data_of(html)["provenance"]["model"] == "</script><b>x</b>"


ATTACKS = (
    "<!--PACKED--><img src=x onerror=document.title='HACKED'>",
    "/*SCRIPT*/",
    "<!--<script>",
    "</script><script>document.title='HACKED'</script>",
    "<img src=x onerror=document.body.dataset.error='HACKED'>",
    "\u202egnirts\u2028\u2029" + "x" * 9000,
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_of_the_data_becomes_markup_or_a_mark(attack: str, tmp_path: Path) -> None:
    html = written(tmp_path / "r.html", case(**{attack: CORD}), Volume(dose_gy(), GRID, "Gy"), [attack])
    own = written(tmp_path / "own.html", case(Other=CORD), Volume(dose_gy(), GRID, "Gy"))
    for sign in ("<script", "</script", "<img", "<!--"):
        assert html.count(sign) == own.count(sign)
    names = [curve["name"] for curve in data_of(html)["dvh"]["curves"]]
    assert attack[:20] in names[-2] or "gnirts" in names[-2]
    assert max(map(len, names)) <= LONGEST_NAME
    assert attack in data_of(html)["notes"]


def test_a_browser_runs_the_pages_own_scripts_alone(tmp_path: Path) -> None:
    """All attacks at once, as structure, case, scorecard and warning; and one script past the escaping."""
    of = replace(case(**dict.fromkeys(ATTACKS, CORD)), name=ATTACKS[0])
    html = written(tmp_path / "r.html", of, Volume(dose_gy(), GRID, "Gy"), ATTACKS)
    alien = "<script>document.body.dataset.error = 'HACKED'</script>"
    alien += "<img src=x onerror=\"document.body.dataset.error = 'HACKED'\">"
    (tmp_path / "r.html").write_text(html.replace("</header>", f"</header>{alien}"))
    seen = shown_by_a_browser(tmp_path / "r.html", tmp_path)
    assert (seen["error"], seen["ready"]) == ("", "yes"), "ready, and no alien script ran"


def test_the_shown_grid_lies_along_the_patient_whatever_the_case_s_axes() -> None:
    """A prone patient's grid, index x to the right and y to the front, is shown in the same place."""
    turned = Grid(GRID.shape, GRID.spacing_mm, (63.0, 57.5, 0.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    of = Case("prone", turned, {"Body": case().structures["Body"]})
    grid = shown_grid(of, 10**6)
    assert np.allclose(grid.direction, np.eye(3))
    low, high = turned.to_mm(np.argwhere(of.structures["Body"])).take((0, -1), axis=0)
    assert np.all(grid.to_index([low, high]) >= -0.5)
    body = Volume(of.structures["Body"].astype(np.float32), turned, "1").resample(grid).array >= 0.5
    assert body.sum() == of.structures["Body"].sum()


def test_a_large_case_is_shown_coarser_within_the_limit() -> None:
    big = Grid((200, 512, 512), (1.0, 1.0, 2.0))
    of = Case("big", big, {"Body": np.ones(big.shape, dtype=bool)})
    assert np.prod(shown_grid(of, 400_000).shape) <= 400_000


def test_a_dose_on_another_grid_is_refused(tmp_path: Path) -> None:
    bound = bind(case(), card(COVERAGE))
    moved = Volume(dose_gy(), Grid(GRID.shape, (3.0, 3.0, 3.0)), "Gy")
    with pytest.raises(ValueError, match="own grid"):
        write_report(tmp_path / "r.html", Report(case(), moved, bound, score(bound, dose_gy())))


def test_a_browser_shows_a_patient_without_reference_or_ct(tmp_path: Path) -> None:
    written(tmp_path / "r.html", case(), Volume(dose_gy(), GRID, "Gy"))
    seen = shown_by_a_browser(tmp_path / "r.html", tmp_path)
    assert (seen["error"], seen["ready"], seen["views"], seen["doses"], seen["rows"]) == ("", "yes", 3, 1, 3)
    assert seen["redrawn"] and seen["chosen"] and seen["figures"] == 3
    axial, coronal, sagittal = seen["before"]
    assert seen["wheeled"][0] != axial and seen["wheeled"][1:] == [coronal, sagittal], "the wheel scrolls"
    assert all(a != b for a, b in zip(seen["keyed"][1:], seen["wheeled"][1:], strict=True)), "arrows move"
    assert seen["keyed"][0] == axial, "page up undoes the wheel"
    assert seen["clicked"][2] != seen["keyed"][2], "a click in one plane moves the others"


def test_a_page_without_a_scorecard_and_where_the_dose_is_unknown(tmp_path: Path) -> None:
    dose = Volume(np.where(np.arange(24)[:, None] < 19, dose_gy(), np.nan), GRID, "Gy")
    band = [{"structure": "PTV", "point": f"D_{p}", "low": 55.0 - p / 10, "high": 60.0} for p in (5, 50, 95)]
    naming = (("SpinalCord", "SpinalCord", "oar", "SpinalCord", ""), ("Odd", "", "", "ignored", "no name"))
    record = RunRecord(("unlike",), {"Model": "compact"}, naming, tuple(band))
    write_report(tmp_path / "r.html", Report(case(), dose, record=record))
    data = data_of((tmp_path / "r.html").read_text())
    rows = {row["name"]: row for row in data["table"]}
    assert rows["SpinalCord"]["dose"] is None and "covered in part" in rows["SpinalCord"]["why"]
    assert rows["PTV"]["dose"][0] == pytest.approx(PTV.sum() * GRID.voxel_cc)
    assert data["provenance"]["Model"] == "compact" and data["mapping"][1] == list(naming[1])
    assert data["notes"] == ["unlike"]
    seen = shown_by_a_browser(tmp_path / "r.html", tmp_path)
    assert (seen["error"], seen["ready"], seen["scored"], seen["bands"]) == ("", "yes", False, 1)


def test_nothing_runs_out_of_a_narrow_page(tmp_path: Path) -> None:
    written(tmp_path / "r.html", case(), Volume(dose_gy(), GRID, "Gy"))
    seen = shown_by_a_browser(tmp_path / "r.html", tmp_path, width=500)
    assert (seen["error"], seen["wide"]) == ("", True)


def test_a_browser_shows_a_real_patient(openkbp_root: Path, tmp_path: Path) -> None:
    from anydose.io.openkbp import patients, read_case

    folders = [p for split in ("validation", "train") for p in patients(openkbp_root, split)]
    patient = read_case(next(p for p in folders if p.name in ("pt_201", "pt_1")))
    assert patient.dose is not None
    written(tmp_path / "r.html", patient, Volume(patient.dose.array * 0.98, patient.grid, "Gy"))
    assert (tmp_path / "r.html").stat().st_size <= MAX_BYTES
    seen = shown_by_a_browser(tmp_path / "r.html", tmp_path)
    assert (seen["error"], seen["ready"], seen["views"], seen["doses"]) == ("", "yes", 3, 3)
    assert seen["redrawn"] and seen["chosen"] and seen["before"] != seen["wheeled"], "slices scroll"
    assert "receive" in seen["hover"] and "Gy" in seen["hover"], "the histogram hovers"
    assert seen["loaded"] == [], "nothing is fetched"
