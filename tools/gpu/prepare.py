"""Packed OpenKBP patients -> rendered files, on all cores: `prepare.py PACKED OUT`.

PACKED holds train/ and validation/ with pt_N.npz, and the dataset's own unpack.py.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

SPLITS = ("train", "validation")


def prepare(packed: Path, out: Path) -> str:
    """The rendered file of one patient, or a sentence why there is none."""
    import unpack  # the dataset's own, in PACKED

    from anydose.io.openkbp import read_case
    from anydose.train.data import render_file

    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        folder = Path(scratch) / packed.stem
        unpack.write_csv(unpack.load(packed), folder)
        try:
            return str(render_file(read_case, folder, out))
        except (ValueError, OSError) as error:
            return f"refused: {error}"


def main(packed: Path, out: Path) -> None:
    """Prepare every patient of both splits."""
    begin = time.monotonic()
    sources, folders = [], []
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
        for source in sorted((packed / split).glob("*.npz")):
            sources.append(source)
            folders.append(out / split)
    with ProcessPoolExecutor() as pool:
        done = list(pool.map(prepare, sources, folders))
    refused = [said for said in done if said.startswith("refused")]
    print(f"{len(done)} patients in {time.monotonic() - begin:.1f} s; {refused}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    os.environ["PYTHONPATH"] = f"{sys.argv[1]}:{os.environ.get('PYTHONPATH', '')}"
    main(Path(sys.argv[1]), Path(sys.argv[2]))
