"""Chromium with a page of ours, driven by a script on a real clock: under a virtual one timers run ahead of
the frames in which a page draws."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-sync"
FLAGS += " --enable-unsafe-swiftshader --enable-logging=stderr --remote-debugging-port=0"
DARK = "--blink-settings=preferredColorScheme=0"
SCRIPT = """(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  while (!document.body.dataset.ready && !document.body.dataset.error) await wait(50);
  await frame();
  %s
})().then((seen) => seen, (error) => ({ error: String(error) })).then((seen) => {
  console.log("SEEN" + btoa(unescape(encodeURIComponent(JSON.stringify(seen)))) + "END");
});
"""


def seen_in_browser(
    page: Path,
    folder: Path,
    hands: str,
    libraries: Sequence[str] = (),
    width: int = 1400,
    flags: Sequence[str] = (),
) -> Any:
    """What the script `hands` returns from the page once it says that it is ready. The page's policy lets no
    other script run: this one and `libraries` are let in by their hashes."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    scripts = [*libraries, SCRIPT % hands]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = "".join(f"'sha256-{digest}' " for digest in digests)
    html = page.read_text().replace("script-src ", f"script-src {allowed}", 1)
    inserted = "".join(f"<script>{text}</script>" for text in scripts)
    acted = folder / "acted.html"
    acted.write_text(html.replace("</body>", f"{inserted}</body>"))
    command = [CHROMIUM, *FLAGS.split(), *flags, f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},1000", acted.as_uri()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        limit = threading.Timer(300, browser.kill)  # 117 s were seen on two cores with a load of 22
        limit.start()
        try:
            said = list(_until_seen(browser.stderr))
        finally:
            limit.cancel()
            browser.kill()
    found = re.search(r"SEEN([A-Za-z0-9+/=]+)END", said[-1])
    assert found, "".join(said[-20:])
    return json.loads(base64.b64decode(found[1]))


def _until_seen(lines: Any) -> Iterator[str]:
    """What the browser logs, up to what its page saw."""
    yield ""
    for line in lines:
        yield line
        if "SEEN" in line and "END" in line:
            return
