"""Ten studies at once, and a node that is killed fifty times: `python tests/stand_ins/node_trial.py --help`.

Orthanc, the node and the senders are real processes and associations on loopback. The studies are coarse
phantoms and the model was never trained, so that it is the node that is measured."""

import argparse
import json
import random
import tempfile
import threading
import time
from pathlib import Path

from clinic_pacs import Orthanc, RunningNode, free_port, study, tiny_model, wait_for
from pydicom import dcmread
from pynetdicom import AE

from anydose.serve.jobs import DELIVERING, DONE, FAILED, RELEASED, RUNNING
from anydose.serve.received import CLASSES

SYNTAX = "1.2.840.10008.1.2.1"
ABOUT = """# The node, interrupted

Written by `python tests/stand_ins/node_trial.py --out docs/results/node.md`. Orthanc, the node and the
senders are real processes on loopback; three associations send the objects of all studies interleaved.
The studies are coarse phantoms and the model was never trained: these are no times of predictions.
"""


def objects_of(folders):
    """The objects of all studies, interleaved: the first of each, then the second of each."""
    files = [sorted(folder.rglob("*.dcm")) for folder in folders]
    longest = max(map(len, files))
    return [dcmread(of[k]) for k in range(longest) for of in files if k < len(of)]


def send_all(objects, port: int, seconds: float) -> int:
    """Send objects over one association, and over another when it breaks, until each is acknowledged; returns
    how many associations it took."""
    entity = AE(ae_title="ORTHANC")
    entity.connection_timeout = 2
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    for uid in CLASSES:
        entity.add_requested_context(uid, [SYNTAX])
    left, used, deadline = list(objects), 0, time.monotonic() + seconds
    while left:
        assert time.monotonic() < deadline, f"{len(left)} objects were not taken"
        association = entity.associate("127.0.0.1", port, ae_title="ANYDOSE")
        if not association.is_established:
            time.sleep(0.3)
            continue
        used += 1
        try:
            while left:
                status = association.send_c_store(left[0])
                if status.get("Status") != 0:
                    break
                left.pop(0)
        except (RuntimeError, ValueError):
            pass
        if association.is_established:
            association.release()
    return used


def trial(folder: Path, studies: int, kills: int, seconds: float = 900, seed: int = 0) -> dict:
    """Send so many studies from three associations at once while the node is killed so often; returns what
    came of it. AssertionError for what was lost or doubled."""
    port, chance, begin = free_port(), random.Random(seed), time.monotonic()
    orthanc = Orthanc(folder / "orthanc", {"ANYDOSE": port})
    sender = {"ae": "ORTHANC", "hold": False, "send_to": ["pacs"]}
    model = str(tiny_model(folder / "tiny.safetensors"))
    node = RunningNode(
        folder,
        port=port,
        senders=[sender],
        destinations=[{"name": "pacs", "ae": "ORTHANC", "port": orthanc.dicom}],
        prediction={"model": model, "looks": 1, "mimic": False, "device": "cpu"},
        most_attempts=10_000,
        settle_s=3.0,
        secondary_capture=False,
    )
    senders, found = [], {"studies": studies, "kills": 0, "killed_while": {}}
    try:
        folders = [study(folder / f"study_{n}") for n in range(studies)]
        objects = objects_of(folders)
        found["objects"], used = len(objects), []
        node.start().wait_ready()
        for k in range(3):
            part = objects[k::3]
            run = threading.Thread(target=lambda part=part: used.append(send_all(part, port, seconds)))
            run.start()
            senders.append(run)
        for _ in range(kills):
            doing = killed_at_random(node, chance, studies)
            found["kills"] += 1
            found["killed_while"][doing] = found["killed_while"].get(doing, 0) + 1
        for run in senders:
            run.join()
        left = max(seconds - (time.monotonic() - begin), 60)
        wait_for(lambda: node.jobs.counts()[DONE] + node.jobs.counts()[FAILED] >= studies, left)
        found |= counted(node, orthanc, folders)
        found |= {"associations": sum(used), "seconds": round(time.monotonic() - begin)}
    finally:
        node.stop()
        orthanc.stop()
    return found


def killed_at_random(node: RunningNode, chance: random.Random, studies: int) -> str:
    """Kill -9 after a random time, or a moment after a job begins to be sent, and start again; returns what
    the node was at."""
    jobs, deadline = node.jobs, time.monotonic() + chance.uniform(0.05, 9.0)
    wants_delivery = chance.random() < 0.5
    while time.monotonic() < deadline:
        if wants_delivery and (jobs.counts()[DELIVERING] or jobs.counts()[RELEASED]):
            time.sleep(chance.uniform(0, 0.25))
            break
        time.sleep(0.02)
    counts = jobs.counts()
    node.kill()
    node.start()
    at_work = [state for state in (DELIVERING, RUNNING) if counts[state]]
    if at_work:
        return at_work[0]
    return "idle" if sum(counts.values()) == studies else "receiving"


def counted(node: RunningNode, orthanc: Orthanc, folders) -> dict:
    """What Orthanc and the queue hold in the end."""
    jobs = node.jobs.newest()
    doses = {}
    for name in orthanc.get("/studies"):
        uid = orthanc.get(f"/studies/{name}")["MainDicomTags"]["StudyInstanceUID"]
        doses[uid] = len(orthanc.instances(name, "RTDOSE"))
    wanted = {str(dcmread(next(folder.rglob("*.dcm"))).StudyInstanceUID) for folder in folders}
    assert {job.state for job in jobs} == {DONE}, [job.error for job in jobs if job.state != DONE]
    assert len(jobs) == len(folders), f"{len(jobs)} jobs of {len(folders)} studies"
    assert doses == dict.fromkeys(wanted, 1), f"doses a study: {sorted(doses.values())}"
    stored = len(list((node.folder / "data" / "received").rglob("[!.]*.dcm")))
    return {
        "predicted": len(jobs),
        "doses_in_orthanc": sum(doses.values()),
        "objects_stored": stored,
        "most_attempts": max(job.attempts for job in jobs),
    }


def page(rows: list[dict]) -> str:
    """The table in Markdown."""
    head = "studies, objects, kill -9, while, associations, objects stored, predicted, RTDOSE in Orthanc, s"
    heads = head.split(", ")
    lines = [ABOUT, f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        doing = ", ".join(f"{name} {n}" for name, n in sorted(row["killed_while"].items())) or "-"
        cells = [row["studies"], row["objects"], row["kills"], doing, row["associations"]]
        cells += [row["objects_stored"], row["predicted"], row["doses_in_orthanc"], row["seconds"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--studies", type=int, default=10)
    words.add_argument("--kills", type=int, nargs="+", default=[0, 50], help="one trial for each number")
    words.add_argument("--seconds", type=float, default=1500)
    words.add_argument("--out", type=Path)
    given = words.parse_args()
    rows = []
    for kills in given.kills:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(trial(Path(folder), given.studies, kills, given.seconds))
        print(json.dumps(rows[-1]), flush=True)  # noqa: T201
        if given.out:
            given.out.write_text(page(rows))
            given.out.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
