"""The pages under axe-core, the usual judge of accessibility (npm; fetched for the test, never kept)."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from browser import DARK, seen_in_browser
from scored_phantom import CORD_MAX, COVERAGE, GRID, card, case, dose_gy

from anydose.case.volume import Volume
from anydose.score.binding import bind
from anydose.score.compare import compare
from anydose.score.report.html import Report, write_report
from anydose.score.report.run_record import RunRecord
from anydose.score.scoring import score

VERSION = "4.14.1"
JUDGE = """
  const found = await axe.run(document, { resultTypes: ["violations"] });
  const where = (rule) => rule.nodes.map((node) => node.html).slice(0, 3);
  const rules = found.violations.map((rule) => [rule.impact, rule.id, where(rule)]);
  return { error: document.body.dataset.error || "", rules, passes: found.passes.length,
           dark: matchMedia("(prefers-color-scheme: dark)").matches };
"""

pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe.min.js."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm here: apt-get install npm")
    done = subprocess.run(
        [npm, "pack", f"axe-core@{VERSION}"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        pytest.skip(f"axe-core cannot be fetched: {done.stderr[-200:]}")
    with tarfile.open(folder / f"axe-core-{VERSION}.tgz") as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def page(path: Path) -> None:
    """A report with everything that a report can hold."""
    of, dose = case(), Volume(dose_gy() * 0.98, GRID, "Gy")
    of = of.__class__(**{**vars(of), "dose": Volume(dose_gy(), GRID, "Gy")})
    bound = bind(of, card(COVERAGE, CORD_MAX))
    naming = (("SpinalCord", "SpinalCord", "oar", "SpinalCord", ""), ("Odd", "", "", "ignored", "no name"))
    band = [{"structure": "PTV", "point": f"D_{p}", "low": 55.0 - p / 10, "high": 60.0} for p in (5, 50, 95)]
    record = RunRecord(("unlike the training data",), {"Model": "compact"}, naming, tuple(band))
    write_report(path, Report(of, dose, bound, score(bound, dose), compare(of, of.dose, dose), record=record))


@pytest.mark.parametrize(
    ("width", "flags"), [(1400, []), (500, []), (1400, [DARK])], ids=["wide", "narrow", "dark"]
)
def test_a_report_has_no_serious_finding(axe: str, tmp_path: Path, width: int, flags: list[str]) -> None:
    page(tmp_path / "r.html")
    seen = seen_in_browser(tmp_path / "r.html", tmp_path, JUDGE, [axe], width, flags)
    assert seen["error"] == ""
    assert seen["dark"] == bool(flags)
    assert [rule for rule in seen["rules"] if rule[0] in ("serious", "critical")] == []
