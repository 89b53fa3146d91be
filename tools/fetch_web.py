"""Fetch the page's third-party JavaScript from the npm registry, pinned and checked (`make web`).

    python tools/fetch_web.py

It goes into src/anydose/serve/web/vendor, which git ignores and wheels hold."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE, MEMBER = "@niivue/niivue@0.69.0", "package/dist/niivue.umd.js"
SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
TARGET = Path(__file__).parents[1] / "src" / "anydose" / "serve" / "web" / "vendor" / "niivue.umd.js"


def main() -> int:
    """Fetch what is missing or altered; 1 if what came is not what was pinned."""
    if TARGET.is_file() and _hash(TARGET.read_bytes()) == SHA256:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.stderr.write(f"{PACKAGE}: not fetched ({error}); npm and its registry are needed\n")
            return 1
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile(MEMBER)
            content = member.read() if member is not None else b""
    if _hash(content) != SHA256:
        sys.stderr.write(f"{PACKAGE}: {MEMBER} has SHA-256 {_hash(content)}, {SHA256} was pinned\n")
        return 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(content)
    return 0


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
