"""The docs' pictures: of a report, wide, narrow, dark and printed, and of the viewer.

`python tools/pictures.py docs/images [report] [viewer]` predicts the package's own phantom with the shipped
model, writes its report with the phantom's dose as the reference, and has Chromium draw it. The viewer's
pictures are those that its browser test takes. Needs chromium; for the printed page pdftoppm (Debian:
poppler-utils); for the viewer playwright and NiiVue (`make web`)."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SHOTS = {  # name: (width, height, more flags)
    "report-1400": (1400, 2600, ()),
    "report-500": (500, 3000, ()),
    "report-dark": (1400, 1150, ("--blink-settings=preferredColorScheme=0",)),
}
VIEWER = ("viewer-names-1400", "viewer-1400", "viewer-500", "viewer-dark", "viewer-uncertainty-1400")
BROWSER = ("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--hide-scrollbars")
DRAWN = ("--enable-unsafe-swiftshader", "--timeout=30000", "--virtual-time-budget=30000")


def chromium(folder: Path, *arguments: str) -> None:
    """Run Chromium to its end with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("chromium not found: apt-get install chromium")
    command = [program, *BROWSER, f"--user-data-dir={folder / 'profile'}", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def report(folder: Path) -> Path:
    """A phantom's prediction and its report."""
    anydose = [sys.executable, "-m", "anydose.cli"]
    patient, out, page = folder / "patient", folder / "prediction", folder / "report.html"
    subprocess.run([*anydose, "phantom", str(patient), "--format", "dicom"], check=True)
    subprocess.run([*anydose, "predict", str(patient), "--out", str(out)], check=True)
    subprocess.run([*anydose, "report", str(out), "--case", str(patient), "--out", str(page)], check=True)
    return page


def reports(folder: Path, images: Path) -> None:
    """The report's pictures."""
    page = report(folder)
    for name, (width, height, flags) in SHOTS.items():
        shot = folder / f"{name}.png"
        size = f"--window-size={width},{height}"
        chromium(folder, *DRAWN, *flags, size, f"--screenshot={shot}", page.as_uri())
        small(shot, images / f"{name}.png")
    printed = folder / "report.pdf"
    chromium(folder, *DRAWN, "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri())
    subprocess.run(["pdftoppm", "-r", "70", "-png", str(printed), str(folder / "printed")], check=True)
    pages = sorted(folder.glob("printed-*.png"))
    small(pages[0], images / "report-printed.png")


def viewer(folder: Path, images: Path) -> None:
    """The viewer's pictures, as its test takes them on the way from an upload to a release."""
    command = [sys.executable, "-m", "pytest", "-m", "slow", "tests/serve/test_browser.py"]
    subprocess.run(command, check=True, env={**os.environ, "ANYDOSE_PICTURES": str(folder)})
    for name in VIEWER:
        small(folder / f"{name}.png", images / f"{name}.png")


def small(source: Path, target: Path) -> None:
    """The picture with 256 colours, chosen so that none is far off: below 300 kB."""
    with Image.open(source) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
        few.save(target, optimize=True)


PARTS = {"report": reports, "viewer": viewer}


def main(images: Path, *parts: str) -> None:
    """Write the pictures of these parts, or all, into `images`."""
    for part in parts or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            PARTS[part](Path(scratch), images)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
